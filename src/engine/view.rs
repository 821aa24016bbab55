//! What can be seen of a stream, as plain data: for describe, stats and metrics.

use std::sync::Arc;
use std::time::Duration;

use super::{
    AppenderId, ConsumerId, ConsumerName, Epoch, Eviction, Generation, Limits, Offset, OnOverflow, PartitionId, ProducerId, RunId,
    SharingRules, StreamId, StreamName, StreamState, SubscriptionMode, SubscriptionName, Timestamp,
};

/// A stream at one moment.
#[derive(Debug, Clone)]
pub struct StreamView {
    /// Its name.
    pub name: StreamName,
    /// Tells it from an earlier or later one of the same name.
    pub id: StreamId,
    /// Open, complete or failed.
    pub state: StreamState,
    /// Its limits.
    pub limits: Limits,
    /// Batches in memory, staged and reserved ones too.
    pub buffered_batches: u64,
    /// Bytes in memory.
    pub buffered_bytes: u64,
    /// Batches in the spool.
    pub spooled_batches: u64,
    /// Bytes in the spool.
    pub spooled_bytes: u64,
    /// Batches in the log of a durable stream.
    pub logged_batches: u64,
    /// Bytes in the log.
    pub logged_bytes: u64,
    /// Epochs committed, aborted and replayed since creation.
    pub epochs_committed: u64,
    /// See `epochs_committed`.
    pub epochs_aborted: u64,
    /// See `epochs_committed`.
    pub epochs_replayed: u64,
    /// One per partition.
    pub partitions: Vec<PartitionView>,
    /// By name.
    pub subscriptions: Vec<SubscriptionView>,
    /// By name.
    pub producers: Vec<ProducerView>,
    /// Appenders that wait for room, first in line first.
    pub waiting: Vec<WaitView>,
    /// Whether it was full, and lets nobody in before it has fallen to `resume_percent`.
    pub is_draining: bool,
}

/// What a stream has taken in so far, and holds: the few numbers of a [`StreamView`] that cost little to tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamTotals {
    /// Batches that became visible.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes in memory.
    pub buffered_bytes: u64,
    /// Appenders that wait for room.
    pub waiting: u64,
    /// Epochs committed since creation.
    pub epochs_committed: u64,
}

/// A partition at one moment.
#[derive(Debug, Clone)]
pub struct PartitionView {
    /// Its number.
    pub partition: PartitionId,
    /// Earliest offset kept.
    pub start: Offset,
    /// One past the last visible offset: batches ever appended.
    pub end: Offset,
    /// Visible batches in memory.
    pub buffered_batches: u64,
    /// Bytes of visible batches in memory.
    pub buffered_bytes: u64,
    /// Rows ever appended.
    pub rows_total: u64,
    /// Bytes ever appended.
    pub bytes_total: u64,
    /// How long ago the newest batch became visible; none before the first one since the stream was created or restored.
    pub idle_for: Option<Duration>,
}

/// A subscription at one moment.
#[derive(Debug, Clone)]
pub struct SubscriptionView {
    /// Its name.
    pub name: SubscriptionName,
    /// When it was created.
    pub created_at: Timestamp,
    /// Which of its cursors count: another one after each seek.
    pub generation: Generation,
    /// How its consumers divide its batches.
    pub mode: SubscriptionMode,
    /// How they are shared, of a shared one.
    pub sharing: Option<SharingRules>,
    /// Of a shared one: deliveries that have failed since the coordinator was started: nacks, leases that ran out, consumers that
    /// went away.
    pub failed_deliveries: u64,
    /// Those that have joined it, in the order in which they came. None of one that is static: who reads that need not say so.
    pub consumers: Vec<ConsumerView>,
    /// What it does that holds room which is needed.
    pub on_overflow: OnOverflow,
    /// What it asks of each batch, if it does.
    pub query: Option<Arc<str>>,
    /// Set while it is evicted.
    pub eviction: Option<Eviction>,
    /// One per partition.
    pub partitions: Vec<SubscriptionPartitionView>,
}

