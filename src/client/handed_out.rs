//! By which leases a consumer's caller has been given what it has.

use std::collections::BTreeMap;

use crate::engine::{LeaseId, Offset, PartitionId};

/// The newest lease of each partition of which something was handed out.
#[derive(Debug, Default)]
pub(super) struct HandedOut(BTreeMap<PartitionId, Handed>);

#[derive(Debug, Clone, Copy)]
struct Handed {
    lease: LeaseId,
    /// One past the last batch of which all rows were.
    next: Offset,
}

impl HandedOut {
    /// What goes up to `next` is about to be the caller's; whether what it had of the partition is of another lease.
    pub(super) fn note(&mut self, partition: PartitionId, next: Offset, lease: Option<LeaseId>) -> bool {
        let Some(lease) = lease else { return false };
        self.0.insert(partition, Handed { lease, next }).is_some_and(|former| former.lease != lease)
    }

    /// The lease by which a partition's newest batch came.
    pub(super) fn lease(&self, partition: PartitionId) -> Option<LeaseId> {
        self.0.get(&partition).map(|handed| handed.lease)
    }

    /// Whether this is the caller's to ack: what is of an older lease, or was not handed out, is not.
    pub(super) fn may_ack(&self, partition: PartitionId, offset: Offset, lease: Option<LeaseId>) -> bool {
        self.0.get(&partition).is_some_and(|handed| Some(handed.lease) == lease && offset <= handed.next)
    }
}
