//! How fast a connection takes what is sent, as the acks tell.

use std::time::{Duration, Instant};

/// A sample is at least this long and this large: acks come in bursts.
const SAMPLE_TIME: Duration = Duration::from_millis(50);
const SAMPLE_BYTES: u64 = 1 << 20;
/// An estimate holds this long without a new one.
const HOLDS: Duration = Duration::from_secs(5);

/// Estimates a connection's speed from the bytes that are acked while the producer is ahead of it.
///
/// While the producer is not ahead, the rate is its own, and the connection is at least that fast. What is acked after the
/// coordinator has waited for room says nothing of the connection.
#[derive(Debug, Default)]
pub(super) struct WireSpeed {
    sample: Option<Sample>,
    /// Batches that had to wait for room, as the coordinator has counted them so far.
    waits: u64,
    estimate: Option<Estimate>,
}

#[derive(Debug)]
struct Sample {
    since: Instant,
    bytes: u64,
    /// The producer was ahead all the time.
    is_ahead: bool,
}

#[derive(Debug)]
struct Estimate {
    bytes_per_second: f64,
    at: Instant,
}

impl WireSpeed {
    /// Another connection: what is under way is sent again. It most likely is as fast as the one before.
    pub(super) fn reconnect(&mut self) {
        self.sample = None;
        self.waits = 0;
    }

    /// `bytes` more are stored. `is_ahead`: whether the producer would have more under way than it has.
    pub(super) fn acked(&mut self, bytes: u64, is_ahead: bool, waits: u64, now: Instant) {
        if waits != self.waits {
            self.waits = waits;
            self.sample = None;
            return;
        }
        let Some(sample) = &mut self.sample else {
            // Not before something was stored: until then the coordinator waits.
            self.sample = (bytes > 0).then_some(Sample { since: now, bytes: 0, is_ahead });
            return;
        };
        sample.bytes += bytes;
        sample.is_ahead &= is_ahead;
        let elapsed = now.saturating_duration_since(sample.since);
        if elapsed < SAMPLE_TIME || sample.bytes < SAMPLE_BYTES {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let bytes_per_second = sample.bytes as f64 / elapsed.as_secs_f64();
        if sample.is_ahead || self.estimate.as_ref().is_some_and(|estimate| estimate.bytes_per_second < bytes_per_second) {
            self.estimate = Some(Estimate { bytes_per_second, at: now });
        }
        self.sample = Some(Sample { since: now, bytes: 0, is_ahead });
    }

    /// Bytes per second; none if it was not seen lately.
    pub(super) fn get(&self, now: Instant) -> Option<f64> {
        let estimate = self.estimate.as_ref()?;
        (now.saturating_duration_since(estimate.at) <= HOLDS).then_some(estimate.bytes_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::retry::now;

    const MIB: u64 = 1 << 20;

    /// Acks of 1 MiB, one every 10 ms: 100 MiB/s.
    fn acks(speed: &mut WireSpeed, from: Instant, count: u32, is_ahead: bool, waits: impl Fn(u32) -> u64) -> Instant {
        let at = |number| from + Duration::from_millis(10) * number;
        for number in 0..count {
            speed.acked(MIB, is_ahead, waits(number), at(number));
        }
        at(count)
    }

    fn rounded(speed: &WireSpeed, now: Instant) -> Option<f64> {
        speed.get(now).map(|speed| (speed / 1e6).round())
    }

    #[test]
    fn a_producer_that_is_ahead_sees_the_connections_speed() {
        let mut speed = WireSpeed::default();
        let end = acks(&mut speed, now(), 5, true, |_| 0);
        assert_eq!(speed.get(end), None, "too short");
        let end = acks(&mut speed, end, 20, true, |_| 0);
        assert_eq!(rounded(&speed, end), Some(105.0));
        assert_eq!(speed.get(end + HOLDS), None, "too old");
    }

    #[test]
    fn a_producer_that_is_not_ahead_only_sees_that_it_is_faster() {
        let mut speed = WireSpeed::default();
        let end = acks(&mut speed, now(), 20, false, |_| 0);
        assert_eq!(speed.get(end), None);
        speed.estimate = Some(Estimate { bytes_per_second: 2e8, at: end });
        let end = acks(&mut speed, end, 20, false, |_| 0);
        assert_eq!(rounded(&speed, end), Some(200.0), "it sends less than that by itself");
        speed.estimate = Some(Estimate { bytes_per_second: 1e7, at: end });
        let end = acks(&mut speed, end, 20, false, |_| 0);
        assert_eq!(rounded(&speed, end), Some(105.0));
    }

    #[test]
    fn a_coordinator_without_room_is_not_taken_for_a_slow_connection() {
        let mut speed = WireSpeed::default();
        let end = acks(&mut speed, now(), 200, true, |number| u64::from(number / 5));
        assert_eq!(speed.get(end), None);
    }

    #[test]
    fn the_time_that_a_batch_has_waited_for_room_is_not_the_connections() {
        let mut speed = WireSpeed::default();
        let end = acks(&mut speed, now(), 20, true, |_| 0);
        // It says so when it begins to wait, and the next is the ack of what has waited.
        speed.acked(MIB, true, 1, end);
        speed.acked(0, true, 1, end + Duration::from_millis(1));
        let end = acks(&mut speed, end + Duration::from_secs(4), 3, true, |_| 1);
        assert_eq!(rounded(&speed, end), Some(105.0));
        let end = acks(&mut speed, end, 20, true, |_| 1);
        assert_eq!(rounded(&speed, end), Some(105.0));
    }

    #[test]
    fn another_connection_begins_anew_and_keeps_what_is_known() {
        let mut speed = WireSpeed::default();
        let end = acks(&mut speed, now(), 10, true, |_| 3);
        assert_eq!(rounded(&speed, end), Some(105.0));
        speed.reconnect();
        assert!(speed.sample.is_none());
        assert_eq!(rounded(&speed, end), Some(105.0));
    }
}