/// A consumer that holds leases, at one moment.
#[derive(Debug, Clone)]
pub struct ConsumerView {
    /// Which.
    pub consumer: ConsumerId,
    /// What it calls itself.
    pub name: ConsumerName,
    /// How long ago it joined.
    pub joined_for: Duration,
    /// How long its leases last without another sign of life.
    pub lease_left: Duration,
    /// Batches that it was sent and has not acked.
    pub in_flight_batches: u64,
    /// Their bytes.
    pub in_flight_bytes: u64,
    /// Of a shared subscription: it has let a lease run out, and is given nothing before it goes on.
    pub is_stalled: bool,
    /// What it holds, each with the next offset that it is sent.
    pub partitions: Vec<(PartitionId, Offset)>,
}

/// What of a partition is with the consumers of a shared subscription, or waits for them.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShareView {
    /// The next offset that is given to anybody for the first time.
    pub given: Offset,
    /// Batches of which something is not acked.
    pub lag_batches: u64,
    /// Rows that are not acked.
    pub lag_rows: u64,
    /// About their bytes.
    pub lag_bytes: u64,
    /// Leases.
    pub leased: u64,
    /// The oldest of them: who has it, for how long.
    pub oldest: Option<(ConsumerId, Duration)>,
    /// What came back, and waits for anybody.
    pub waiting: u64,
    /// What is to go to the dead letters.
    pub dying: u64,
    /// For how long, at most.
    pub dying_for: Duration,
}

/// A subscription's place in one partition.
#[derive(Debug, Clone)]
pub struct SubscriptionPartitionView {
    /// The partition.
    pub partition: PartitionId,
    /// One past the last acked batch.
    pub acked: Offset,
    /// One past the last planned batch, if ahead of `acked`.
    pub planned: Offset,
    /// Batches dropped before they were acked.
    pub skipped: u64,
    /// Batches not acked yet.
    pub lag_batches: u64,
    /// Rows not acked yet.
    pub lag_rows: u64,
    /// Bytes not acked yet.
    pub lag_bytes: u64,
    /// Age of the oldest batch not acked yet; zero if there is none.
    pub lag_age: Duration,
    /// How long the oldest batch not acked could have been: since it became visible or the cursor was last moved by an ack or
    /// seek, whichever was later. Zero if there is none. A restart counts anew.
    pub held_for: Duration,
    /// Of a shared subscription.
    pub shares: Option<ShareView>,
    /// When all of it will be acked, if acks and appends go on as in the last 10 to 20 seconds, in batches. None: never, since acks
    /// are not faster than appends.
    pub drains_in: Option<Duration>,
}

/// A producer at one moment.
#[derive(Debug, Clone)]
pub struct ProducerView {
    /// Its id.
    pub producer: ProducerId,
    /// Its valid run.
    pub run: RunId,
    /// Its last committed epoch.
    pub committed: Option<Epoch>,
    /// Whether its signs of life have stopped.
    pub lost: bool,
    /// Its open epochs.
    pub epochs: Vec<EpochView>,
}

/// An open epoch at one moment.
#[derive(Debug, Clone)]
pub struct EpochView {
    /// Its number.
    pub epoch: Epoch,
    /// How long it has been open.
    pub open_for: Duration,
    /// Writers seen.
    pub writers: u64,
    /// Batches staged (with `immediate` visibility: appended, like rows and bytes).
    pub staged_batches: u64,
    /// Rows staged.
    pub staged_rows: u64,
    /// Bytes staged.
    pub staged_bytes: u64,
}

/// An appender that waits for room.
#[derive(Debug, Clone)]
pub struct WaitView {
    /// Which.
    pub appender: AppenderId,
    /// Whose.
    pub producer: ProducerId,
    /// For how many bytes.
    pub bytes: u64,
    /// For how long.
    pub waiting_for: Duration,
}
