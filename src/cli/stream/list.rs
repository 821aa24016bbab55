//! `bowstring stream list`.

use clap::Args;

use crate::cli::config::{ClientSettings, Settings};
use crate::cli::error::CliError;
use crate::cli::quantity::{bytes, count};
use crate::cli::report;
use crate::cli::table::{Align, Columns};
use crate::cli::{print_json, print_lines};
use crate::client::Lag;
use crate::wire::proto::StreamDescription;

/// List all streams
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bowstring stream list\n  bowstring stream list --json | jq -r '.[].stream'")]
pub(super) struct ListArgs {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientSettings,
}

pub(super) async fn run(args: ListArgs, settings: &Settings) -> Result<(), CliError> {
    let streams = settings.connect(&args.client).await?.list_streams().await?;
    if args.json {
        return print_json(&streams.iter().map(report::stream_json).collect());
    }
    let mut columns = Columns::new([
        ("stream", Align::Left),
        ("state", Align::Left),
        ("partitions", Align::Right),
        ("rows", Align::Right),
        ("buffered", Align::Right),
        ("bytes", Align::Right),
        ("subscriptions", Align::Right),
        ("lag", Align::Right),
    ]);
    for stream in &streams {
        columns.row(row(stream));
    }
    print_lines(columns.lines())
}

fn row(stream: &StreamDescription) -> [String; 8] {
    let lag = stream.subscriptions.iter().map(|subscription| Lag::of(subscription).batches).max();
    [
        stream.stream.clone(),
        report::state(stream).to_owned(),
        stream.partitions.len().to_string(),
        count(stream.partitions.iter().map(|partition| partition.rows_total).sum()),
        count(stream.buffered_batches),
        bytes(stream.buffered_bytes),
        stream.subscriptions.len().to_string(),
        lag.map_or_else(|| "-".to_owned(), count),
    ]
}
