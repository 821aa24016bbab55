//! What of a durable stream stays in memory: the newest batches, which most readers want next.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::LoggedBatch;

/// However small batches are, the newest so many bytes stay: to read each of them from the disk costs more than they take.
const SMALL_BYTES: u64 = 64 << 20;

/// The newest batches, at most so many, or 64 MiB of them, and of at most so many bytes. Older ones are read from the disk
/// again.
#[derive(Debug)]
pub struct Cache {
    batches_max: u64,
    bytes_max: u64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Oldest first. Some may be dropped by now; they count until those before them are gone.
    batches: VecDeque<(Weak<LoggedBatch>, u64)>,
    bytes: u64,
}

impl Cache {
    /// An empty one.
    #[must_use]
    pub fn new(batches_max: u64, bytes_max: u64) -> Self {
        Self { batches_max, bytes_max, kept: Mutex::default() }
    }

    /// Keeps a batch that has been written.
    pub fn keep(&self, batch: &Arc<LoggedBatch>, bytes: u64) {
        let mut kept = self.kept.lock();
        kept.batches.push_back((Arc::downgrade(batch), bytes));
        kept.bytes += bytes;
    }

    /// The oldest make room, so that all is within the limits, beside `unwritten` bytes that memory has to hold anyway.
    pub fn make_room(&self, unwritten: u64) {
        let room = self.bytes_max.saturating_sub(unwritten);
        let mut kept = self.kept.lock();
        let are_many = |kept: &Kept| kept.batches.len() as u64 > self.batches_max && kept.bytes > SMALL_BYTES;
        while kept.bytes > room || are_many(&kept) || kept.oldest_is_dropped() {
            kept.let_go_of_oldest();
        }
    }

    /// Batches and bytes that are in memory only to be read faster.
    #[must_use]
    pub fn used(&self) -> (u64, u64) {
        let mut kept = self.kept.lock();
        while kept.oldest_is_dropped() {
            kept.let_go_of_oldest();
        }
        let there = kept.batches.iter().filter(|(batch, _)| batch.strong_count() > 0);
        there.fold((0, 0), |(batches, sum), (_, bytes)| (batches + 1, sum + bytes))
    }
}

impl Kept {
    fn oldest_is_dropped(&self) -> bool {
        self.batches.front().is_some_and(|(batch, _)| batch.strong_count() == 0)
    }

    fn let_go_of_oldest(&mut self) {
        if let Some((batch, bytes)) = self.batches.pop_front() {
            self.bytes -= bytes;
            if let Some(batch) = batch.upgrade() {
                batch.let_go();
            }
        }
    }
}
