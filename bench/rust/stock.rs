//! Both ends as arrow-flight's own client, encoder and decoder have them.

use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightClient, FlightDescriptor, Ticket};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::Work;
use crate::report::{due, monotonic_ns, wait_for_go};

/// As in `bowstring bench`: eight int64.
pub(crate) const COLUMNS: usize = 8;
/// More than tonic takes by itself.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// One end.
#[derive(Debug, Args)]
pub(crate) struct End {
    /// The server's URL.
    url: String,
    /// What is measured.
    work: Work,
    /// Rows of a batch.
    rows: i64,
    /// How many batches.
    batches: u64,
    /// Batches per second, each stamped in its first value.
    #[arg(long)]
    rate: Option<f64>,
}

impl End {
    fn bytes(&self) -> u64 {
        self.batches * self.rows.unsigned_abs() * (COLUMNS as u64) * 8
    }
}

#[tokio::main]
pub(crate) async fn append(end: &End) -> Result<(), Box<dyn Error>> {
    let mut client = connect(end).await?;
    let batch = batch(end.rows)?;
    let meter = wait_for_go()?;
    let (schema, count) = (batch.schema(), usize::try_from(end.batches)?);
    let batches = match end.rate {
        Some(rate) => paced(batch, end.batches, rate, meter.begun_ns).boxed(),
        None => stream::repeat(batch).take(count).boxed(),
    };
    let path = if end.work == Work::Put { "put" } else { "relay" };
    let descriptor = FlightDescriptor::new_path(vec![path.to_owned()]);
    let data = FlightDataEncoderBuilder::new().with_schema(schema).with_flight_descriptor(Some(descriptor)).build(batches.map(Ok));
    let confirmed = client.do_put(data).await?;
    confirmed.try_for_each(async |_| Ok(())).await?;
    meter.report(end.batches, end.bytes(), &[]);
    Ok(())
}

#[tokio::main]
pub(crate) async fn read(end: &End) -> Result<(), Box<dyn Error>> {
    let mut client = connect(end).await?;
    if end.work == Work::Get {
        let action = Action::new("make", format!("{} {}", end.rows, end.batches));
        client.do_action(action).await?.try_for_each(async |_| Ok(())).await?;
    }
    let meter = wait_for_go()?;
    let ticket = if end.work == Work::Get { end.batches.to_string() } else { "relay".to_owned() };
    let mut batches = client.do_get(Ticket::new(ticket)).await?;
    let (mut rows, mut latencies) = (0, Vec::new());
    while let Some(batch) = batches.try_next().await? {
        rows += batch.num_rows() as u64;
        if end.work == Work::Latency {
            let stamp = batch.column(0).as_primitive::<Int64Type>().value(0);
            latencies.push(monotonic_ns().saturating_sub(stamp.unsigned_abs()));
        }
    }
    let expected = end.batches * end.rows.unsigned_abs();
    if rows != expected {
        return Err(format!("{rows} of {expected} rows came").into());
    }
    meter.report(end.batches, end.bytes(), &latencies);
    Ok(())
}

async fn connect(end: &End) -> Result<FlightClient, Box<dyn Error>> {
    let channel = Endpoint::from_shared(end.url.clone())?.connect().await?;
    let inner = FlightServiceClient::new(channel);
    Ok(FlightClient::new_from_inner(inner.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)))
}

pub(crate) fn batch(rows: i64) -> Result<RecordBatch, arrow::error::ArrowError> {
    let column = || -> ArrayRef { Arc::new(Int64Array::from_iter_values(0..rows)) };
    RecordBatch::try_from_iter((0..COLUMNS).map(|number| (format!("c{number}"), column())))
}

/// The same with a stamp as its first value.
fn stamped(batch: &RecordBatch, stamp_ns: u64) -> RecordBatch {
    let mut columns = batch.columns().to_vec();
    let stamp = i64::try_from(stamp_ns).unwrap_or(i64::MAX);
    columns[0] = Arc::new(Int64Array::from_iter_values((0..batch.num_rows()).map(|_| stamp)));
    RecordBatch::try_new(batch.schema(), columns).unwrap_or_else(|_| batch.clone())
}

/// Batches from a thread that sleeps in between: asleep, the runtime's own would hold up what is on its way.
fn paced(batch: RecordBatch, batches: u64, rate: f64, begun_ns: u64) -> ReceiverStream<RecordBatch> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut woke_ns = begun_ns;
        // Fails once nobody appends any more.
        (0..batches).try_for_each(|number| sender.blocking_send(stamped(&batch, due(begun_ns, number, rate, &mut woke_ns))))
    });
    ReceiverStream::new(receiver)
}
