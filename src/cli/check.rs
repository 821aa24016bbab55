//! `bowstring check`: whether a coordinator needs somebody's attention, as an exit code.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::config::{ClientSettings, Settings};
use super::error::CliError;
use super::quantity::{Span, batches, count, span};
use super::{print_json, print_lines};
use crate::client::{Cause, Lag, Reason, why};
use crate::engine::StreamName;
use crate::wire::proto::{StreamDescription, SubscriptionDescription};

/// Say what needs attention, with an exit code for scripts: 0 nothing, 1 something, 5 the coordinator is not reachable
#[derive(Debug, Args)]
#[command(after_help = "\
One line for each thing that needs attention; nothing on stdout and exit code 0 where nothing does. Always looked for: streams that
have failed, logs that wait (a full disk, an object store), producers that are lost, subscriptions that were evicted, dead letters
that cannot be written. The limits below are looked for as well.

Examples:
  bowstring check && echo all is well
  bowstring check --max-wait 10s --max-lag 5m
  bowstring check flights --max-lag-batches 1000 --max-open 1h
  bowstring check --json | jq -r '.problems[] | \"\\(.stream): \\(.problem)\"'")]
pub(super) struct CheckArgs {
    /// Name of the stream [default: all]
    stream: Option<String>,
    /// How long a producer may wait for room
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    max_wait: Span,
    /// How long a batch may be there that a subscription could have acked [default: for ever]
    #[arg(long, value_name = "DURATION")]
    max_lag: Option<Span>,
    /// How many batches a subscription may not have acked [default: any]
    #[arg(long, value_name = "COUNT")]
    max_lag_batches: Option<u64>,
    /// How long an epoch may be open [default: for ever]
    #[arg(long, value_name = "DURATION")]
    max_open: Option<Span>,
    /// How much of a limit on disk (--max-spool-bytes, --max-disk-bytes) may be used
    #[arg(long, value_name = "PERCENT", default_value_t = 90, value_parser = clap::value_parser!(u8).range(1..=100))]
    max_disk: u8,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientSettings,
}

/// Something that needs attention.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    stream: String,
    /// Its stable name, for scripts.
    problem: &'static str,
    /// A sentence: lower case, no full stop.
    text: String,
}

/// What is too much.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    wait: Duration,
    lag: Option<Duration>,
    lag_batches: Option<u64>,
    open: Option<Duration>,
    disk_percent: u8,
}

pub(super) async fn run(args: CheckArgs, settings: &Settings) -> Result<(), CliError> {
    let stream = args.stream.as_deref().map(StreamName::new).transpose()?;
    let client = settings.connect(&args.client).await?;
    let streams = match &stream {
        Some(name) => vec![client.describe_stream(name.as_str()).await?],
        None => client.list_streams().await?,
    };
    let bounds = Bounds {
        wait: args.max_wait.0,
        lag: args.max_lag.map(|time| time.0),
        lag_batches: args.max_lag_batches,
        open: args.max_open.map(|time| time.0),
        disk_percent: args.max_disk,
    };
    let problems: Vec<_> = streams.iter().flat_map(|stream| problems(stream, &bounds)).collect();
    if args.json {
        print_json(&json!({"streams": streams.len(), "problems": problems.iter().map(Problem::json).collect::<Vec<_>>()}))?;
    } else {
        print_lines(problems.iter().map(|problem| format!("{}: {}", problem.problem, problem.text)))?;
    }
    if problems.is_empty() { Ok(()) } else { Err(CliError::NeedsAttention { problems: problems.len() }) }
}

impl Problem {
    fn json(&self) -> Value {
        json!({"stream": self.stream, "problem": self.problem, "text": self.text})
    }
}

