//! What consumers of a shared subscription are told, and say: parts of batches that are leased by themselves, how they are shared,
//! and what becomes of a lease.

use std::sync::Arc;
use std::time::Duration;

use super::{LeaseId, Offset, PartitionId, StreamName, SubscriptionName, Timestamp};

/// Lanes of a subscription whose rows are shared by keys: a row's lane is its key's hash modulo this, and a lane is with one
/// consumer at a time. As many as a mask has bits; more consumers than that have nothing to do.
pub const LANES: u32 = 64;

/// Which rows of a batch are leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Share {
    /// Those from `start` to before `end`.
    Rows {
        /// The first.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// Those whose keys are in these lanes, as a mask: bit 0 is lane 0.
    Lanes(u64),
}

impl Share {
    /// Tells it from the other shares of its batch, and says which comes first.
    pub(super) fn order(self) -> u64 {
        match self {
            Self::Rows { start, .. } => start,
            Self::Lanes(mask) => mask,
        }
    }

    /// How many rows or lanes it names.
    pub(super) fn count(self) -> u64 {
        match self {
            Self::Rows { start, end } => end.saturating_sub(start),
            Self::Lanes(mask) => u64::from(mask.count_ones()),
        }
    }

    /// About how many rows it has of a batch of so many.
    pub(super) fn rows_of(self, rows: u64) -> u64 {
        match self {
            Self::Rows { .. } => self.count(),
            Self::Lanes(_) => part_of(rows, self.count(), u64::from(LANES)),
        }
    }

    /// About how many bytes it has of a batch with so many rows and bytes.
    pub(super) fn bytes_of(self, rows: u64, bytes: u64) -> u64 {
        match self {
            Self::Rows { .. } if rows == 0 => bytes,
            Self::Rows { .. } => part_of(bytes, self.count(), rows),
            Self::Lanes(_) => part_of(bytes, self.count(), u64::from(LANES)),
        }
    }
}

/// `amount` times `part / of`.
pub(super) fn part_of(amount: u64, part: u64, of: u64) -> u64 {
    u64::try_from(u128::from(amount) * u128::from(part) / u128::from(of.max(1))).unwrap_or(u64::MAX)
}

/// How a shared subscription's batches are shared; fixed when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharingRules {
    /// After so many deliveries that failed, what failed goes to the dead letters; 0: never. Default 5.
    pub max_deliveries: u32,
    /// What failed so often is halved, and each half delivered once more, until single rows (or lanes) are left. Default no.
    pub bisect: bool,
    /// The stream of the dead letters.
    pub dead_letters: StreamName,
    /// Columns whose values say which rows belong together: those are never with two consumers at once. None: any rows may be
    /// with anybody. Default none.
    pub keys: Vec<Arc<str>>,
}

/// Deliveries that may fail, unless a subscription says otherwise: Kafka's `group.share.delivery.count.limit` has the same.
pub const MAX_DELIVERIES: u32 = 5;

impl SharingRules {
    /// The defaults, with dead letters in this stream.
    #[must_use]
    pub fn new(dead_letters: StreamName) -> Self {
        Self { max_deliveries: MAX_DELIVERIES, bisect: false, dead_letters, keys: Vec::new() }
    }
}

/// Shortest time for which a consumer may ask to have what it is given: a call must be able to come in between.
pub const ACK_WITHIN_MIN: Duration = Duration::from_millis(100);
/// Longest one, and the longest delay: a day.
pub const ACK_WITHIN_MAX: Duration = Duration::from_hours(24);

/// On which terms a consumer takes part of a shared subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareTerms {
    /// How long it may have what it was given, unless it renews the lease.
    pub ack_within: Duration,
    /// Most rows at once: larger batches are divided.
    pub max_rows: u64,
}

impl Default for ShareTerms {
    /// 30 seconds, as Kafka's `group.share.record.lock.duration.ms` and the visibility timeout of SQS; whole batches.
    fn default() -> Self {
        Self { ack_within: Duration::from_secs(30), max_rows: u64::MAX }
    }
}

/// A share that a consumer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenShare {
    /// What it is acked by.
    pub lease: LeaseId,
    /// The batch's partition.
    pub partition: PartitionId,
    /// The batch's offset.
    pub offset: Offset,
    /// Which rows.
    pub share: Share,
    /// Which delivery of these rows it is: 1 for the first.
    pub delivery: u32,
    /// Batches of its partition of which something was dropped before anybody acked it.
    pub skipped: u64,
}

/// What becomes of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseUpdate {
    /// Its rows are done with.
    Ack(LeaseId),
    /// They could not be: they come again, to anybody, unless that was too often.
    Nack {
        /// Which.
        lease: LeaseId,
        /// Not before so long.
        delay: Duration,
        /// Why.
        reason: Arc<str>,
    },
    /// It lasts so long from now on.
    Renew {
        /// Which.
        lease: LeaseId,
        /// How long.
        lasts: Duration,
    },
    /// The consumer has not begun with them: they go to anybody, and that is no failure.
    Release(LeaseId),
}

impl LeaseUpdate {
    /// Which lease.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        match self {
            Self::Ack(lease) | Self::Release(lease) | Self::Nack { lease, .. } | Self::Renew { lease, .. } => *lease,
        }
    }
}

/// Rows that were delivered too often, and are to go to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dying {
    /// Whose.
    pub subscription: SubscriptionName,
    /// When that was made: tells it from another one of this name.
    pub created_at: Timestamp,
    /// Counts the dead letters of the subscription: no number is used twice.
    pub number: u64,
    /// The batch's partition.
    pub partition: PartitionId,
    /// The batch's offset.
    pub offset: Offset,
    /// Which rows.
    pub share: Share,
    /// Deliveries that failed.
    pub deliveries: u32,
    /// Why the last one did.
    pub reason: Arc<str>,
    /// Since when it is to go.
    pub since: Timestamp,
}

/// What of a share outlives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareSnapshot {
    /// The batch's partition.
    pub partition: PartitionId,
    /// The batch's offset.
    pub offset: Offset,
    /// Which rows.
    pub share: Share,
    /// Deliveries that failed.
    pub failed: u32,
    /// Why the last one did; empty if none has.
    pub reason: Arc<str>,
    /// The number of its dead letter, if it is to be one.
    pub dying: Option<u64>,
}

/// What of a shared subscription outlives a restart: what was given to somebody before and is not acked, and how far that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharesSnapshot {
    /// How it is shared.
    pub rules: SharingRules,
    /// One past the last offset that was given to somebody, and rows of that one; per partition, or per partition and lane.
    pub given: Vec<Vec<(Offset, u64)>>,
    /// What lies before that and is not acked.
    pub open: Vec<ShareSnapshot>,
    /// The number of the next dead letter.
    pub next_number: u64,
}
