//! `bowstring bench`: what a coordinator carries on this machine, each end in a process of its own.

mod append;
mod case;
mod child;
mod end;
mod load;
mod meter;
mod read;
mod report;
mod round;
mod target;

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

pub(super) use end::{EndArgs, run as run_end};

use super::compression::CompressionArg;
use super::error::CliError;
use super::print_lines;
use super::quantity::Size;
use super::signals::Signals;
use case::{Case, Rate, Work};
use load::Columns;
use report::Measured;
use round::{Amount, Rounds};
use target::Target;

const SECONDS_DEFAULT: f64 = 3.0;
/// How long an interrupted benchmark tries to delete its streams.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(3);

/// Measure throughput, latency and CPU
#[derive(Debug, Args)]
#[command(after_help = "\
A producer, a coordinator and the consumers, each a process of its own. Where several values are given, separated by commas, every
combination is measured, and each round runs all of them, one after the other, so that a slow minute of the machine hits all.
The table has the rounds' medians. MB/s is what was delivered to all consumers together (put: appended), in bytes of the
batches' buffers; CPU seconds are per GB that the process has carried, the coordinator's per GB delivered.

Without --url it starts a coordinator with its defaults, and BOWSTRING_* settings, on this machine. With --url it creates and
deletes streams of its own, bowstring-bench-*, and loads that coordinator as much as it can; BOWSTRING_URL is not asked.
Latency compares clocks of one machine: producer and consumers run on this one.

Examples:
  bowstring bench                                                  relay of 4 MiB batches, three rounds of 3 s
  bowstring bench put get relay --batch-bytes 1KiB,64KiB,4MiB
  bowstring bench relay --columns fixed,string,nested --bytes 2GiB --rounds 5 --json figures.json
  bowstring bench fan-out --consumers 1,4,16
  bowstring bench latency --rate 100,1000,half
  bowstring bench relay --partitions 1,16,256 --url grpc://127.0.0.1:8815 --http 127.0.0.1:8816")]
pub(super) struct BenchArgs {
    /// Kinds of work
    #[arg(default_value = "relay")]
    work: Vec<Work>,
    /// Bytes of a batch [default: 4MiB; 1KiB for latency]
    #[arg(long, value_name = "SIZES", value_delimiter = ',', help_heading = "Load")]
    batch_bytes: Vec<Size>,
    /// Columns of a batch
    #[arg(long, value_name = "KINDS", value_delimiter = ',', default_value = "fixed", help_heading = "Load")]
    columns: Vec<Columns>,
    /// Compression by the producer
    #[arg(long, value_name = "CODECS", value_delimiter = ',', default_value = "none", help_heading = "Load")]
    compression: Vec<CompressionArg>,
    /// Partitions of a stream, 1 to 4096
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', default_value = "1", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=4096))]
    partitions: Vec<u32>,
    /// Streams at once, each with a connection of its own at both ends, 1 to 1000
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', default_value = "1", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=1000))]
    streams: Vec<u32>,
    /// Consumers, each a process with its own subscription, 1 to 128 [default: 1; 1,4,16 for fan-out]
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=128))]
    consumers: Vec<u32>,
    /// Batches per second when latency is measured, or "half" of what a relay reaches [default: 1000]
    #[arg(long, value_name = "RATES", value_delimiter = ',', help_heading = "Load")]
    rate: Vec<Rate>,
    /// How long each round of a case appends, or reads [default: 3]
    #[arg(long, conflicts_with = "bytes", value_parser = seconds)]
    seconds: Option<f64>,
    /// How much it appends, or reads, instead
    #[arg(long, value_name = "SIZE")]
    bytes: Option<Size>,
    /// How often each case is measured
    #[arg(long, value_name = "COUNT", default_value = "3")]
    rounds: NonZeroU32,
    /// Write every round's figures as JSON; - is stdout, which then has no table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A coordinator that runs [default: one of this command's own]
    #[arg(long, short, help_heading = "Connection")]
    url: Option<String>,
    /// Where that coordinator's /metrics are, for its CPU seconds
    #[arg(long, value_name = "ADDRESS", requires = "url", help_heading = "Connection")]
    http: Option<String>,
}

/// Measures what `args` say; `program` is this command as it was called, which the ends are started with.
pub(super) async fn run(args: BenchArgs, program: OsString, signals: &mut Signals) -> Result<(), CliError> {
    let cases = case::cases(&args)?;
    super::allow_files();
    let open = async {
        match &args.url {
            Some(url) => Target::running(url, args.http.clone()).await,
            None => Target::start(&program).await,
        }
    };
    let target = signals.interrupt(open).await?;
    let amount = args.bytes.map_or(Amount::Seconds(args.seconds.unwrap_or(SECONDS_DEFAULT)), |bytes| Amount::Bytes(bytes.0));
    let prefix = format!("bowstring-bench-{}", std::process::id());
    let rounds = Rounds { program, target, amount, prefix };
    let streams = cases.iter().map(|case| case.streams).max().unwrap_or_default();
    let measured = signals.interrupt(measure(&rounds, cases, args.rounds.get())).await;
    if matches!(measured, Err(CliError::Interrupted)) {
        // The ends are gone already. What they left is not left to a coordinator that goes on.
        let _ = tokio::time::timeout(CLEAN_UP_TIMEOUT, rounds.delete(streams)).await;
    }
    let measured = measured?;
    let json = report::json(&measured, rounds.target.name());
    match &args.json {
        Some(path) if path.as_os_str() == "-" => super::print_json(&json),
        Some(path) => {
            std::fs::write(path, format!("{json:#}\n")).map_err(|reason| CliError::file(path, reason))?;
            print_lines(report::table(&measured))
        }
        None => print_lines(report::table(&measured)),
    }
}

/// Every case once per round, in turn.
async fn measure(rounds: &Rounds, cases: Vec<Case>, count: u32) -> Result<Vec<Measured>, CliError> {
    let mut measured: Vec<_> = cases.into_iter().map(|case| Measured { case, rounds: Vec::new() }).collect();
    for _ in 0..count {
        for one in &mut measured {
            one.rounds.push(rounds.round(&one.case).await?);
        }
    }
    Ok(measured)
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.01..=3600.0).contains(seconds));
    seconds.ok_or_else(|| format!("{text:?} is no number of seconds from 0.01 to 3600"))
}
