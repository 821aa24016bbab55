//! `bowstring lag`: what subscriptions have not acked, by partition.

use std::io::{self, IsTerminal as _};

use clap::Args;
use serde_json::{Value, json};

use super::config::{ClientSettings, Settings};
use super::error::CliError;
use super::quantity::{Span, bytes, count, span};
use super::signals::Signals;
use super::stats::ticks;
use super::table::{Align, Columns};
use super::top::screen;
use super::{print_json, print_lines};
use crate::client::{Client, Lag, SubscriptionLag};
use crate::engine::StreamName;

/// Show what subscriptions have not acked, for how long, and when they have caught up
#[derive(Debug, Args)]
#[command(after_help = "\
OLDEST is the age of the oldest batch that is not acked. HELD is how long it could have been acked: since it became visible or the
cursor last moved. DRAINS is when all will be acked as acks and appends went in the last 10 to 20 seconds; \"not draining\" where
acks were not faster. Keys with --watch: q quits, up and down scroll.

Examples:
  bowstring lag
  bowstring lag flights --watch
  bowstring lag flights --json | jq '.[].total.batches'")]
pub(super) struct LagArgs {
    /// Name of the stream [default: all]
    stream: Option<String>,
    /// Look again at every interval, until q or Ctrl-C
    #[arg(long, short)]
    watch: bool,
    /// Time between two looks
    #[arg(long, short, value_name = "DURATION", default_value = "1s")]
    interval: Span,
    /// Print a JSON array, with --watch one per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientSettings,
}

/// A stream's name and its subscriptions.
type StreamLag = (String, Vec<SubscriptionLag>);

pub(super) async fn run(args: LagArgs, settings: &Settings, signals: &mut Signals) -> Result<(), CliError> {
    let stream = args.stream.as_deref().map(StreamName::new).transpose()?;
    let name = stream.as_ref().map(StreamName::as_str);
    let client = signals.interrupt(settings.connect(&args.client)).await?;
    // Asked once before a screen is taken over, so that a wrong name is an error and not a blank screen.
    let first = signals.interrupt(look(&client, name)).await?;
    if !args.watch {
        return print(&first, args.json);
    }
    if !args.json && io::stdout().is_terminal() && io::stdin().is_terminal() {
        return screen::run(args.interval.0, signals, async || Ok(table(&look(&client, name).await?))).await;
    }
    signals.interrupt(repeat(&client, name, &args)).await
}

async fn repeat(client: &Client, stream: Option<&str>, args: &LagArgs) -> Result<(), CliError> {
    let mut ticks = ticks(args.interval.0);
    loop {
        ticks.tick().await;
        print(&look(client, stream).await?, args.json)?;
    }
}

async fn look(client: &Client, stream: Option<&str>) -> Result<Vec<StreamLag>, CliError> {
    if let Some(stream) = stream {
        return Ok(vec![(stream.to_owned(), client.lag(stream).await?)]);
    }
    let streams = client.list_streams().await?.into_iter();
    Ok(streams.map(|stream| (stream.stream, stream.subscriptions.iter().map(SubscriptionLag::of).collect())).collect())
}

fn print(streams: &[StreamLag], json: bool) -> Result<(), CliError> {
    if json {
        return print_json(&streams.iter().flat_map(|(stream, lags)| lags.iter().map(move |lag| lag_json(stream, lag))).collect());
    }
    print_lines(table(streams))
}

fn table(streams: &[StreamLag]) -> Vec<String> {
    let mut columns = columns();
    for (stream, lags) in streams {
        lags.iter().for_each(|lag| add(&mut columns, stream, lag));
    }
    columns.lines()
}

/// The same for one subscription.
pub(super) fn lines(stream: &str, lag: &SubscriptionLag) -> Vec<String> {
    let mut columns = columns();
    add(&mut columns, stream, lag);
    columns.lines()
}

fn columns() -> Columns {
    Columns::new([
        ("stream", Align::Left),
        ("subscription", Align::Left),
        ("partition", Align::Right),
        ("acked", Align::Right),
        ("batches", Align::Right),
        ("rows", Align::Right),
        ("bytes", Align::Right),
        ("oldest", Align::Right),
        ("held", Align::Right),
        ("drains", Align::Right),
        ("consumers", Align::Left),
    ])
}

/// A row per partition; before them one for all, if there are several.
fn add(columns: &mut Columns, stream: &str, lag: &SubscriptionLag) {
    if lag.partitions.len() > 1 {
        columns.row(row(stream, lag, "all", String::new(), &lag.total, ""));
    }
    for partition in &lag.partitions {
        let number = partition.partition.to_string();
        columns.row(row(stream, lag, &number, count(partition.offset), &partition.lag, &partition.consumers.join(" ")));
    }
}

fn row(stream: &str, of: &SubscriptionLag, partition: &str, acked: String, lag: &Lag, consumers: &str) -> [String; 11] {
    [
        stream.to_owned(),
        of.subscription.clone(),
        partition.to_owned(),
        acked,
        count(lag.batches),
        count(lag.rows),
        bytes(lag.bytes),
        span(lag.age),
        span(lag.held_for),
        drains(lag),
        consumers.to_owned(),
    ]
}

/// When all is acked, or that it never is.
pub(super) fn drains(lag: &Lag) -> String {
    match lag.drains_in {
        _ if lag.batches == 0 => "-".to_owned(),
        Some(time) => format!("in {}", span(time)),
        None => "not draining".to_owned(),
    }
}

fn lag_json(stream: &str, lag: &SubscriptionLag) -> Value {
    let partitions = lag.partitions.iter().map(|partition| {
        let mut value = numbers(&partition.lag);
        value["partition"] = partition.partition.into();
        value["acked"] = partition.offset.into();
        value["consumers"] = partition.consumers.clone().into();
        value
    });
    json!({
        "stream": stream,
        "subscription": lag.subscription,
        "total": numbers(&lag.total),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

fn numbers(lag: &Lag) -> Value {
    json!({
        "batches": lag.batches,
        "rows": lag.rows,
        "bytes": lag.bytes,
        "lag_seconds": lag.age.as_secs_f64(),
        "held_seconds": lag.held_for.as_secs_f64(),
        "drain_seconds": lag.drains_in.map(|time| time.as_secs_f64()),
        "skipped": lag.skipped,
    })
}
