//! What of a durable stream outlives a restart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{
    BatchFacts, Dropped, Epoch, Eviction, Generation, Offset, OnOverflow, ProducerId, RunId, SharesSnapshot, StreamOptions, StreamState,
    SubscriptionMode, SubscriptionName, Timestamp,
};

/// A stream as a restart finds it. Open epochs are no part of it: they are run again from their start.
#[derive(Debug, Clone)]
pub struct StreamSnapshot<D> {
    /// Its options.
    pub options: StreamOptions,
    /// Its encoded schema messages, by version.
    pub schemas: Vec<Arc<[u8]>>,
    /// Whether it goes on.
    pub state: StreamState,
    /// Epochs committed, aborted and replayed.
    pub epochs: EpochTotals,
    /// One per partition.
    pub partitions: Vec<PartitionSnapshot<D>>,
    /// By name.
    pub subscriptions: Vec<(SubscriptionName, SubscriptionSnapshot)>,
    /// By name.
    pub producers: Vec<(ProducerId, ProducerSnapshot)>,
}

/// How many epochs there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EpochTotals {
    /// Committed.
    pub committed: u64,
    /// Aborted.
    pub aborted: u64,
    /// Committed again, which changed nothing.
    pub replayed: u64,
}

/// A partition's batches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionSnapshot<D> {
    /// The earliest offset that is kept.
    pub start: Offset,
    /// Rows and bytes of what was before it.
    pub rows_before: u64,
    /// See `rows_before`.
    pub bytes_before: u64,
    /// What is remembered of batches before the start.
    pub dropped: Dropped,
    /// From the start on, without a gap.
    pub batches: Vec<(BatchFacts, D)>,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionSnapshot {
    /// When it was created.
    pub created_at: Timestamp,
    /// Which of its cursors count.
    pub generation: Generation,
    /// How its consumers divide its batches.
    pub mode: SubscriptionMode,
    /// What it does that holds room which is needed.
    pub on_overflow: OnOverflow,
    /// What it asks of each batch, if it does.
    pub query: Option<Arc<str>>,
    /// Set while it is evicted.
    pub eviction: Option<Eviction>,
    /// One per partition.
    pub cursors: Vec<CursorSnapshot>,
    /// Of a shared one.
    pub shares: Option<SharesSnapshot>,
}

/// A subscription's place in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorSnapshot {
    /// One past the last acked batch.
    pub acked: Offset,
    /// One past the last planned batch.
    pub planned: Offset,
    /// Batches that were dropped before they were acked.
    pub skipped: u64,
    /// Those of them that lie directly before `acked`.
    pub gap: u64,
}

/// A producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerSnapshot {
    /// The run that may append and commit.
    pub run: RunId,
    /// Runs that were taken over, oldest first.
    pub superseded: Vec<RunId>,
    /// Its last committed epoch.
    pub committed: Option<Epoch>,
    /// What its run appends next without an epoch.
    pub next_ordinal: u64,
    /// Ordinals beyond that whose batches are stored already.
    pub stored_ahead: BTreeSet<u64>,
    /// How long a sign of life lasts, if it gives any: counted anew from the restart.
    pub lease: Option<Duration>,
}
