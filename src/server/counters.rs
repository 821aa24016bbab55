//! Totals that the engine does not keep, as atomics: written by the data plane, read by stats and metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::engine::{Code, PartitionId};

/// What was delivered of a partition since the stream was created; a batch that is sent twice counts twice.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    batches: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
}

/// Batches, rows and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of batches.
    pub batches: u64,
    /// Number of rows.
    pub rows: u64,
    /// Bytes of headers and bodies.
    pub bytes: u64,
}

impl Delivered {
    fn add(&self, rows: u64, bytes: u64) {
        self.batches.fetch_add(1, Relaxed);
        self.rows.fetch_add(rows, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    fn totals(&self) -> Totals {
        Totals { batches: self.batches.load(Relaxed), rows: self.rows.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }
}

/// Upper bounds, in seconds, of the append-to-delivery histogram: 100 us to a minute, roughly times 3.
pub const LATENCY_BOUNDS: [f64; 12] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0];

/// A histogram of durations.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// Per bound, how many were at most that and above the former bound; the last one: above all bounds.
    buckets: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyView {
    /// Not cumulative; one per bound of [`LATENCY_BOUNDS`], then those above all bounds.
    pub buckets: [u64; LATENCY_BOUNDS.len() + 1],
    /// Sum of all durations.
    pub sum_seconds: f64,
}

impl Latency {
    fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = LATENCY_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(LATENCY_BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(micros(duration), Relaxed);
    }

    fn view(&self) -> LatencyView {
        let buckets = std::array::from_fn(|index| self.buckets[index].load(Relaxed));
        LatencyView { buckets, sum_seconds: Duration::from_micros(self.sum_micros.load(Relaxed)).as_secs_f64() }
    }
}

/// A stream's totals.
#[derive(Debug)]
pub struct StreamCounters {
    delivered: Vec<Delivered>,
    latency: Latency,
    blocked_micros: AtomicU64,
    dropped_batches: AtomicU64,
    dead_letters: AtomicU64,
    appenders: AtomicU64,
    readers: AtomicU64,
}

impl StreamCounters {
    pub(super) fn new(partitions: usize) -> Self {
        Self {
            delivered: (0..partitions).map(|_| Delivered::default()).collect(),
            latency: Latency::default(),
            blocked_micros: AtomicU64::new(0),
            dropped_batches: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            appenders: AtomicU64::new(0),
            readers: AtomicU64::new(0),
        }
    }

    pub(super) fn count_delivered(&self, partition: PartitionId, rows: u64, bytes: u64, latency: Duration) {
        if let Some(delivered) = self.delivered.get(partition.index()) {
            delivered.add(rows, bytes);
        }
        self.latency.observe(latency);
    }

    pub(super) fn count_blocked(&self, duration: Duration) {
        self.blocked_micros.fetch_add(micros(duration), Relaxed);
    }

    pub(super) fn count_dead_letter(&self) {
        self.dead_letters.fetch_add(1, Relaxed);
    }

    pub(super) fn count_dropped(&self, batches: u64) {
        self.dropped_batches.fetch_add(batches, Relaxed);
    }

    pub(super) fn appender_opened(&self) {
        self.appenders.fetch_add(1, Relaxed);
    }

    pub(super) fn appender_closed(&self) {
        self.appenders.fetch_sub(1, Relaxed);
    }

    pub(super) fn reader_opened(&self) {
        self.readers.fetch_add(1, Relaxed);
    }

    pub(super) fn reader_closed(&self) {
        self.readers.fetch_sub(1, Relaxed);
    }

    /// Delivered so far, per partition.
    pub fn delivered(&self) -> impl Iterator<Item = (PartitionId, Totals)> + '_ {
        (0..).map(PartitionId).zip(self.delivered.iter().map(Delivered::totals))
    }

    /// The same over all partitions.
    #[must_use]
    pub fn delivered_total(&self) -> Totals {
        self.delivered().fold(Totals::default(), |sum, (_, totals)| Totals {
            batches: sum.batches + totals.batches,
            rows: sum.rows + totals.rows,
            bytes: sum.bytes + totals.bytes,
        })
    }

    /// Time from append to delivery.
    #[must_use]
    pub fn latency(&self) -> LatencyView {
        self.latency.view()
    }

    /// How long producers have waited for room, summed; a wait counts when it ends.
    #[must_use]
    pub fn blocked(&self) -> Duration {
        Duration::from_micros(self.blocked_micros.load(Relaxed))
    }

    /// Dead letters that were written.
    #[must_use]
    pub fn dead_letters(&self) -> u64 {
        self.dead_letters.load(Relaxed)
    }

    /// Batches that left the stream: acked by all, of an aborted epoch, or dropped as the oldest.
    #[must_use]
    pub fn dropped_batches(&self) -> u64 {
        self.dropped_batches.load(Relaxed)
    }

    /// `DoPut` calls that are open now.
    #[must_use]
    pub fn appenders(&self) -> u64 {
        self.appenders.load(Relaxed)
    }

    /// `DoGet` calls that are open now.
    #[must_use]
    pub fn readers(&self) -> u64 {
        self.readers.load(Relaxed)
    }
}

/// Errors given to clients, by code.
#[derive(Debug)]
pub struct ErrorCounters(Vec<AtomicU64>);

impl Default for ErrorCounters {
    fn default() -> Self {
        Self(Code::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl ErrorCounters {
    pub(super) fn count(&self, code: Code) {
        if let Some(index) = Code::ALL.iter().position(|known| *known == code) {
            self.0[index].fetch_add(1, Relaxed);
        }
    }

    /// How many of each code were given.
    pub fn totals(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        Code::ALL.iter().copied().zip(self.0.iter().map(|count| count.load(Relaxed)))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let latency = Latency::default();
        for seconds in [0.0001, 0.000_101, 61.0] {
            latency.observe(Duration::from_secs_f64(seconds));
        }
        let view = latency.view();
        assert_eq!((view.buckets[0], view.buckets[1], view.buckets[12]), (1, 1, 1));
    }

    #[test]
    fn errors_are_counted_by_code() {
        let errors = ErrorCounters::default();
        errors.count(Code::Fenced);
        assert_eq!(errors.totals().filter(|(_, count)| *count > 0).collect::<Vec<_>>(), [(Code::Fenced, 1)]);
    }
}
