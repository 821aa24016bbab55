//! A subscription: a named cursor over all partitions.

use super::{Offset, Timestamp};

/// A subscription's place in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// One past the last acked batch. Invariant: at least the partition's start.
    pub(super) acked: Offset,
    /// One past the last planned batch; counts only where it is ahead of `acked`.
    pub(super) planned: Offset,
    /// Batches that were dropped before this subscription had acked them (`DropOldest` only).
    pub(super) skipped: u64,
}

impl Cursor {
    pub(super) fn at(offset: Offset) -> Self {
        Self { acked: offset, planned: offset, skipped: 0 }
    }

    /// Batches before this no longer hold back producers on this subscription's behalf.
    pub(super) fn unblocked(&self) -> Offset {
        self.acked.max(self.planned)
    }

    /// Batches before `start` are gone.
    pub(super) fn skip_to(&mut self, start: Offset) {
        self.skipped += start.since(self.acked);
        self.acked = self.acked.max(start);
    }
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) created_at: Timestamp,
    /// One per partition.
    pub(super) cursors: Vec<Cursor>,
}
