//! `bowstring peek`: a look at a stream's rows that moves nothing.

use std::str::FromStr;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use clap::Args;

use super::config::{ClientSettings, Settings};
use super::error::CliError;
use super::format::{Format, Place};
use super::get::{columns, destination, select};
use super::output::Output;
use super::print_lines;
use crate::client::{Client, Consumer, ConsumerOptions, Offsets, ReadStart};
use crate::engine::{Offset, PartitionId, Start, StartError, StreamName};

/// Batches that are read ahead: what is not shown is read in vain.
const PREFETCH_BATCHES: usize = 1;

/// Look at a stream's rows without moving anything: no subscription is read, made or acked
#[derive(Debug, Args)]
#[command(after_help = "\
Only what is still kept can be seen: batches that every subscription has acked are gone unless the stream retains them.

Examples:
  bowstring peek flights
  bowstring peek flights --partition 3 --from 991 --rows 5
  bowstring peek flights --json | jq ._offset")]
pub(super) struct PeekArgs {
    /// Name of the stream
    stream: String,
    /// The partition to look at [default: all, one after the other]
    #[arg(long, short, value_name = "NUMBER")]
    partition: Option<u32>,
    /// Offset to start at, for several partitions offsets such as 0:100,1:50 [default: the earliest that is kept]
    #[arg(long, value_name = "OFFSET")]
    from: Option<From>,
    /// Most rows to show
    #[arg(long, short = 'n', value_name = "ROWS", default_value_t = 10)]
    rows: usize,
    /// Print one JSON object per row
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientSettings,
}

/// Where to start: an offset of the one partition, or whatever `get` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Offset(u64),
    Start(ReadStart),
}

impl FromStr for From {
    type Err = StartError;

    fn from_str(text: &str) -> Result<Self, StartError> {
        match text.parse() {
            Ok(offset) => Ok(Self::Offset(offset)),
            Err(_) => text.parse().map(|select::From(start)| Self::Start(start)),
        }
    }
}

pub(super) async fn run(args: PeekArgs, settings: &Settings) -> Result<(), CliError> {
    let stream = StreamName::new(&args.stream)?;
    let client = settings.connect(&args.client).await?;
    let options = options(&client, &stream, &args).await?;
    let mut consumer = client.consumer(stream.as_str(), options).await?;
    let Some(schema) = consumer.schema(None).await? else {
        eprintln!("stream {stream} is empty");
        return Ok(());
    };
    let batches = take(&mut consumer, args.rows).await?;
    let schema = columns::schema_with_offsets(&schema);
    match args.json {
        true => print_rows(&schema, &batches),
        false => print_lines([destination::table(&schema, &batches)?]),
    }
}

async fn options(client: &Client, stream: &StreamName, args: &PeekArgs) -> Result<ConsumerOptions, CliError> {
    let start = match &args.from {
        None => ReadStart::Cursor(Start::Earliest),
        Some(From::Start(start)) => start.clone(),
        Some(From::Offset(offset)) => {
            let partition = match args.partition {
                Some(partition) => partition,
                None if client.describe_stream(stream.as_str()).await?.partitions.len() == 1 => 0,
                None => {
                    return Err(CliError::usage(format!(
                        "stream {stream} has several partitions: say with --partition of which one --from is"
                    )));
                }
            };
            ReadStart::Offsets(Offsets::from([(PartitionId(partition), Offset(*offset))]))
        }
    };
    Ok(ConsumerOptions {
        subscription: None,
        partitions: args.partition.map(|partition| vec![PartitionId(partition)]),
        follow: false,
        start,
        prefetch_batches: PREFETCH_BATCHES,
        ..ConsumerOptions::default()
    })
}

/// The first rows, with where they are from.
async fn take(consumer: &mut Consumer, rows: usize) -> Result<Vec<RecordBatch>, CliError> {
    let (mut batches, mut left) = (Vec::new(), rows);
    while left > 0
        && let Some(delivered) = consumer.next(None).await?
    {
        let batch = columns::with_offsets(&delivered)?;
        let shown = batch.num_rows().min(left);
        left -= shown;
        batches.push(batch.slice(0, shown));
    }
    Ok(batches)
}

fn print_rows(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<(), CliError> {
    let mut output = Output::open(&Place::new(None, Some(Format::Json), None, None)?, schema)?;
    batches.iter().try_for_each(|batch| output.write(batch))?;
    output.finish()
}
