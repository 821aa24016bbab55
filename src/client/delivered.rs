//! A batch as a consumer hands it out.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::Slice;
use super::in_flight::Unacked;
use crate::engine::{Epoch, LeaseId, Offset, PartitionId, Timestamp};

/// A batch and where it came from.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The batch.
    pub batch: RecordBatch,
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset, or its last one if small batches were put together: to be done with it is to ack
    /// [`ack_offset`](Self::ack_offset).
    pub offset: Offset,
    /// The epoch it came with, if it came with one.
    pub epoch: Option<Epoch>,
    /// When the coordinator took it.
    pub appended_at: Timestamp,
    /// What its producer sent along.
    pub user: Bytes,
    /// Bytes of the encoded batch: what it counted for in the coordinator, but for metadata.
    pub bytes: u64,
    /// Whether its columns are plain (numbers, times, booleans, strings, binary), and it came uncompressed: in memory it
    /// has about `bytes`, and such batches can be joined without changing what is in them.
    pub is_plain: bool,
    /// The lease by which it came, of a consumer that shares its subscription by leases.
    pub lease: Option<LeaseId>,
    /// Batches of its partition that were dropped before it and that this consumer was not given, since the stream or the
    /// subscription would rather lose them than hold back producers: the gap is known, and this is how large it is.
    pub skipped: u64,
    /// The first offset whose rows it has: `offset`, unless small batches were put together.
    pub first_offset: Offset,
    /// Of a large batch that was cut: which rows of it these are.
    pub slice: Option<Slice>,
    /// Of a read by epoch: the producer whose epoch it is of. None: it came without an epoch.
    pub producer: Option<Arc<str>>,
    /// Of a read by epoch: whether the epoch is complete with it.
    pub epoch_end: bool,
    /// Which delivery of these rows it is, as far as is known: 1 for the first. More only of a shared subscription.
    pub delivery: u32,
    /// Where it is in its epoch's trace, as the header `traceparent` of W3C Trace Context; none if the coordinator does not trace it.
    pub traceparent: Option<Arc<str>>,
    pub(super) unacked: Unacked,
}

impl Delivered {
    /// What to ack to be done with it and all before it: `offset.plus(1)`, or `offset` while rows of that are still to come.
    #[must_use]
    pub fn ack_offset(&self) -> Offset {
        self.unacked.end.offset
    }

    /// What names it to [`Acker::ack_one`](super::Acker::ack_one).
    #[must_use]
    pub fn unacked(&self) -> Unacked {
        self.unacked
    }
}
