//! How far time has come: by the rows of each partition, and of all together.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The watermark of a flow: no row before it is waited for. It never goes back.
#[derive(Debug)]
pub(super) struct Watermarks {
    lateness: i64,
    idle: Option<Duration>,
    partitions: BTreeMap<u32, Partition>,
    current: Option<i64>,
}

#[derive(Debug)]
struct Partition {
    newest: Option<i64>,
    /// When a row came last, or it was begun with.
    seen: Duration,
}

/// What of it is kept with the state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedWatermarks {
    newest: BTreeMap<u32, i64>,
    current: Option<i64>,
}

impl Watermarks {
    /// Those of these partitions; `lateness` in units of the event time.
    pub(super) fn new(partitions: &[u32], lateness: i64, idle: Option<Duration>, now: Duration) -> Self {
        let partitions = partitions.iter().map(|number| (*number, Partition { newest: None, seen: now })).collect();
        Self { lateness, idle, partitions, current: None }
    }

    /// Goes on from what was kept.
    pub(super) fn restore(&mut self, saved: &SavedWatermarks, now: Duration) {
        for (number, newest) in &saved.newest {
            self.observe(*number, *newest, now);
        }
        self.current = saved.current;
    }

    /// No row comes any more from these partitions: they hold back nobody.
    pub(super) fn end(&mut self, ended: &[u32]) {
        let before = self.partitions.len();
        self.partitions.retain(|number, _| !ended.contains(number));
        if self.partitions.is_empty() && before > 0 {
            self.current = Some(i64::MAX);
        }
    }

    pub(super) fn saved(&self) -> SavedWatermarks {
        let newest = self.partitions.iter().filter_map(|(number, partition)| Some((*number, partition.newest?))).collect();
        SavedWatermarks { newest, current: self.current }
    }

    pub(super) fn current(&self) -> Option<i64> {
        self.current
    }

    /// A partition has rows, the newest of this time.
    pub(super) fn observe(&mut self, partition: u32, newest: i64, now: Duration) {
        let partition = self.partitions.entry(partition).or_insert(Partition { newest: None, seen: now });
        partition.newest = partition.newest.max(Some(newest));
        partition.seen = now;
    }

    /// Looks again: the oldest of the newest rows of all partitions that are not idle, less what rows may be late.
    pub(super) fn advance(&mut self, now: Duration) -> Option<i64> {
        let is_idle = |partition: &Partition| self.idle.is_some_and(|idle| now.saturating_sub(partition.seen) >= idle);
        let mut active = self.partitions.values().filter(|partition| !is_idle(partition)).peekable();
        let newest = if active.peek().is_some() {
            // One that has no row yet holds back all.
            active.map(|partition| partition.newest).min().flatten()
        } else {
            // Nobody holds back the others: time has come as far as the furthest of them.
            self.partitions.values().filter_map(|partition| partition.newest).max()
        };
        self.current = self.current.max(newest.map(|newest| newest.saturating_sub(self.lateness)));
        self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watermarks(idle: Option<Duration>) -> Watermarks {
        Watermarks::new(&[0, 1], 10, idle, Duration::ZERO)
    }

    #[test]
    fn the_slowest_partition_says_how_far_time_has_come() {
        let mut watermarks = watermarks(None);
        assert_eq!(watermarks.advance(Duration::ZERO), None);
        watermarks.observe(0, 100, Duration::ZERO);
        assert_eq!(watermarks.advance(SECOND * 1000), None, "partition 1 may have older rows");
        watermarks.observe(1, 50, Duration::ZERO);
        assert_eq!(watermarks.advance(SECOND), Some(40));
        watermarks.observe(1, 30, SECOND);
        watermarks.observe(0, 300, SECOND);
        assert_eq!(watermarks.advance(SECOND), Some(40), "it never goes back");
        watermarks.observe(1, 200, SECOND);
        assert_eq!(watermarks.advance(SECOND), Some(190));
    }

    #[test]
    fn an_idle_partition_holds_back_nobody() {
        let mut watermarks = watermarks(Some(SECOND * 5));
        watermarks.observe(0, 100, SECOND * 4);
        assert_eq!(watermarks.advance(SECOND * 4), None);
        assert_eq!(watermarks.advance(SECOND * 5), Some(90));
        watermarks.observe(1, 20, SECOND * 6);
        assert_eq!(watermarks.advance(SECOND * 6), Some(90));
        watermarks.observe(0, 500, SECOND * 7);
        assert_eq!(watermarks.advance(SECOND * 7), Some(90), "it holds back again");
        assert_eq!(watermarks.advance(SECOND * 100), Some(490), "when all are idle, the furthest says it");
    }

    #[test]
    fn what_is_saved_goes_on_where_it_was() {
        let mut before = watermarks(Some(SECOND));
        before.observe(0, 100, Duration::ZERO);
        before.advance(SECOND / 2);
        before.observe(1, 90, SECOND / 2);
        before.advance(SECOND / 2);
        let mut after = watermarks(Some(SECOND));
        after.restore(&before.saved(), SECOND * 100);
        assert_eq!(after.current(), Some(80));
        assert_eq!(after.advance(SECOND * 100), Some(80));
        assert_eq!(after.advance(SECOND * 101), Some(90));
    }
}
