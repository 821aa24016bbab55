//! How far a command is, on stderr, where that is a terminal.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::input::Extent;
use super::quantity::{batches, bytes, float, per_second, rows, span};

/// How long something may take without a word on the terminal.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a wait is logged where there is no terminal, in turns of patience.
const LOG_EVERY: u32 = 5;

/// What a command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// More to read from its input.
    Input,
    /// Room in the stream, which consumers have to make.
    Room,
    /// The next batch of the stream.
    Batch,
}

/// A progress bar with counts.
pub(super) struct Progress {
    bar: ProgressBar,
    extent: Extent,
    started: Instant,
    pub(super) batches: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Progress {
    /// A bar where the extent is known, else a spinner. Draws nothing where stderr is no terminal.
    pub(super) fn new(extent: Extent) -> Self {
        let (length, template) = match &extent {
            Extent::Rows(rows) => (Some(*rows), "{bar:30} {percent:>3}%  {msg}"),
            Extent::Bytes(bytes, _) => (Some(*bytes), "{bar:30} {percent:>3}%  {msg}"),
            Extent::Unknown => (None, "{spinner} {msg}"),
        };
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, extent, started: Instant::now(), batches: 0, rows: 0, bytes: 0 }
    }

    /// Counts a batch.
    pub(super) fn add(&mut self, rows: u64, size: u64) {
        self.batches += 1;
        self.rows += rows;
        self.bytes += size;
        match &self.extent {
            Extent::Rows(_) => self.bar.set_position(self.rows),
            Extent::Bytes(_, read) => self.bar.set_position(read.load(Ordering::Relaxed)),
            Extent::Unknown => {}
        }
        self.say_counts();
    }

    /// Awaits `work`; where that takes long, says what for.
    pub(super) async fn watch<T>(&self, wait: Wait, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let started = Instant::now();
        let mut patience = tokio::time::interval(PATIENCE);
        patience.tick().await;
        let mut turns = 0;
        loop {
            tokio::select! {
                biased;
                result = &mut work => {
                    self.say_counts();
                    return result;
                }
                _ = patience.tick() => {
                    turns += 1;
                    self.say_wait(wait, &span(started.elapsed()), turns);
                }
            }
        }
    }

    /// "1,000 rows in 2 batches", and how fast.
    pub(super) fn counts(&self) -> String {
        let rate = per_second(float(self.rows) / self.started.elapsed().as_secs_f64().max(0.001));
        format!("{} in {}, {}, {rate} rows/s", rows(self.rows), batches(self.batches), bytes(self.bytes))
    }

    /// How long it has been going on.
    pub(super) fn elapsed(&self) -> String {
        span(self.started.elapsed())
    }

    /// Takes the bar off the terminal.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn say_wait(&self, wait: Wait, waited: &str, turns: u32) {
        self.bar.set_message(format!("{}; waiting for {} for {waited}", self.counts(), wait.text()));
        // Where nobody sees the bar, a wait that others cause must still be found in the log.
        if self.bar.is_hidden() && wait == Wait::Room && turns.is_multiple_of(LOG_EVERY) {
            tracing::warn!(waited, "waiting for {}; `bowstring stats` shows which subscription lags", wait.text());
        }
    }

    fn say_counts(&self) {
        self.bar.set_message(self.counts());
    }
}

impl Wait {
    fn text(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Room => "room at the coordinator",
            Self::Batch => "the next batch",
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
