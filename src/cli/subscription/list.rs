//! `bowstring subscription list`.

use clap::Args;

use crate::cli::config::{ClientSettings, Settings};
use crate::cli::error::CliError;
use crate::cli::quantity::{bytes, count, span};
use crate::cli::report;
use crate::cli::table::{Align, Columns};
use crate::cli::{print_json, print_lines};
use crate::client::Lag;
use crate::engine::StreamName;
use crate::wire::proto::SubscriptionDescription;

/// List a stream's subscriptions
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bowstring subscription list flights
  bowstring subscription list flights --json | jq -r '.[].subscription'")]
pub(super) struct ListArgs {
    /// Name of the stream
    stream: String,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientSettings,
}

pub(super) async fn run(args: ListArgs, settings: &Settings) -> Result<(), CliError> {
    let stream = StreamName::new(&args.stream)?;
    let described = settings.connect(&args.client).await?.describe_stream(stream.as_str()).await?;
    if args.json {
        return print_json(&described.subscriptions.iter().map(report::subscription_json).collect());
    }
    let mut columns = Columns::new([
        ("subscription", Align::Left),
        ("consumers", Align::Right),
        ("lag batches", Align::Right),
        ("lag rows", Align::Right),
        ("lag bytes", Align::Right),
        ("oldest", Align::Right),
        ("held", Align::Right),
        ("skipped", Align::Right),
    ]);
    for subscription in &described.subscriptions {
        columns.row(row(subscription));
    }
    print_lines(columns.lines())
}

fn row(subscription: &SubscriptionDescription) -> [String; 8] {
    let lag = Lag::of(subscription);
    [
        subscription.subscription.clone(),
        subscription.consumers.len().to_string(),
        count(lag.batches),
        count(lag.rows),
        bytes(lag.bytes),
        span(lag.age),
        span(lag.held_for),
        count(lag.skipped),
    ]
}
