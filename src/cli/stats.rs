//! `bowstring stats`: what the coordinator's streams hold, how fast they move, who lags and who waits.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, MissedTickBehavior};

use super::config::{ClientSettings, Settings};
use super::error::CliError;
use super::quantity::{Span, batches, bytes, count, partitions, per_second, rows, span, whole};
use super::rates::{self, Rate, Rates};
use super::report;
use super::{print_json, print_lines};
use crate::client::{Client, Lag};
use crate::engine::StreamName;
use crate::wire::proto::{GetStatsResponse, StreamStats, SubscriptionDescription, WaitDescription};

/// Print statistics of one stream or of all
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bowstring stats                       once
  bowstring stats flights -i 2s         every two seconds, with rates
  bowstring stats --json | jq '.streams[] | {stream, buffered_batches}'")]
pub(super) struct StatsArgs {
    /// Name of the stream [default: all]
    stream: Option<String>,
    /// Print again at this interval, with rates, until interrupted
    #[arg(long, short, value_name = "DURATION")]
    interval: Option<Span>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientSettings,
}

pub(super) async fn run(args: StatsArgs, settings: &Settings) -> Result<(), CliError> {
    let stream = args.stream.as_deref().map(StreamName::new).transpose()?;
    let client = settings.connect(&args.client).await?;
    let name = stream.as_ref().map(StreamName::as_str);
    match args.interval {
        None if args.json => print_json(&report::stats_json(&client.stats(name).await?)),
        None => print_lines(lines(&client.stats(name).await?, &HashMap::new())),
        Some(interval) => repeat(&client, name, interval.0, args.json).await,
    }
}

/// Prints statistics at every interval, until interrupted.
pub(super) async fn repeat(client: &Client, stream: Option<&str>, interval: Duration, json: bool) -> Result<(), CliError> {
    let mut rates = Rates::default();
    let mut ticks = ticks(interval);
    loop {
        ticks.tick().await;
        let stats = client.stats(stream).await?;
        if json {
            print_json(&report::stats_json(&stats))?;
        } else {
            let rates = rates.look(Instant::now(), &stats);
            print_lines(lines(&stats, &rates).into_iter().chain([String::new()]))?;
        }
    }
}

/// A clock for looks at the coordinator, at most twenty per second.
pub(super) fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(50)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The statistics in words.
fn lines(stats: &GetStatsResponse, rates: &HashMap<u64, Rate>) -> Vec<String> {
    let mut lines = vec![head(stats)];
    for stream in &stats.streams {
        lines.push(String::new());
        stream_lines(&mut lines, stream, rates.get(&rates::id(stream)));
    }
    lines
}

/// The coordinator in one line.
pub(super) fn head(stats: &GetStatsResponse) -> String {
    let up = span(Duration::from_micros(stats.uptime_micros));
    let streams = stats.streams.len();
    format!("bowstring {}: up {up}, {} connections, {streams} streams", stats.version, stats.open_connections)
}

fn stream_lines(lines: &mut Vec<String>, stats: &StreamStats, rate: Option<&Rate>) {
    let stream = stats.description.clone().unwrap_or_default();
    let options = stream.options.unwrap_or_default();
    let reason = if stream.reason.is_empty() { String::new() } else { format!(" ({})", stream.reason) };
    lines.push(format!("{}: {}{reason}, {}", stream.stream, report::state(&stream), partitions(options.partitions())));
    lines.push(format!(
        "  buffered   {} of {} batches, {} of {}",
        count(stream.buffered_batches),
        count(options.max_buffered_batches()),
        bytes(stream.buffered_bytes),
        bytes(options.max_buffered_bytes())
    ));
    if stream.spooled_batches > 0 {
        let spooled = bytes(stream.spooled_bytes);
        lines.push(format!("  spooled    {}, {spooled} of {}", batches(stream.spooled_batches), bytes(options.max_spool_bytes())));
    }
    let appended = moved(stats.appended_batches, stats.appended_rows, stats.appended_bytes);
    let in_rate = rate.map(|rate| (rate.appended_rows, rate.appended_bytes));
    lines.push(format!("  appended   {appended}{} by {} appenders", moving(in_rate), stats.appenders));
    let delivered = moved(stats.delivered_batches, stats.delivered_rows, stats.delivered_bytes);
    let out_rate = rate.map(|rate| (rate.delivered_rows, rate.delivered_bytes));
    lines.push(format!("  delivered  {delivered}{} to {} readers", moving(out_rate), stats.readers));
    if stats.dropped_batches > 0 {
        lines.push(format!("  dropped    {}", batches(stats.dropped_batches)));
    }
    lines.push(format!(
        "  epochs     {} committed, {} aborted, {} replayed",
        count(stream.epochs_committed),
        count(stream.epochs_aborted),
        count(stream.epochs_replayed)
    ));
    lines.push(format!("  blocked    producers waited {:.1}s for room in all", stats.producer_blocked_seconds));
    lines.extend(stream.subscriptions.iter().map(|subscription| format!("  lag        {}", lag_line(subscription))));
    lines.extend(stream.producers.iter().filter(|producer| producer.lost).map(|producer| format!("  lost       {}", producer.producer)));
    lines.extend(stream.waiting.iter().map(|wait| format!("  waiting    {}", waiting_line(wait))));
}

fn moved(batch_count: u64, row_count: u64, size: u64) -> String {
    format!("{}, {}, {}", batches(batch_count), rows(row_count), bytes(size))
}

fn moving(rate: Option<(f64, f64)>) -> String {
    rate.map_or_else(String::new, |(row_rate, size)| format!(", {} rows/s, {}/s", per_second(row_rate), bytes(whole(size))))
}

fn lag_line(subscription: &SubscriptionDescription) -> String {
    let lag = Lag::of(subscription);
    let skipped = if lag.skipped == 0 { String::new() } else { format!(", {} skipped", count(lag.skipped)) };
    let oldest = span(lag.age);
    format!(
        "{}: {}, {}, {} not acked, oldest {oldest}{skipped}",
        subscription.subscription,
        batches(lag.batches),
        rows(lag.rows),
        bytes(lag.bytes)
    )
}

/// Who waits, for what, since when.
pub(super) fn waiting_line(wait: &WaitDescription) -> String {
    let waiting = span(Duration::from_micros(wait.waiting_micros));
    format!("producer {} has waited {waiting} for room for {}", wait.producer, bytes(wait.bytes))
}
