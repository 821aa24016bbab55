//! A meter: how many batches went by lately. What a subscription needs to catch up is reckoned from two of them.

use std::time::Duration;

use super::Timestamp;

/// Length of a window in microseconds: 10 s. A meter has this window and the one before, so that it speaks of the last 10 to 20
/// seconds: long enough for a micro-batch every few seconds, short enough to tell of a consumer that has just stopped.
const WINDOW: u64 = 10_000_000;
/// What a meter that has just begun is taken to have seen, at least: one burst is no rate.
const SEEN_MIN: u64 = 1_000_000;

/// Batches that went by in this window and in the one before. Windows begin at whole multiples of their length, so that
/// meters which are compared speak of the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Meter {
    /// When it began; none before the first batch, unless somebody said so.
    since: Option<Timestamp>,
    /// Which window `current` is of.
    window: u64,
    current: u64,
    previous: u64,
}

impl Meter {
    /// One that looks since `now`.
    pub(super) fn since(now: Timestamp) -> Self {
        Self { since: Some(now), window: now.0 / WINDOW, ..Self::default() }
    }

    pub(super) fn count(&mut self, batches: u64, now: Timestamp) {
        let (previous, current) = self.windows(now);
        self.since = self.since.or(Some(now));
        self.window = self.window.max(now.0 / WINDOW);
        (self.previous, self.current) = (previous, current.saturating_add(batches));
    }

    /// What the window before `now`'s and that one have.
    fn windows(&self, now: Timestamp) -> (u64, u64) {
        // A clock that goes back stays in the newest window.
        match (now.0 / WINDOW).saturating_sub(self.window) {
            0 => (self.previous, self.current),
            1 => (self.current, 0),
            _ => (0, 0),
        }
    }

    /// Batches, and in how many microseconds they went by.
    fn seen(&self, now: Timestamp) -> (u128, u128) {
        let (previous, current) = self.windows(now);
        let age = self.since.map_or(0, |since| now.0.saturating_sub(since.0));
        let micros = (WINDOW + now.0 % WINDOW).min(age).max(SEEN_MIN);
        (u128::from(previous) + u128::from(current), micros.into())
    }
}

/// When `lag` batches will be acked, if acks and appends go on as they did lately. None if acks are not faster: never, then.
pub(super) fn time_to_drain(lag: u64, acked: &Meter, appended: &Meter, now: Timestamp) -> Option<Duration> {
    if lag == 0 {
        return Some(Duration::ZERO);
    }
    let ((acked, acked_in), (appended, appended_in)) = (acked.seen(now), appended.seen(now));
    // Of fractions, so that nothing is rounded: lag / (acked / acked_in - appended / appended_in). No product passes 2^115.
    let faster = (acked * appended_in).checked_sub(appended * acked_in).filter(|faster| *faster > 0)?;
    let micros = u128::from(lag) * acked_in * appended_in / faster;
    Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(1_000 * WINDOW + seconds * SECOND)
    }

    /// So many batches in each of these seconds.
    fn counted(seconds: std::ops::Range<u64>, batches: u64) -> Meter {
        let mut meter = Meter::since(at(seconds.start));
        seconds.for_each(|second| meter.count(batches, at(second)));
        meter
    }

    #[test]
    fn what_is_acked_faster_than_it_comes_is_done_at_the_difference() {
        let now = at(20);
        assert_eq!(time_to_drain(300, &counted(0..20, 4), &counted(0..20, 1), now), Some(Duration::from_secs(100)));
        assert_eq!(time_to_drain(300, &counted(0..20, 4), &Meter::default(), now), Some(Duration::from_secs(75)));
        assert_eq!(time_to_drain(0, &Meter::default(), &counted(0..20, 4), now), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_not_acked_faster_is_never_done() {
        let now = at(20);
        for (acked, appended) in [(0, 0), (1, 1), (1, 2)] {
            assert_eq!(time_to_drain(1, &counted(0..20, acked), &counted(0..20, appended), now), None, "{acked} {appended}");
        }
    }

    #[test]
    fn what_went_by_long_ago_says_nothing() {
        let acked = counted(0..10, 5);
        assert!(time_to_drain(10, &acked, &Meter::default(), at(19)).is_some());
        assert_eq!(time_to_drain(10, &acked, &Meter::default(), at(20)), None);
    }

    #[test]
    fn a_meter_that_has_just_begun_speaks_of_its_own_time_alone() {
        assert_eq!(time_to_drain(50, &counted(12..14, 5), &Meter::default(), at(14)), Some(Duration::from_secs(10)));
        assert_eq!(
            time_to_drain(50, &counted(12..13, 5), &Meter::default(), at(12)),
            Some(Duration::from_secs(10)),
            "a burst counts as a second's"
        );
    }

    #[test]
    fn a_clock_that_goes_back_and_numbers_that_end_lose_nothing_and_do_not_overflow() {
        let mut meter = Meter::since(at(5));
        meter.count(u64::MAX, at(15));
        meter.count(u64::MAX, at(3));
        assert!(time_to_drain(u64::MAX, &meter, &Meter::since(at(0)), at(16)).is_some());
        assert_eq!(time_to_drain(u64::MAX, &counted(0..1, 1), &Meter::default(), Timestamp(u64::MAX)), None);
    }
}
