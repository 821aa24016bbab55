//! How fast streams move, from two looks at their totals.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::quantity::float;
use crate::wire::proto::{GetStatsResponse, StreamStats};

/// What moved per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) appended_rows: f64,
    pub(super) appended_bytes: f64,
    pub(super) delivered_rows: f64,
    pub(super) delivered_bytes: f64,
    /// Of each second, the seconds that producers waited for room, summed over producers.
    pub(super) blocked: f64,
}

/// The last look at each stream.
#[derive(Debug, Default)]
pub(super) struct Rates {
    last: Option<(Instant, HashMap<u64, StreamStats>)>,
}

impl Rates {
    /// The rates since the last look, by stream id; none at the first, and none for a stream that is new since.
    pub(super) fn look(&mut self, at: Instant, stats: &GetStatsResponse) -> HashMap<u64, Rate> {
        let totals: HashMap<u64, StreamStats> = stats.streams.iter().map(|stream| (id(stream), stream.clone())).collect();
        let Some((then, before)) = self.last.replace((at, totals)) else {
            return HashMap::new();
        };
        let passed = at.saturating_duration_since(then);
        let pairs = stats.streams.iter().filter_map(|stream| before.get(&id(stream)).map(|before| (before, stream)));
        pairs.map(|(before, stream)| (id(stream), Rate::between(before, stream, passed))).collect()
    }
}

impl Rate {
    fn between(before: &StreamStats, after: &StreamStats, passed: Duration) -> Self {
        let seconds = passed.as_secs_f64().max(0.001);
        let rate = |before: u64, after: u64| float(after.saturating_sub(before)) / seconds;
        Self {
            appended_rows: rate(before.appended_rows, after.appended_rows),
            appended_bytes: rate(before.appended_bytes, after.appended_bytes),
            delivered_rows: rate(before.delivered_rows, after.delivered_rows),
            delivered_bytes: rate(before.delivered_bytes, after.delivered_bytes),
            blocked: (after.producer_blocked_seconds - before.producer_blocked_seconds).max(0.0) / seconds,
        }
    }
}

/// The id of the stream that the statistics are of.
pub(super) fn id(stats: &StreamStats) -> u64 {
    stats.description.as_ref().map_or(0, |description| description.stream_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::StreamDescription;

    fn stats(id: u64, appended_rows: u64) -> GetStatsResponse {
        let description = Some(StreamDescription { stream_id: id, ..StreamDescription::default() });
        let streams = vec![StreamStats { description, appended_rows, ..StreamStats::default() }];
        GetStatsResponse { streams, ..GetStatsResponse::default() }
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks_at_the_same_stream() {
        let mut rates = Rates::default();
        let start = Instant::now();
        assert!(rates.look(start, &stats(1, 100)).is_empty());
        let seen = rates.look(start + Duration::from_secs(2), &stats(1, 300));
        assert!((seen[&1].appended_rows - 100.0).abs() < 1e-9);
        // Deleted and created again: nothing to compare with.
        assert!(rates.look(start + Duration::from_secs(4), &stats(2, 5)).is_empty());
    }
}
