//! `bowstring get`: a stream into a file, or onto the terminal.

pub(super) mod columns;
pub(super) mod destination;
pub(super) mod select;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::config::{ClientSettings, Settings};
use super::error::CliError;
use super::format::{Format, Place};
use super::input::Extent;
use super::progress::{Progress, Wait};
use super::quantity::{Span, span};
use super::signals::Signals;
use crate::client::{Consumer, ConsumerOptions, Delivered, Error, ReadStart};
use crate::engine::{Code, Offset, PartitionId, Start, StreamName};

use destination::Destination;

/// How long acks may take at the end, when what was read is already written.
const ACK_GRACE: Duration = Duration::from_secs(10);

/// Read a stream into a file or onto the terminal
#[derive(Debug, Args)]
#[command(after_help = "\
Without --follow it reads what is there now and ends; with it, until the stream is complete, or Ctrl-C.
Without --subscription nothing is remembered: the next get reads the same again. With one, reading starts after what
it has acked, and --ack acks each batch once it is written, for Parquet and Arrow files at their end. A batch that
--limit cuts is not acked.
A table shows 50 rows, with --follow or --ack of each batch. Parquet and Arrow files can be read once get has ended,
by itself or by Ctrl-C.

Examples:
  bowstring get flights                                    the first rows as a table
  bowstring get flights -o flights.parquet
  bowstring get flights --format csv | head
  bowstring get flights --follow --subscription copy --ack -o flights.arrows
  bowstring get flights --partitions 0,2 --from 0:100,2:50 --limit 1000 --with-offsets")]
pub(super) struct GetArgs {
    /// Name of the stream
    stream: String,
    /// File to write [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Format [default: as the file's extension says; a table on a terminal, else JSON lines]
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<Format>,
    /// Character between the columns of CSV [default: a comma; a tab for .tsv]
    #[arg(long, value_name = "CHARACTER")]
    delimiter: Option<char>,
    /// Subscription whose cursor is used; created if it does not exist
    #[arg(long, short, value_name = "NAME")]
    subscription: Option<String>,
    /// Ack what is written, so that the subscription does not get it again
    #[arg(long, requires = "subscription")]
    ack: bool,
    /// Partitions to read, for instance 0,2 [default: all]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    partitions: Option<Vec<u32>>,
    /// Where to start: earliest, latest, a time such as 2026-11-01T12:00:00Z, an epoch such as epoch:7 or epoch:7@PRODUCER (each
    /// of these for a new subscription, or none), or offsets such as 0:100,1:50 [default: the subscription's cursor, or earliest]
    #[arg(long, value_name = "WHERE")]
    from: Option<select::From>,
    /// Wait for more until the stream ends
    #[arg(long)]
    follow: bool,
    /// Most rows to read [default: all; 50 for a table]
    #[arg(long, value_name = "ROWS")]
    limit: Option<u64>,
    /// Add the columns _partition, _offset and _epoch
    #[arg(long)]
    with_offsets: bool,
    /// How long to wait for a stream that does not exist yet [default: not at all]
    #[arg(long, value_name = "DURATION")]
    wait: Option<Span>,
    /// How long to wait for a batch before giving up [default: for ever]
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,
    #[command(flatten)]
    client: ClientSettings,
}

pub(super) async fn run(args: GetArgs, settings: &Settings, signals: &mut Signals) -> Result<(), CliError> {
    let stream = StreamName::new(&args.stream)?;
    let otherwise = if args.output.is_none() && io::stdout().is_terminal() { Format::Table } else { Format::Json };
    let implied = args.output.is_none().then_some(otherwise);
    let place = Place::new(args.output.as_deref(), args.format, args.delimiter, implied)?;
    if args.follow && args.ack && !place.format.is_readable_unfinished() {
        return Err(CliError::usage(
            "--follow --ack cannot write Parquet or Arrow files: their rows are safe at the end only, and until then every ack would wait; use --format arrow-stream, csv or json",
        ));
    }
    let options = args.consumer_options();
    let open = async {
        let client = settings.connect(&args.client).await?;
        Ok(client.consumer(stream.as_str(), options).await?)
    };
    let consumer = signals.interrupt(open).await?;
    Reading { args, place, consumer, progress: Progress::new(Extent::Unknown), taken: 0, unacked: BTreeMap::new() }.run(signals).await
}

/// A get under way.
struct Reading {
    args: GetArgs,
    place: Place,
    consumer: Consumer,
    progress: Progress,
    /// Rows written.
    taken: u64,
    /// What is to be acked once the file has its end, by partition.
    unacked: BTreeMap<PartitionId, Offset>,
}

/// Why reading ended in good order.
#[derive(PartialEq, Eq)]
enum End {
    Stream,
    Limit,
    Interrupted,
}

