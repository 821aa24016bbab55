//! The ends of a benchmark, each a process of its own: it says `ready` once it is connected, waits for a line, works, and
//! says its report as one line of JSON. `make bench` starts them too.

use std::io::{BufRead as _, stdin};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::load::Columns;
use super::meter::{Meter, Report};
use super::{append, read};
use crate::cli::compression::CompressionArg;
use crate::cli::error::CliError;
use crate::cli::print_lines;
use crate::cli::quantity::Size;
use crate::engine::{PartitionId, SubscriptionMode};

/// One end of a benchmark
#[derive(Debug, Args)]
pub(in crate::cli) struct EndArgs {
    /// Which end
    role: Role,
    /// The coordinator
    #[arg(long)]
    pub(super) url: String,
    /// Beginning of the streams' names; their numbers follow
    #[arg(long)]
    pub(super) stream: String,
    /// How many streams
    #[arg(long, default_value_t = 1)]
    pub(super) streams: u32,
    /// Bytes of a batch
    #[arg(long)]
    pub(super) batch_bytes: Size,
    /// Columns of a batch
    #[arg(long, default_value = "fixed")]
    pub(super) columns: Columns,
    /// Compression by the producer
    #[arg(long, default_value = "none")]
    pub(super) compression: CompressionArg,
    /// How long to append, or to read what is there again and again
    #[arg(long, required_unless_present = "batches")]
    seconds: Option<f64>,
    /// How many batches of each stream to append or to read
    #[arg(long)]
    batches: Option<u64>,
    /// Batches of each stream that are stored before the time runs
    #[arg(long, default_value_t = 0)]
    pub(super) fill: u64,
    /// Batches per second over all streams, each with a stamp
    #[arg(long)]
    pub(super) rate: Option<f64>,
    /// Subscription to read and ack with, until the streams end; without one what is there is read again and again
    #[arg(long)]
    pub(super) subscription: Option<String>,
    /// So many subscriptions of each stream instead, each with a consumer of its own; their numbers follow the name
    #[arg(long, requires = "subscription")]
    subscriptions: Option<u32>,
    /// How the subscription's consumers divide its batches; then each batch is acked by itself
    #[arg(long, requires = "subscription")]
    pub(super) mode: Option<SubscriptionMode>,
    /// Which partitions to read; all without
    #[arg(long, requires = "subscription", value_delimiter = ',')]
    partitions: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// The producer
    Append,
    /// A consumer
    Read,
}

/// When an end has done enough.
#[derive(Debug, Clone, Copy)]
pub(super) enum Limit {
    /// So many batches of a stream.
    Batches(u64),
    /// So long after the word to go.
    For(Duration),
}

impl EndArgs {
    pub(super) fn limit(&self) -> Limit {
        match (self.batches, self.seconds) {
            (Some(batches), _) => Limit::Batches(batches),
            (None, seconds) => Limit::For(Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default()),
        }
    }

    pub(super) fn stream_names(&self) -> impl Iterator<Item = String> + use<> {
        stream_names(&self.stream, self.streams)
    }

    /// What is read and acked of each stream.
    pub(super) fn subscription_names(&self) -> Vec<String> {
        let name = self.subscription.as_deref().unwrap_or_default();
        match self.subscriptions {
            Some(count) => (0..count).map(|number| format!("{name}-{number}")).collect(),
            None => vec![name.to_owned()],
        }
    }

    pub(super) fn partitions(&self) -> Option<Vec<PartitionId>> {
        (!self.partitions.is_empty()).then(|| self.partitions.iter().copied().map(PartitionId).collect())
    }
}

impl Limit {
    /// Whether to go on after so many batches, at this time after the word to go.
    pub(super) fn allows(self, batches: u64, passed: Duration) -> bool {
        match self {
            Self::Batches(most) => batches < most,
            Self::For(most) => passed < most,
        }
    }
}

/// The names of a benchmark's streams.
pub(super) fn stream_names(prefix: &str, streams: u32) -> impl Iterator<Item = String> + use<> {
    let prefix = prefix.to_owned();
    (0..streams).map(move |number| format!("{prefix}-{number}"))
}

pub(in crate::cli) async fn run(args: EndArgs) -> Result<(), CliError> {
    crate::cli::allow_files();
    let report: Report = match args.role {
        Role::Append => append::append(&args).await?,
        Role::Read => read::read(args).await?,
    };
    let line = serde_json::to_string(&report).map_err(|error| CliError::Bench { reason: error.to_string() })?;
    print_lines([line])
}

/// Connected: from here on the time runs, once whoever started this process says so.
pub(super) async fn wait_for_go() -> Result<Meter, CliError> {
    print_lines(["ready".to_owned()])?;
    let read = tokio::task::spawn_blocking(|| stdin().lock().read_line(&mut String::new())).await;
    match read {
        Ok(Ok(bytes)) if bytes > 0 => Ok(Meter::start()),
        _ => Err(CliError::Bench { reason: "nobody said go: an end is started by `bowstring bench`".to_owned() }),
    }
}
