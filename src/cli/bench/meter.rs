//! What an end has done, in how much time and CPU: the line it prints when it is done, and the clocks it is measured by.

use hdrhistogram::Histogram;
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};

/// An end's last line. Times are of the machine's monotonic clock, which all processes share.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Report {
    /// When it was told to go.
    pub(super) begun_ns: u64,
    /// When it had the last confirmation, or the end of the stream.
    pub(super) ended_ns: u64,
    /// CPU time of the process in between.
    pub(super) cpu_seconds: f64,
    /// Batches appended or read.
    pub(super) batches: u64,
    /// Bytes of their buffers.
    pub(super) bytes: u64,
    /// Nanoseconds from append to delivery and how often, where the batches carry stamps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) latency: Vec<(u64, u64)>,
}

/// Runs from the word to go.
pub(super) struct Meter {
    begun_ns: u64,
    cpu_ns: u64,
}

impl Meter {
    pub(super) fn start() -> Self {
        Self { begun_ns: monotonic_ns(), cpu_ns: nanos(clock_gettime(ClockId::ProcessCPUTime)) }
    }

    /// When it was started.
    pub(super) fn begun_ns(&self) -> u64 {
        self.begun_ns
    }

    /// The report of what was counted since.
    #[expect(clippy::cast_precision_loss, reason = "seconds with nine digits")]
    pub(super) fn stop(&self, tally: &Tally) -> Report {
        let cpu_ns = nanos(clock_gettime(ClockId::ProcessCPUTime)).saturating_sub(self.cpu_ns);
        Report {
            begun_ns: self.begun_ns,
            ended_ns: monotonic_ns(),
            cpu_seconds: cpu_ns as f64 / 1e9,
            batches: tally.batches,
            bytes: tally.bytes,
            latency: tally.latency.as_ref().map(values).unwrap_or_default(),
        }
    }
}

/// What an end counts on its way.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) batches: u64,
    pub(super) bytes: u64,
    /// Only where the batches carry stamps.
    pub(super) latency: Option<Histogram<u64>>,
}

impl Tally {
    /// One of a task's, to this.
    pub(super) fn add(&mut self, other: Self) {
        self.batches += other.batches;
        self.bytes += other.bytes;
        if let Some(other) = other.latency {
            let all = self.latency.get_or_insert_with(histogram);
            // It grows by itself, so that this cannot fail.
            let _ = all.add(other);
        }
    }

    /// A batch that was stamped then has come now.
    pub(super) fn arrived(&mut self, stamped_ns: u64) {
        let latency = monotonic_ns().saturating_sub(stamped_ns);
        // Resizes by itself: every u64 has a place.
        let _ = self.latency.get_or_insert_with(histogram).record(latency);
    }
}

/// The machine's monotonic clock; the same in all of its processes.
pub(super) fn monotonic_ns() -> u64 {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// All reports' latencies together.
pub(super) fn merged<'a>(reports: impl IntoIterator<Item = &'a Report>) -> Histogram<u64> {
    let mut all = histogram();
    for (value, count) in reports.into_iter().flat_map(|report| &report.latency) {
        let _ = all.record_n(*value, *count);
    }
    all
}

/// Three digits of each value, from a nanosecond to whatever comes.
#[expect(clippy::expect_used, reason = "three digits are among the 0 to 5 that it takes")]
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("0 to 5 digits are possible")
}

fn values(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
}

fn nanos(time: Timespec) -> u64 {
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    seconds * 1_000_000_000 + nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_keep_three_digits_on_their_way_through_a_report() {
        let mut tally = Tally::default();
        let stamp = monotonic_ns().saturating_sub(5_000_000);
        (0..100).for_each(|_| tally.arrived(stamp));
        let report = Meter::start().stop(&tally);
        let all = merged([&report, &report]);
        assert_eq!(all.len(), 200);
        assert!(all.value_at_quantile(0.5) >= 4_990_000, "{}", all.value_at_quantile(0.5));
    }
}
