//! `bowstring subscription seek`.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::config::{ClientSettings, Settings};
use crate::cli::error::CliError;
use crate::cli::quantity::{batches, bytes, count, rows};
use crate::cli::table::{Align, Columns};
use crate::cli::{print_json, print_lines};
use crate::engine::{PartitionMove, Start, StreamName, SubscriptionName};

/// Put a subscription elsewhere, forwards or backwards
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bowstring subscription seek flights trainer earliest --dry-run
  bowstring subscription seek flights trainer 0:100,1:50
  bowstring subscription seek flights trainer epoch:7@nightly")]
pub(super) struct SeekArgs {
    /// Name of the stream
    stream: String,
    /// Name of the subscription
    subscription: String,
    /// Where to: earliest, latest, offsets such as 0:100,1:50 (other partitions stay), a time such as 2026-11-01T12:00:00Z, or an
    /// epoch such as epoch:7 or epoch:7@PRODUCER
    start: Start,
    /// Only say what would move
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientSettings,
}

pub(super) async fn run(args: SeekArgs, settings: &Settings) -> Result<(), CliError> {
    let (stream, name) = (StreamName::new(&args.stream)?, SubscriptionName::new(&args.subscription)?);
    let client = settings.connect(&args.client).await?;
    let moves = client.seek(stream.as_str(), name.as_str(), &args.start, None, args.dry_run).await?;
    if args.json {
        return print_json(&json!({
            "stream": stream.as_str(),
            "subscription": name.as_str(),
            "dry_run": args.dry_run,
            "moves": moves.iter().map(move_json).collect::<Vec<_>>(),
        }));
    }
    let mut columns = Columns::new([
        ("partition", Align::Right),
        ("from", Align::Right),
        ("to", Align::Right),
        ("batches", Align::Right),
        ("rows", Align::Right),
        ("bytes", Align::Right),
        ("", Align::Left),
    ]);
    for moved in &moves {
        columns.row(row(moved));
    }
    let head =
        format!("subscription {name} of stream {stream} {}", if args.dry_run { "would move (nothing is changed)" } else { "has moved" });
    let (again, skipped): (Vec<_>, Vec<_>) = moves.iter().filter(|moved| moved.batches > 0).partition(|moved| moved.to < moved.from);
    let sums = [("again", again), ("skipped", skipped)].into_iter().filter(|(_, moves)| !moves.is_empty());
    let gone = moves.iter().map(|moved| moved.gone_batches).sum::<u64>();
    let gone = (gone > 0).then(|| format!("not kept any more: {} before the earliest", batches(gone)));
    let lines = [head].into_iter().chain(columns.lines()).chain(sums.map(|(how, moves)| format!("{}: {}", how, sum(&moves)))).chain(gone);
    print_lines(lines)
}

fn sum(moves: &[&PartitionMove]) -> String {
    let (mut all_batches, mut all_rows, mut all_bytes) = (0, 0_u64, 0);
    for moved in moves {
        all_batches += moved.batches;
        all_rows = all_rows.saturating_add(moved.rows);
        all_bytes += moved.bytes;
    }
    format!("{}, {}, {}", batches(all_batches), rows(all_rows), bytes(all_bytes))
}

fn row(moved: &PartitionMove) -> [String; 7] {
    let how = match moved.to.cmp(&moved.from) {
        std::cmp::Ordering::Less => "again",
        std::cmp::Ordering::Equal => "stays",
        std::cmp::Ordering::Greater => "skipped",
    };
    [
        moved.partition.to_string(),
        moved.from.to_string(),
        moved.to.to_string(),
        count(moved.batches),
        count(moved.rows),
        bytes(moved.bytes),
        how.to_owned(),
    ]
}

fn move_json(moved: &PartitionMove) -> Value {
    json!({
        "partition": moved.partition.0, "from": moved.from.0, "to": moved.to.0, "batches": moved.batches, "rows": moved.rows,
        "bytes": moved.bytes, "gone_batches": moved.gone_batches,
    })
}
