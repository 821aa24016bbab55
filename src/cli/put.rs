//! `bowstring put`: a file into a stream.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use clap::Args;
use tokio::sync::mpsc;

use super::compression::CompressionArg;
use super::config::{ClientSettings, Settings};
use super::error::CliError;
use super::format::{Format, Place};
use super::input::{self, Batches, INFER_ROWS_DEFAULT, Input, InputOptions};
use super::progress::{Progress, Wait};
use super::quantity::{Span, batches};
use super::signals::Signals;
use super::{print_lines, report};
use crate::client::{Client, Producer, ProducerOptions};
use crate::engine::{Code, PartitionId, StreamName};

/// Batches that are read ahead of those that are sent: one being read, one waiting.
const READ_AHEAD: usize = 2;
/// How long an interrupted put waits for what it has handed over to be stored.
const INTERRUPT_GRACE: Duration = Duration::from_secs(3);

/// Append a file's rows to a stream
#[derive(Debug, Args)]
#[command(after_help = "\
The stream is created with the file's schema if it does not exist (unless the coordinator forbids it).
CSV and JSON are read with the stream's schema if it has one; else the types are inferred from the first rows.

Examples:
  bowstring put flights flights.parquet --complete
  bowstring put flights flights.csv --null NA --batch-rows 10000
  tail -f clicks.jsonl | bowstring put clicks - --format json --batch-rows 100 --infer-rows 100")]
pub(super) struct PutArgs {
    /// Name of the stream
    stream: String,
    /// File to read; - is stdin
    file: PathBuf,
    /// Format of the file [default: as its extension says]
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<Format>,
    /// Partition to append to [default: round robin over all]
    #[arg(long, short, value_name = "NUMBER")]
    partition: Option<u32>,
    /// Most rows of a batch [default: as the file has them for Arrow, 65536 for the others]
    #[arg(long, value_name = "COUNT")]
    batch_rows: Option<NonZeroUsize>,
    /// Complete the stream afterwards: readers get the end
    #[arg(long)]
    complete: bool,
    /// How long an append may wait for room before it fails [default: the coordinator's]
    #[arg(long, value_name = "DURATION")]
    append_timeout: Option<Span>,
    /// Compression on the way and in the buffer
    #[arg(long, value_name = "CODEC", default_value = "none")]
    compression: CompressionArg,
    #[command(flatten)]
    text: TextArgs,
    #[command(flatten)]
    client: ClientSettings,
}

/// How text files are read.
#[derive(Debug, Args)]
struct TextArgs {
    /// Rows that the types of CSV and JSON are inferred from; all must be there before the first is sent
    #[arg(long, value_name = "COUNT", default_value_t = INFER_ROWS_DEFAULT, help_heading = "CSV and JSON")]
    infer_rows: usize,
    /// Character between the columns [default: a comma; a tab for .tsv]
    #[arg(long, value_name = "CHARACTER", help_heading = "CSV and JSON")]
    delimiter: Option<char>,
    /// The first line is data; columns are named `column_1`, `column_2`, ...
    #[arg(long, help_heading = "CSV and JSON")]
    no_header: bool,
    /// Text that stands for null, besides no text at all
    #[arg(long, value_name = "TEXT", help_heading = "CSV and JSON")]
    null: Option<String>,
}

pub(super) async fn run(args: PutArgs, settings: &Settings, signals: &mut Signals) -> Result<(), CliError> {
    let stream = StreamName::new(&args.stream)?;
    let place = Place::new(Some(&args.file), args.format, args.text.delimiter, None)?;
    place.check_readable()?;
    let open = async {
        let client = settings.connect(&args.client).await?;
        let schema = stream_schema(&client, &stream).await?;
        Ok((client, open(place, args.input_options(schema)).await?))
    };
    let (client, input) = signals.interrupt(open).await?;
    let mut progress = Progress::new(input.extent.clone());
    let mut producer = client.producer(stream.as_str(), args.producer_options(input.schema.clone()))?;
    let outcome = append_all(&mut producer, input.batches, &mut progress, args.complete, signals).await;
    progress.clear();
    match outcome {
        Ok(()) => print_lines([summary(&stream, &progress, args.complete)]),
        Err(error) => {
            match producer.stored() {
                0 => eprintln!("none of it is stored in stream {stream}"),
                stored => eprintln!("the first {} of it are stored in stream {stream}", batches(stored)),
            }
            Err(error)
        }
    }
}

