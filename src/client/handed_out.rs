//! What a consumer's caller has been given by leases, and has not acked.

use std::collections::BTreeMap;

use crate::engine::{LeaseId, Offset, PartitionId};

/// The newest lease of each partition of which something was handed out.
#[derive(Debug, Default)]
pub(super) struct HandedOut(BTreeMap<PartitionId, Handed>);

#[derive(Debug, Clone, Copy)]
struct Handed {
    lease: LeaseId,
    /// One past the last batch.
    next: Offset,
    /// One past the last one that was acked.
    acked: Offset,
}

impl HandedOut {
    /// A batch is about to be the caller's.
    pub(super) fn note(&mut self, partition: PartitionId, offset: Offset, lease: Option<LeaseId>) {
        let Some(lease) = lease else { return };
        let new = Handed { lease, next: offset, acked: offset };
        let handed = self.0.entry(partition).or_insert(new);
        if handed.lease != lease {
            *handed = new;
        }
        handed.next = offset.plus(1);
    }

    /// The lease by which a partition's newest batch came.
    pub(super) fn lease(&self, partition: PartitionId) -> Option<LeaseId> {
        self.0.get(&partition).map(|handed| handed.lease)
    }

    /// The caller acks; whether that is its to ack: what is of an older lease, or was not handed out, is not.
    pub(super) fn ack(&mut self, partition: PartitionId, offset: Offset, lease: Option<LeaseId>) -> bool {
        let handed = self.0.get_mut(&partition).filter(|handed| Some(handed.lease) == lease && offset <= handed.next);
        handed.map(|handed| handed.acked = offset.max(handed.acked)).is_some()
    }

    /// Whether something was not acked.
    pub(super) fn has_unacked(&self) -> bool {
        self.0.values().any(|handed| handed.next > handed.acked)
    }
}
