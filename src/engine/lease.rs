//! What consumers that share a subscription are told, and say: modes, leases, limits.

use std::str::FromStr;

use super::{LeaseId, Offset, PartitionId};

/// How the consumers of a subscription divide its batches; fixed when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SubscriptionMode {
    /// By themselves: each reads the partitions that it names, or all. The default.
    #[default]
    Static,
    /// Each partition is leased to one consumer at a time.
    Partitioned,
    /// Any consumer is given the next rows, leased by themselves.
    Shared,
}

impl SubscriptionMode {
    /// As it is written in options, commands and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Partitioned => "partitioned",
            Self::Shared => "shared",
        }
    }
}

/// A mode that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no mode of a subscription; use \"static\", \"partitioned\" or \"shared\"")]
pub struct ModeError(String);

impl FromStr for SubscriptionMode {
    type Err = ModeError;

    fn from_str(name: &str) -> Result<Self, ModeError> {
        match name {
            "static" => Ok(Self::Static),
            "partitioned" => Ok(Self::Partitioned),
            "shared" => Ok(Self::Shared),
            other => Err(ModeError(other.to_owned())),
        }
    }
}

/// How much a consumer may have been sent that it has not acked. One batch always, however large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// Batches.
    pub batches: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Default for InFlight {
    /// No limit.
    fn default() -> Self {
        Self { batches: u64::MAX, bytes: u64::MAX }
    }
}

/// A consumer's lease on a partition, as the consumer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// The partition.
    pub partition: PartitionId,
    /// The lease: another one each time that the partition is leased.
    pub lease: LeaseId,
    /// Another consumer is to have it: what was not handed to the caller yet is to be given back, and it goes over as soon as
    /// the rest is acked.
    pub is_wanted: bool,
}

/// An offset of a partition, said by who has its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeasedOffset {
    /// The partition.
    pub partition: PartitionId,
    /// The lease.
    pub lease: LeaseId,
    /// One past the last batch that is meant.
    pub offset: Offset,
}

/// Batches that a consumer is given, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// What it acks them by.
    pub lease: LeaseId,
    /// Their partition.
    pub partition: PartitionId,
    /// The first one's offset.
    pub first: Offset,
    /// Batches that were dropped before it and that the consumer was not sent.
    pub skipped: u64,
    /// How many.
    pub batches: u64,
}
