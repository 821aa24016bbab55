//! What happens where room runs out: what a subscription does then that holds it, that one was evicted, and who holds back whom.

use std::fmt;
use std::time::Duration;

use super::{Offset, PartitionId, SubscriptionName, Timestamp};

/// What a subscription does that holds the room which an append needs, before the stream's [`FullPolicy`](super::FullPolicy) is asked.
///
/// Only those that hold the oldest batches with no help of others do anything, and only if it makes enough room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnOverflow {
    /// It holds them: what it has not acked is dropped only if the stream's policy is to drop. The default.
    #[default]
    Hold,
    /// Its cursor moves on: the oldest batches are dropped for it alone, counted as skipped, and its consumers are told of the gap.
    Skip,
    /// It is evicted: it holds nothing any more, and its consumers are refused until a seek puts it somewhere.
    Evict,
}

impl OnOverflow {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Hold, Self::Skip, Self::Evict];

    /// "hold", "skip" or "evict".
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Skip => "skip",
            Self::Evict => "evict",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

/// That a subscription was evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eviction {
    /// When.
    pub at: Timestamp,
    /// Batches that it had not acked then.
    pub lag_batches: u64,
    /// Their bytes.
    pub lag_bytes: u64,
    /// Size of the batch for which there was no room.
    pub needed_bytes: u64,
}

impl fmt::Display for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, lag_batches, lag_bytes, needed_bytes } = self;
        let at = at.rfc3339();
        write!(f, "at {at}: it had not acked {lag_batches} batches ({lag_bytes} bytes), and {needed_bytes} bytes of room were needed")
    }
}

/// The subscription that has held back producers for longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBy {
    /// Its name.
    pub subscription: SubscriptionName,
    /// Where it holds the oldest batch that it has neither acked nor planned.
    pub partition: PartitionId,
    /// That batch.
    pub offset: Offset,
    /// How long it could have acked it.
    pub held_for: Duration,
}

impl fmt::Display for HeldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subscription, partition, offset, held_for } = self;
        write!(f, "subscription {subscription} has held offset {offset} of partition {partition} for {:.3} s", held_for.as_secs_f64())
    }
}

/// What a stream holds where it is full, and how much that may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Bytes held.
    pub bytes: u64,
    /// Most of them.
    pub bytes_max: u64,
    /// Batches held, and the most of them; none where only bytes count: in a log.
    pub batches: Option<(u64, u64)>,
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, bytes_max, batches } = self;
        match batches {
            Some((held, most)) => write!(f, "{held} of {most} batches and {bytes} of {bytes_max} bytes are buffered"),
            None => write!(f, "{bytes} of {bytes_max} bytes of the log are used"),
        }
    }
}
