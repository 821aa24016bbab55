//! `bowstring subscription create`.

use clap::Args;

use crate::cli::config::{ClientSettings, Settings};
use crate::cli::error::CliError;
use crate::cli::overflow::OnOverflowArg;
use crate::cli::{print_json, print_lines, report};
use crate::client::{Sharing, SubscribeOptions};
use crate::engine::{Offset, PartitionId, Start, StreamName, SubscriptionMode, SubscriptionName};

/// Create a subscription; one that exists stays as it is
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bowstring subscription create flights trainer
  bowstring subscription create flights audit --start 2026-11-01T12:00:00Z
  bowstring subscription create flights again --start epoch:7
  bowstring subscription create flights team --mode partitioned
  bowstring subscription create flights workers --mode shared --max-deliveries 3 --bisect
  bowstring subscription create flights dashboard --on-overflow skip")]
pub(super) struct CreateArgs {
    /// Name of the stream
    stream: String,
    /// Name of the subscription
    subscription: String,
    /// Where it starts: earliest, latest, offsets such as 0:100,1:50, a time such as 2026-11-01T12:00:00Z, or an epoch such as
    /// epoch:7 or epoch:7@PRODUCER
    #[arg(long, value_name = "START", default_value = "earliest")]
    start: Start,
    /// How its consumers divide its batches: static (each says which partitions it reads), partitioned (each partition is leased to one
    /// of them), or shared (any of them is given the next rows)
    #[arg(long, value_name = "MODE")]
    mode: Option<SubscriptionMode>,
    /// What it does that holds room which an append needs
    #[arg(long, value_name = "WHAT", default_value = "hold")]
    on_overflow: OnOverflowArg,
    /// Of a shared one: after so many deliveries that failed, rows go to the dead letters; 0: never [default: 5]
    #[arg(long, value_name = "COUNT")]
    max_deliveries: Option<u32>,
    /// Of a shared one: rows that failed are halved before, until single rows are left
    #[arg(long)]
    bisect: bool,
    /// Of a shared one: the stream of the dead letters [default: the stream's name and .dead-letters]
    #[arg(long, value_name = "STREAM")]
    dead_letters: Option<String>,
    /// Of a shared one: columns, separated by commas, whose values say which rows are never with two consumers at once
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    keys: Vec<String>,
    /// What it asks of each batch, in SQL, such as SELECT user, page FROM clicks WHERE page LIKE '/buy%': its consumers get the answers
    #[arg(long, value_name = "SQL")]
    query: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientSettings,
}

pub(super) async fn run(args: CreateArgs, settings: &Settings) -> Result<(), CliError> {
    let (stream, name) = (StreamName::new(&args.stream)?, SubscriptionName::new(&args.subscription)?);
    let sharing = Sharing { max_deliveries: args.max_deliveries, bisect: args.bisect, dead_letters: args.dead_letters, keys: args.keys };
    let sharing = (sharing != Sharing::default()).then_some(sharing);
    let options = SubscribeOptions { mode: args.mode, on_overflow: args.on_overflow.asked(), sharing, query: args.query };
    let created = settings.connect(&args.client).await?.subscribe_with(stream.as_str(), name.as_str(), &args.start, options).await?;
    if args.json {
        return print_json(&report::subscription_json(&created));
    }
    let places = created.partitions.iter().map(|place| (PartitionId(place.partition), Offset(place.acked)));
    print_lines([format!("subscription {name} of stream {stream} goes on at {}", Start::Offsets(places.collect()))])
}