impl Reading {
    async fn run(mut self, signals: &mut Signals) -> Result<(), CliError> {
        let Some(mut destination) = signals.interrupt(self.destination()).await? else {
            return Ok(());
        };
        let end = self.copy(&mut destination, signals).await;
        // Whatever ended it: what is written gets its end, so that it can be read, and its acks.
        self.progress.clear();
        let finished = destination.finish(self.cut_by_default(&end));
        if finished.is_ok() {
            for (partition, offset) in std::mem::take(&mut self.unacked) {
                self.consumer.ack(partition, offset)?;
            }
        }
        let acked = tokio::time::timeout(ACK_GRACE, self.consumer.flush_acks()).await;
        let end = end?;
        finished?;
        match acked {
            Ok(acked) => acked?,
            Err(_) => return Err(CliError::AcksUnconfirmed { waited: span(ACK_GRACE) }),
        }
        // Following ends by Ctrl-C: that is its end, not a failure.
        if end == End::Interrupted && !self.args.follow { Err(CliError::Interrupted) } else { Ok(()) }
    }

    /// Opens the output once the schema is known; none if there is nothing to write.
    async fn destination(&mut self) -> Result<Option<Destination>, CliError> {
        let deadline = self.deadline();
        let schema = self.consumer.schema(deadline).await.map_err(|error| self.failed(error))?;
        let Some(schema) = schema else {
            return destination::without_schema(&self.place, &self.args.stream).map(|()| None);
        };
        let schema = if self.args.with_offsets { columns::schema_with_offsets(&schema) } else { schema };
        // Acked rows must be on the screen already: so with acks too, a table per batch.
        Destination::open(&self.place, &schema, self.args.follow || self.args.ack).map(Some)
    }

    async fn copy(&mut self, destination: &mut Destination, signals: &mut Signals) -> Result<End, CliError> {
        let limit = self.limit();
        while self.taken < limit {
            let deadline = self.deadline();
            let next = self.progress.watch(Wait::Batch, self.consumer.next(deadline));
            let delivered = tokio::select! {
                biased;
                _ = signals.next() => return Ok(End::Interrupted),
                delivered = next => delivered.map_err(|error| self.failed(error))?,
            };
            let Some(delivered) = delivered else {
                return Ok(End::Stream);
            };
            self.take(destination, &delivered, limit)?;
        }
        Ok(End::Limit)
    }

    fn take(&mut self, destination: &mut Destination, delivered: &Delivered, limit: u64) -> Result<(), CliError> {
        let batch = if self.args.with_offsets { columns::with_offsets(delivered)? } else { delivered.batch.clone() };
        let all = batch.num_rows();
        let rows = usize::try_from(limit - self.taken).map_or(all, |left| left.min(all));
        destination.write(&batch.slice(0, rows), delivered)?;
        self.taken += rows as u64;
        self.progress.add(rows as u64, batch.get_array_memory_size() as u64);
        if self.args.ack || self.args.follow {
            destination.flush()?;
        }
        if self.args.ack && rows == all {
            let done = delivered.offset.plus(1);
            match self.place.format.is_readable_unfinished() {
                true => self.consumer.ack(delivered.partition, done)?,
                false => drop(self.unacked.insert(delivered.partition, done)),
            }
        }
        Ok(())
    }

    /// A table that nobody asked to be longer shows the first rows only; while following, of each batch.
    fn limit(&self) -> u64 {
        let table = self.place.format == Format::Table && !self.args.follow;
        self.args.limit.unwrap_or(if table { destination::TABLE_ROWS_DEFAULT as u64 } else { u64::MAX })
    }

    fn cut_by_default(&self, end: &Result<End, CliError>) -> bool {
        self.args.limit.is_none() && matches!(end, Ok(End::Limit))
    }

    #[expect(clippy::disallowed_methods, reason = "a deadline at the terminal: there is no clock to pause")]
    fn deadline(&self) -> Option<Instant> {
        self.args.timeout.map(|timeout| Instant::now() + timeout.0)
    }

    fn failed(&self, error: Error) -> CliError {
        match (error.code(), self.args.timeout) {
            (Code::Timeout, Some(timeout)) => CliError::NoBatch { waited: timeout.to_string() },
            _ => error.into(),
        }
    }
}

impl GetArgs {
    fn consumer_options(&self) -> ConsumerOptions {
        ConsumerOptions {
            subscription: self.subscription.clone(),
            partitions: self.partitions.as_ref().map(|partitions| partitions.iter().copied().map(PartitionId).collect()),
            follow: self.follow,
            start: self.from.clone().map_or(ReadStart::Cursor(Start::Earliest), |from| from.0),
            stream_wait: self.wait.map_or(Duration::ZERO, |wait| wait.0),
            ..ConsumerOptions::default()
        }
    }
}
