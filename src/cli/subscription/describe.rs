//! `bowstring subscription describe`.

use std::time::Duration;

use clap::Args;

use crate::cli::config::{ClientSettings, Settings};
use crate::cli::error::CliError;
use crate::cli::lag::{self, drains};
use crate::cli::quantity::{batches, bytes, rows, span};
use crate::cli::table::{Align, Columns};
use crate::cli::{overflow, report};
use crate::cli::{print_json, print_lines};
use crate::client::{Lag, SubscriptionLag};
use crate::engine::{StreamName, SubscriptionName};
use crate::wire::proto::{ConsumerDescription, SubscriptionDescription};

/// Show a subscription's cursors, lag and consumers
#[derive(Debug, Args)]
#[command(after_help = "\
OLDEST is the age of the oldest batch that is not acked, HELD how long it could have been acked, DRAINS when all will be acked
as acks and appends went in the last 10 to 20 seconds. SENT is the next offset that the consumer is sent. Of a partitioned or shared
subscription, LEASE LEFT is how long the consumer's leases last without another sign of life, and IN FLIGHT what it was sent and has not
acked; a consumer has stalled that let one of them run out, and gets nothing more before it asks.

Examples:
  bowstring subscription describe flights trainer
  bowstring subscription describe flights trainer --json | jq .consumers")]
pub(super) struct DescribeArgs {
    /// Name of the stream
    stream: String,
    /// Name of the subscription
    name: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientSettings,
}

pub(super) async fn run(args: DescribeArgs, settings: &Settings) -> Result<(), CliError> {
    let (stream, name) = (StreamName::new(&args.stream)?, SubscriptionName::new(&args.name)?);
    let client = settings.connect(&args.client).await?;
    let mut subscriptions = client.describe_stream(stream.as_str()).await?.subscriptions.into_iter();
    let Some(found) = subscriptions.find(|one| one.subscription == name.as_str()) else {
        return Err(CliError::SubscriptionNotFound { stream, subscription: name });
    };
    if args.json {
        return print_json(&report::subscription_json(&found));
    }
    let lag = Lag::of(&found);
    let mut lines = vec![
        format!("subscription {} of stream {stream}, {}", found.subscription, report::mode(&found).as_str()),
        format!("  not acked: {}, {}, {}", batches(lag.batches), rows(lag.rows), bytes(lag.bytes)),
        format!("  oldest: {}, held for {}, drains: {}", span(lag.age), span(lag.held_for), drains(&lag)),
        overflow::line(&found),
    ];
    lines.extend(Some(&found.query).filter(|query| !query.is_empty()).map(|query| format!("  asks: {query}")));
    lines.extend(sharing(&found));
    lines.push(String::new());
    lines.extend(lag::lines(stream.as_str(), &SubscriptionLag::of(&found)));
    lines.push(String::new());
    lines.extend(consumers(&found));
    print_lines(lines)
}

/// How it is shared, and where what is not acked is, if it is.
fn sharing(subscription: &SubscriptionDescription) -> Vec<String> {
    let Some(rules) = &subscription.sharing else { return Vec::new() };
    let shares = subscription.partitions.iter().filter_map(|partition| partition.shares.as_ref());
    let (leased, waiting, dying) =
        shares.fold((0, 0, 0), |sum, shares| (sum.0 + shares.leased, sum.1 + shares.waiting, sum.2 + shares.dying));
    let fails = match rules.max_deliveries() {
        0 => "what fails comes again for ever".to_owned(),
        many => format!("after {many} deliveries that failed to {}{}", rules.dead_letters, if rules.bisect { ", by halves" } else { "" }),
    };
    let failed = subscription.failed_deliveries;
    let keys = if rules.keys.is_empty() { String::new() } else { format!("; keys: {}", rules.keys.join(", ")) };
    let mut lines = vec![
        format!("  shared: {fails}{keys}"),
        format!(
            "  with consumers: {leased} leases; failed deliveries: {failed}, {waiting} of them wait; to go to the dead letters: {dying}"
        ),
    ];
    if !subscription.dead_letters_wait_for.is_empty() {
        lines.push(format!("  dead letters cannot be written: {}", subscription.dead_letters_wait_for));
    }
    lines
}

fn consumers(subscription: &SubscriptionDescription) -> Vec<String> {
    if subscription.consumers.is_empty() {
        return vec!["consumers: none".to_owned()];
    }
    let mut columns = Columns::new([
        ("consumer", Align::Left),
        ("peer", Align::Left),
        ("reading for", Align::Right),
        ("lease left", Align::Right),
        ("in flight", Align::Right),
        ("sent", Align::Left),
    ]);
    for consumer in &subscription.consumers {
        let ConsumerDescription {
            consumer,
            peer,
            reading_micros,
            partitions,
            consumer_id,
            lease_left_micros,
            in_flight_batches,
            is_stalled,
            ..
        } = consumer;
        let of_leases = |text: String| if *consumer_id == 0 { "-".to_owned() } else { text };
        let sent: Vec<_> = partitions.iter().map(|partition| format!("{}:{}", partition.partition, partition.sent)).collect();
        let or_unknown = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        columns.row([
            or_unknown(consumer),
            or_unknown(peer),
            span(Duration::from_micros(*reading_micros)),
            of_leases(span(Duration::from_micros(*lease_left_micros))),
            of_leases(batches(*in_flight_batches) + if *is_stalled { ", stalled" } else { "" }),
            sent.join(" "),
        ]);
    }
    columns.lines()
}
