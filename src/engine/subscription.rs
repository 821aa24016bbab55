//! A subscription: a named cursor over all partitions.

use std::sync::Arc;

use super::lease::SubscriptionMode;
use super::leases::Leases;
use super::meter::Meter;
use super::shares::Shares;
use super::{Eviction, Generation, Offset, OnOverflow, Timestamp};

/// A subscription's place in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// One past the last acked batch. Invariant: at least the partition's start, unless the subscription is evicted.
    pub(super) acked: Offset,
    /// One past the last planned batch; counts only where it is ahead of `acked`.
    pub(super) planned: Offset,
    /// Batches that were dropped before this subscription had acked them: `DropOldest` and `OnOverflow` only.
    pub(super) skipped: u64,
    /// Those of them that lie directly before `acked`: dropped since the last ack or seek.
    pub(super) gap: u64,
    /// When it last moved by an ack or seek, or was made; what is dropped under it moves it and does not count. A restart counts anew.
    pub(super) moved_at: Timestamp,
    /// Batches that were acked lately. A restart counts anew.
    pub(super) acks: Meter,
}

impl Cursor {
    pub(super) fn at(offset: Offset, now: Timestamp) -> Self {
        Self { acked: offset, planned: offset, skipped: 0, gap: 0, moved_at: now, acks: Meter::since(now) }
    }

    /// All before `offset` is acked; never moves back.
    pub(super) fn ack(&mut self, offset: Offset, now: Timestamp) {
        if offset > self.acked {
            self.acks.count(offset.since(self.acked), now);
            (self.acked, self.gap) = (offset, 0);
            self.moved_at = now;
        }
    }

    /// Goes on at `offset`, forwards or backwards.
    pub(super) fn seek(&mut self, offset: Offset, now: Timestamp) {
        if offset != self.acked {
            self.moved_at = now;
        }
        (self.acked, self.planned, self.gap) = (offset, offset, 0);
    }

    /// Where it was before what was dropped moved it: who goes on there is told of the gap.
    pub(super) fn before_gap(&self) -> Offset {
        Offset(self.acked.0.saturating_sub(self.gap))
    }

    /// Batches before this no longer hold back producers on this subscription's behalf.
    pub(super) fn unblocked(&self) -> Offset {
        self.acked.max(self.planned)
    }

    /// Batches before `start` are gone.
    pub(super) fn skip_to(&mut self, start: Offset) {
        let gone = start.since(self.acked);
        self.skipped += gone;
        self.gap += gone;
        self.acked = self.acked.max(start);
    }
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) created_at: Timestamp,
    pub(super) generation: Generation,
    pub(super) on_overflow: OnOverflow,
    /// What it asks of each batch; its consumers get the answers.
    pub(super) query: Option<Arc<str>>,
    /// Set while it is evicted: then it holds nothing, and its cursors stay where they were.
    pub(super) eviction: Option<Eviction>,
    /// One per partition.
    pub(super) cursors: Vec<Cursor>,
    /// Of a partitioned one.
    pub(super) leases: Option<Leases>,
    /// Of a shared one.
    pub(super) shares: Option<Shares>,
}

impl Subscription {
    pub(super) fn new(mode: SubscriptionMode, created_at: Timestamp, generation: Generation, cursors: Vec<Cursor>) -> Self {
        let leases = (mode == SubscriptionMode::Partitioned).then(|| Leases::new(cursors.len()));
        Self { created_at, generation, on_overflow: OnOverflow::default(), query: None, eviction: None, cursors, leases, shares: None }
    }

    pub(super) fn mode(&self) -> SubscriptionMode {
        match (&self.leases, &self.shares) {
            (_, Some(_)) => SubscriptionMode::Shared,
            (Some(_), None) => SubscriptionMode::Partitioned,
            (None, None) => SubscriptionMode::Static,
        }
    }

    /// Batches of a partition before `start` are gone; whether consumers are to look again.
    pub(super) fn skip_to(&mut self, index: usize, start: Offset) -> bool {
        let cursor = &mut self.cursors[index];
        let is_behind = cursor.acked < start;
        cursor.skip_to(start);
        let Some(shares) = self.shares.as_mut().filter(|_| is_behind) else { return false };
        let is_news = shares.drop_before(index, start);
        // What lies there may be acked already.
        cursor.acked = cursor.acked.max(shares.acked(index));
        is_news
    }

    /// Whether anything stays because of it.
    pub(super) fn holds(&self) -> bool {
        self.eviction.is_none()
    }

    /// From now on its cursors are others than before. Time makes the number one that no subscription of this name had,
    /// also one that was deleted before.
    pub(super) fn renew(&mut self, now: Timestamp) {
        self.generation = Generation(now.0.max(self.generation.0.saturating_add(1)));
    }
}
