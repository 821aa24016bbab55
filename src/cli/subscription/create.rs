//! `bowstring subscription create`.

use clap::Args;

use crate::cli::config::{ClientSettings, Settings};
use crate::cli::error::CliError;
use crate::cli::{print_json, print_lines, report};
use crate::engine::{Offset, PartitionId, Start, StreamName, SubscriptionMode, SubscriptionName};

/// Create a subscription; one that exists stays as it is
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bowstring subscription create flights trainer
  bowstring subscription create flights audit --start 2026-11-01T12:00:00Z
  bowstring subscription create flights again --start epoch:7
  bowstring subscription create flights team --mode partitioned")]
pub(super) struct CreateArgs {
    /// Name of the stream
    stream: String,
    /// Name of the subscription
    subscription: String,
    /// Where it starts: earliest, latest, offsets such as 0:100,1:50, a time such as 2026-11-01T12:00:00Z, or an epoch such as
    /// epoch:7 or epoch:7@PRODUCER
    #[arg(long, value_name = "START", default_value = "earliest")]
    start: Start,
    /// How its consumers divide its batches: static (each says which partitions it reads), or partitioned (each partition is leased to
    /// one of them)
    #[arg(long, value_name = "MODE")]
    mode: Option<SubscriptionMode>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientSettings,
}

pub(super) async fn run(args: CreateArgs, settings: &Settings) -> Result<(), CliError> {
    let (stream, name) = (StreamName::new(&args.stream)?, SubscriptionName::new(&args.subscription)?);
    let created = settings.connect(&args.client).await?.subscribe_as(stream.as_str(), name.as_str(), &args.start, args.mode).await?;
    if args.json {
        return print_json(&report::subscription_json(&created));
    }
    let places = created.partitions.iter().map(|place| (PartitionId(place.partition), Offset(place.acked)));
    print_lines([format!("subscription {name} of stream {stream} goes on at {}", Start::Offsets(places.collect()))])
}
