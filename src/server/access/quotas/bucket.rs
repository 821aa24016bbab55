//! A bucket: how fast one principal's bytes may pass. It fills by time, and lets a message pass whole as soon as it owes nothing, so
//! that one of any size passes; what the bucket lacked for it is owed then.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// What may pass at once by who has been quiet, as time: as many bytes as pass in it.
const BURST: Duration = Duration::from_secs(1);

/// Bytes per second, of whoever shares the bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    bytes_per_second: u64,
    /// When all that has passed would have passed, one after the other.
    full_at: Mutex<Instant>,
    /// One waits for the bucket, and the others for their turn, in the order in which they came.
    turn: Semaphore,
}

impl Bucket {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, full_at: Mutex::new(Instant::now()), turn: Semaphore::new(1) }
    }

    /// Takes what is sent or was received.
    pub(super) fn charge(&self, bytes: u64) {
        let mut full_at = self.full_at.lock();
        *full_at = self.later((*full_at).max(Instant::now()), bytes);
    }

    /// Waits until nothing is owed, and takes these bytes.
    ///
    /// # Cancel safety
    /// Nothing is taken, and the next one has its turn.
    pub(super) async fn pass(&self, bytes: u64) {
        // It is never closed, so that this is always a turn.
        let _turn = self.turn.acquire().await;
        while let Err(due) = self.try_pass(bytes) {
            tokio::time::sleep_until(due).await;
        }
    }

    /// Whether something is owed.
    pub(super) fn owes(&self) -> bool {
        *self.full_at.lock() > Instant::now() + BURST
    }

    fn try_pass(&self, bytes: u64) -> Result<(), Instant> {
        let (mut full_at, now) = (self.full_at.lock(), Instant::now());
        if *full_at > now + BURST {
            return Err(*full_at - BURST);
        }
        *full_at = self.later((*full_at).max(now), bytes);
        Ok(())
    }

    /// When so many bytes would have passed that begin at `since`.
    fn later(&self, since: Instant, bytes: u64) -> Instant {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        since.checked_add(takes).unwrap_or(since)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_passes_in_the_long_run_is_the_rate_and_a_second_of_it() {
        let (bucket, began) = (Bucket::new(1000), Instant::now());
        for _ in 0..100 {
            bucket.pass(100).await;
        }
        // 10,000 bytes: 1000 at once, the last one before its own 100 bytes are there.
        assert_eq!(began.elapsed().as_millis(), 10_000 - 1000 - 100);
        assert!(bucket.owes(), "those, until they are");
        tokio::time::sleep(Duration::from_secs(100)).await;
        let again = Instant::now();
        for _ in 0..21 {
            bucket.pass(100).await;
        }
        assert_eq!(again.elapsed().as_secs(), 1, "quiet time is saved up to a second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_larger_than_the_burst_passes_and_is_owed() {
        let (bucket, began) = (Bucket::new(1000), Instant::now());
        bucket.pass(30_000).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(bucket.owes());
        bucket.pass(1).await;
        assert_eq!(began.elapsed().as_secs(), 29);
        bucket.charge(u64::MAX);
        assert!(bucket.owes() && bucket.pass(0).now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_while_it_waits_takes_nothing_and_holds_up_nobody() {
        let (bucket, began) = (Bucket::new(1000), Instant::now());
        bucket.pass(5000).await;
        for _ in 0..100 {
            assert!(tokio::time::timeout(Duration::from_millis(10), bucket.pass(1 << 30)).await.is_err());
        }
        bucket.pass(1000).await;
        assert_eq!(began.elapsed().as_secs(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_have_their_turn_in_the_order_in_which_they_came() {
        let (bucket, came) = (Bucket::new(1000), Mutex::new(Vec::new()));
        bucket.charge(3000);
        let one = |number: u32| {
            let (bucket, came) = (&bucket, &came);
            async move {
                bucket.pass(2000).await;
                came.lock().push(number);
            }
        };
        tokio::join!(one(0), one(1), one(2));
        assert_eq!(*came.lock(), [0, 1, 2]);
    }
}