fn summary(stream: &StreamName, progress: &Progress, complete: bool) -> String {
    let complete = if complete { "; the stream is complete" } else { "" };
    format!("appended {} to stream {stream} in {}{complete}", progress.counts(), progress.elapsed())
}

/// The schema of a stream that exists and has one.
async fn stream_schema(client: &Client, stream: &StreamName) -> Result<Option<SchemaRef>, CliError> {
    match client.describe_stream(stream.as_str()).await {
        Ok(description) => Ok(report::schema(&description)),
        Err(error) if error.code() == Code::StreamNotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens the input on a thread where it may block: stdin may have nothing to say yet.
async fn open(place: Place, options: InputOptions) -> Result<Input, CliError> {
    tokio::task::spawn_blocking(move || input::open(&place, &options)).await.map_err(|panic| reader_failed(&panic))?
}

async fn append_all(
    producer: &mut Producer,
    batches: Batches,
    progress: &mut Progress,
    complete: bool,
    signals: &mut Signals,
) -> Result<(), CliError> {
    let appended = signals.interrupt(append_batches(producer, batches, progress)).await;
    if matches!(appended, Err(CliError::Interrupted)) {
        // What was handed over is not torn away; what the coordinator has no room for is given up.
        let _ = tokio::time::timeout(INTERRUPT_GRACE, producer.close()).await;
    }
    appended?;
    let end = async { if complete { producer.complete().await } else { producer.close().await } };
    signals.interrupt(async { Ok(progress.watch(Wait::Room, end).await?) }).await
}

async fn append_batches(producer: &mut Producer, batches: Batches, progress: &mut Progress) -> Result<(), CliError> {
    let mut ahead = read_ahead(batches);
    while let Some(batch) = progress.watch(Wait::Input, ahead.recv()).await {
        let batch = batch?;
        let append = producer.append(&batch, None, Bytes::new());
        progress.watch(Wait::Room, append).await?;
        progress.add(batch.num_rows() as u64, batch.get_array_memory_size() as u64);
    }
    Ok(())
}

/// Reads on a thread of its own, so that reading, sending and Ctrl-C do not wait for each other.
fn read_ahead(batches: Batches) -> mpsc::Receiver<Result<RecordBatch, CliError>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let failures = sender.clone();
    let reading = tokio::task::spawn_blocking(move || {
        for batch in batches {
            let failed = batch.is_err();
            if sender.blocking_send(batch).is_err() || failed {
                return;
            }
        }
    });
    tokio::spawn(async move {
        // A defect in a file reader must not look like the end of the file.
        if let Err(panic) = reading.await {
            let _ = failures.send(Err(reader_failed(&panic))).await;
        }
    });
    receiver
}

fn reader_failed(panic: &tokio::task::JoinError) -> CliError {
    CliError::Io { doing: "reading the file", reason: std::io::Error::other(panic.to_string()) }
}

impl PutArgs {
    fn input_options(&self, schema: Option<SchemaRef>) -> InputOptions {
        InputOptions {
            batch_rows: self.batch_rows.map(NonZeroUsize::get),
            infer_rows: self.text.infer_rows,
            schema,
            csv_header: !self.text.no_header,
            csv_null: self.text.null.clone(),
        }
    }

    fn producer_options(&self, schema: SchemaRef) -> ProducerOptions {
        ProducerOptions {
            partition: self.partition.map(PartitionId),
            schema: Some(schema),
            append_timeout: self.append_timeout.map(|timeout| timeout.0),
            compression: self.compression.into(),
            ..ProducerOptions::default()
        }
    }
}
