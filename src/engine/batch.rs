//! A batch as the engine sees it: a handle to its bytes, and the facts that routing and limits need.

use super::budget::Place;
use super::{Epoch, Offset, ProducerId, Timestamp};

/// What is known of a batch without looking inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchFacts {
    /// Number of rows.
    pub rows: u64,
    /// Bytes that the batch counts for: its message header and body.
    pub bytes: u64,
    /// Who appended it.
    pub producer: ProducerId,
    /// The epoch it came with, if it came with one.
    pub epoch: Option<Epoch>,
    /// When the coordinator took it.
    pub appended_at: Timestamp,
}

/// A batch in a partition.
#[derive(Debug, Clone)]
pub struct Batch<D> {
    /// Its offset.
    pub offset: Offset,
    /// Its facts.
    pub facts: BatchFacts,
    /// The caller's handle to the bytes.
    pub data: D,
    /// Where the bytes are counted.
    pub(super) place: Place,
    /// When it could first be read; while it cannot, when it came. A restart counts anew.
    pub(super) visible_at: Timestamp,
    /// Rows of all earlier batches of the partition, dropped ones too: lag in rows is a subtraction.
    pub(super) rows_before: u64,
    /// Bytes of all earlier batches of the partition.
    pub(super) bytes_before: u64,
    /// When the newest batch of the partition was appended, of all up to this one: a clock may go back, and an epoch's
    /// batches come behind later ones. Rises from batch to batch, so that a time can be looked up.
    pub(super) newest_at: Timestamp,
    /// Its turn in the order of appends over all partitions: the oldest is dropped first under `DropOldest`.
    pub(super) age: u64,
}

/// A batch of an open epoch: no offset yet.
#[derive(Debug)]
pub(super) struct StagedBatch<D> {
    pub(super) partition: super::PartitionId,
    pub(super) facts: BatchFacts,
    pub(super) data: D,
    pub(super) place: Place,
}
