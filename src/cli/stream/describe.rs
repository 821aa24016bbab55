//! `bowstring stream describe`.

use std::time::Duration;

use clap::Args;

use crate::cli::config::{ClientSettings, Settings};
use crate::cli::error::CliError;
use crate::cli::quantity::{Span, batches, bytes, count, rows, span};
use crate::cli::table::{Align, Columns};
use crate::cli::{overflow, report};
use crate::cli::{print_json, print_lines};
use crate::client::Lag;
use crate::engine::StreamName;
use crate::wire::proto::{StreamDescription, StreamOptions};

/// Show a stream's options, schema, partitions, subscriptions and producers
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bowstring stream describe flights\n  bowstring stream describe flights --json | jq .partitions")]
pub(super) struct DescribeArgs {
    /// Name of the stream
    stream: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientSettings,
}

pub(super) async fn run(args: DescribeArgs, settings: &Settings) -> Result<(), CliError> {
    let name = StreamName::new(&args.stream)?;
    let stream = settings.connect(&args.client).await?.describe_stream(name.as_str()).await?;
    if args.json {
        return print_json(&report::stream_json(&stream));
    }
    let mut lines = head(&stream);
    section(&mut lines, "schema", schema(&stream));
    section(&mut lines, "partitions", partitions(&stream));
    section(&mut lines, "subscriptions", subscriptions(&stream));
    section(&mut lines, "producers", producers(&stream));
    print_lines(lines)
}

fn retention(options: &StreamOptions) -> String {
    let time = || Span(Duration::from_millis(options.retain_ms()));
    match (options.retain_ms(), options.retain_bytes()) {
        (0, 0) => "go at once".to_owned(),
        (_, 0) => format!("stay for {}", time()),
        (0, near) => format!("stay while they are of the newest {}", bytes(near)),
        (_, near) => format!("stay for {}, and while they are of the newest {}", time(), bytes(near)),
    }
}

fn section(lines: &mut Vec<String>, title: &str, content: Vec<String>) {
    lines.push(String::new());
    if content.is_empty() {
        lines.push(format!("{title}: none"));
        return;
    }
    lines.push(format!("{title}:"));
    lines.extend(content.into_iter().map(|line| format!("  {line}")));
}

fn head(stream: &StreamDescription) -> Vec<String> {
    let options = stream.options.unwrap_or_default();
    let reason = if stream.reason.is_empty() { String::new() } else { format!(": {}", stream.reason) };
    let storage = match (stream.is_durable, stream.log_waits_for.is_empty()) {
        (false, _) => "in memory; nothing survives the coordinator".to_owned(),
        (true, waits) => {
            let (logged, limit) = (bytes(stream.logged_bytes), bytes(options.max_disk_bytes()));
            let why = if waits { String::new() } else { format!("; it does not go on: {}", stream.log_waits_for) };
            format!(
                "durable, what is confirmed survives the coordinator; {}, {logged} of {limit} in the log{why}",
                batches(stream.logged_batches)
            )
        }
    };
    vec![
        format!("stream {} (id {:016x}) is {}{reason}", stream.stream, stream.stream_id, report::state(stream)),
        format!("  storage: {storage}"),
        format!("  limits: {}, {} in the spool", report::limits(&options), bytes(options.max_spool_bytes())),
        format!("  acked batches: {}", retention(&options)),
        format!("  epochs become visible: {}, when full: {}", report::visibility(&options), overflow::policy(&options)),
        format!("  schema policy: {}, versions: {}", report::schema_policy(&options), stream.schema_versions),
        format!(
            "  buffered: {}, {}; spooled: {}, {}",
            batches(stream.buffered_batches),
            bytes(stream.buffered_bytes),
            batches(stream.spooled_batches),
            bytes(stream.spooled_bytes)
        ),
        format!(
            "  epochs: {} committed, {} aborted, {} replayed",
            count(stream.epochs_committed),
            count(stream.epochs_aborted),
            count(stream.epochs_replayed)
        ),
    ]
}

fn schema(stream: &StreamDescription) -> Vec<String> {
    let Some(schema) = report::schema(stream) else {
        return Vec::new();
    };
    let mut columns = Columns::new([("column", Align::Left), ("type", Align::Left), ("null", Align::Left)]);
    for field in schema.fields() {
        let null = if field.is_nullable() { "yes" } else { "no" };
        columns.row([field.name().clone(), field.data_type().to_string(), null.to_owned()]);
    }
    columns.lines()
}

fn partitions(stream: &StreamDescription) -> Vec<String> {
    let mut columns = Columns::new([
        ("partition", Align::Right),
        ("start", Align::Right),
        ("end", Align::Right),
        ("buffered", Align::Right),
        ("bytes", Align::Right),
        ("rows ever", Align::Right),
        ("bytes ever", Align::Right),
    ]);
    for partition in &stream.partitions {
        columns.row([
            partition.partition.to_string(),
            partition.start.to_string(),
            partition.end.to_string(),
            count(partition.buffered_batches),
            bytes(partition.buffered_bytes),
            count(partition.rows_total),
            bytes(partition.bytes_total),
        ]);
    }
    columns.lines()
}

fn subscriptions(stream: &StreamDescription) -> Vec<String> {
    if stream.subscriptions.is_empty() {
        return Vec::new();
    }
    let mut columns = Columns::new([
        ("subscription", Align::Left),
        ("acked", Align::Left),
        ("lag batches", Align::Right),
        ("lag rows", Align::Right),
        ("lag bytes", Align::Right),
        ("oldest", Align::Right),
        ("held", Align::Right),
        ("consumers", Align::Right),
        ("skipped", Align::Right),
    ]);
    for subscription in &stream.subscriptions {
        let lag = Lag::of(subscription);
        let acked: Vec<_> =
            subscription.partitions.iter().map(|partition| format!("{}:{}", partition.partition, partition.acked)).collect();
        columns.row([
            subscription.subscription.clone(),
            acked.join(" "),
            count(lag.batches),
            count(lag.rows),
            bytes(lag.bytes),
            span(lag.age),
            span(lag.held_for),
            subscription.consumers.len().to_string(),
            count(lag.skipped),
        ]);
    }
    columns.lines()
}

fn producers(stream: &StreamDescription) -> Vec<String> {
    let mut lines = Vec::new();
    for producer in &stream.producers {
        let committed =
            producer.committed_epoch.map_or_else(|| "no epoch committed".to_owned(), |epoch| format!("epoch {epoch} committed"));
        let lost = if producer.lost { ", LOST" } else { "" };
        lines.push(format!("{} run {}: {committed}{lost}", producer.producer, producer.run));
        lines.extend(producer.epochs.iter().map(|epoch| {
            let (open, staged) = (span(Duration::from_micros(epoch.open_micros)), bytes(epoch.staged_bytes));
            format!("  epoch {} open for {open}: {} writers, {}, {staged}", epoch.epoch, epoch.writers, rows(epoch.staged_rows))
        }));
    }
    lines.extend(stream.waiting.iter().map(super::super::stats::waiting_line));
    lines
}