/// Everything that is wrong with a stream.
fn problems(stream: &StreamDescription, bounds: &Bounds) -> Vec<Problem> {
    let mut found: Vec<(&'static str, String)> = Vec::new();
    found.extend(why(stream).reasons.into_iter().filter_map(|reason| problem_of(stream, reason, bounds)));
    for producer in stream.producers.iter().filter(|producer| producer.lost) {
        found.push(("producer_lost", format!("producer {} of stream {} gives no sign of life", producer.producer, stream.stream)));
    }
    found.extend(open_epochs(stream, bounds));
    found.extend(stream.subscriptions.iter().flat_map(|subscription| subscription_problems(stream, subscription, bounds)));
    found.extend(disk(stream, bounds));
    found.into_iter().map(|(problem, text)| Problem { stream: stream.stream.clone(), problem, text }).collect()
}

/// A sentence of `bowstring why` that is one of ours, too.
fn problem_of(stream: &StreamDescription, reason: Reason, bounds: &Bounds) -> Option<(&'static str, String)> {
    // Whoever waits and is no consumer.
    let producer = stream.waiting.iter().find(|wait| reason.waits.as_deref() == Some(wait.producer.as_str()));
    let problem = match (reason.cause, producer) {
        (_, Some(wait)) if Duration::from_micros(wait.waiting_micros) > bounds.wait => "producer_waits",
        // With nobody named it is the log that does not go on; else it is just being written.
        (Cause::Log, None) if reason.waits.is_none() => "log_waits",
        (Cause::Failed, _) => "stream_failed",
        (Cause::Evicted, _) => "subscription_evicted",
        _ => return None,
    };
    Some((problem, reason.text))
}

fn open_epochs(stream: &StreamDescription, bounds: &Bounds) -> Vec<(&'static str, String)> {
    let Some(max) = bounds.open else { return Vec::new() };
    let all = stream.producers.iter().flat_map(|producer| producer.epochs.iter().map(move |epoch| (producer, epoch)));
    let old = all.map(|(producer, epoch)| (producer, epoch.epoch, Duration::from_micros(epoch.open_micros)));
    old.filter(|(_, _, open)| *open > max)
        .map(|(producer, epoch, open)| {
            let text =
                format!("epoch {epoch} of producer {} of stream {} has been open for {}", producer.producer, stream.stream, span(open));
            ("epoch_open", text)
        })
        .collect()
}

fn subscription_problems(
    stream: &StreamDescription,
    subscription: &SubscriptionDescription,
    bounds: &Bounds,
) -> Vec<(&'static str, String)> {
    let lag = Lag::of(subscription);
    let name = format!("subscription {} of stream {}", subscription.subscription, stream.stream);
    let mut found = Vec::new();
    if bounds.lag.is_some_and(|max| lag.batches > 0 && lag.held_for > max) {
        found.push(("lag", format!("{name} could have acked its oldest batch for {}", span(lag.held_for))));
    }
    if bounds.lag_batches.is_some_and(|max| lag.batches > max) {
        found.push(("lag_batches", format!("{name} has not acked {}", batches(lag.batches))));
    }
    if !subscription.dead_letters_wait_for.is_empty() {
        found.push(("dead_letters_wait", format!("dead letters of {name} wait: {}", subscription.dead_letters_wait_for)));
    }
    found
}

fn disk(stream: &StreamDescription, bounds: &Bounds) -> Vec<(&'static str, String)> {
    let options = stream.options.unwrap_or_default();
    let spool = ("spool_nearly_full", "spool", stream.spooled_bytes, options.max_spool_bytes());
    // Of a durable stream only: another one has no log.
    let log = ("log_nearly_full", "log", stream.logged_bytes, if stream.is_durable { options.max_disk_bytes() } else { 0 });
    let used = |used: u64, limit: u64| u128::from(used) * 100 / u128::from(limit.max(1));
    let over = [spool, log].into_iter().filter(|(_, _, bytes, limit)| *limit > 0 && used(*bytes, *limit) >= bounds.disk_percent.into());
    over.map(|(problem, what, bytes, limit)| {
        let text =
            format!("the {what} of stream {} holds {} of {} bytes, {}%", stream.stream, count(bytes), count(limit), used(bytes, limit));
        (problem, text)
    })
    .collect()
}
