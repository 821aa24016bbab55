//! Leases as a consumer knows them: which batches are still of use, and what is to be given back. A plain state machine under the
//! prefetch's lock.

use std::collections::BTreeMap;

use super::ready::Origin;
use crate::engine::{Holding, LeaseId, LeasedOffset, Offset, PartitionId};

/// What is known of the lease on a partition.
#[derive(Debug, Clone, Copy)]
struct Held {
    lease: LeaseId,
    /// One past the last batch that the caller's side has taken.
    handed: Option<Offset>,
    /// No more of it is wanted: another consumer is to have the partition.
    is_given_back: bool,
}

/// The leases of a consumer.
#[derive(Debug, Default)]
pub(super) struct HeldLeases {
    held: BTreeMap<PartitionId, Held>,
}

/// What a batch is that comes by a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receipt {
    /// Of a lease that is lost or given back.
    Stale,
    /// The first by this lease: what is there of an older one is of no more use.
    First,
    Next,
}

impl HeldLeases {
    /// A batch has come by a lease.
    pub(super) fn receive(&mut self, partition: PartitionId, lease: LeaseId) -> Receipt {
        match self.held.get(&partition) {
            Some(held) if held.lease > lease || (held.lease == lease && held.is_given_back) => Receipt::Stale,
            Some(held) if held.lease == lease => Receipt::Next,
            _ => {
                self.held.insert(partition, Held { lease, handed: None, is_given_back: false });
                Receipt::First
            }
        }
    }

    /// The caller's side takes a batch.
    pub(super) fn hand_out(&mut self, origin: &Origin) {
        let Some(lease) = origin.lease else { return };
        if let Some(held) = self.held.get_mut(&origin.partition).filter(|held| held.lease == lease) {
            held.handed = Some(origin.offset.plus(1));
        }
    }

    /// Forgets the leases that are not held any more, and says on which partitions.
    ///
    /// One that is newer than the `newest` that the coordinator knew was given while the answer was on its way.
    pub(super) fn keep(&mut self, holdings: &[Holding], newest: LeaseId) -> Vec<PartitionId> {
        let is_held = |partition: PartitionId, held: &Held| {
            held.lease > newest || holdings.iter().any(|holding| holding.partition == partition && holding.lease == held.lease)
        };
        let lost: Vec<_> = self.held.iter().filter(|(partition, held)| !is_held(**partition, held)).map(|(id, _)| *id).collect();
        for partition in &lost {
            self.held.remove(partition);
        }
        lost
    }

    /// From where on each partition is given back that another consumer is to have.
    pub(super) fn wanted(&mut self, holdings: &[Holding]) -> Vec<LeasedOffset> {
        let mut wanted = Vec::new();
        // What was given back, and is not wanted all the same: the word of it got lost on its way, and nothing more comes by that lease.
        let is_deaf =
            |holding: &&Holding| self.held.get(&holding.partition).is_some_and(|held| held.lease == holding.lease && held.is_given_back);
        let asked: Vec<_> = holdings.iter().filter(|holding| holding.is_wanted || is_deaf(holding)).collect();
        for Holding { partition, lease, .. } in asked {
            let new = Held { lease: *lease, handed: None, is_given_back: true };
            let held = self.held.entry(*partition).or_insert(new);
            if held.lease < *lease {
                *held = new;
            }
            if held.lease == *lease {
                held.is_given_back = true;
                // Nothing handed: from wherever the cursor is.
                wanted.push(LeasedOffset { partition: *partition, lease: *lease, offset: held.handed.unwrap_or_default() });
            }
        }
        wanted
    }

    /// The leases that are held, for a new connection, and of those that are given back one past the last batch that was handed out: the
    /// coordinator may not have heard of that yet.
    pub(super) fn receiving(&self) -> impl Iterator<Item = (PartitionId, LeaseId, Option<Offset>)> {
        let given_back = |held: &Held| held.is_given_back.then(|| held.handed.unwrap_or_default());
        self.held.iter().map(move |(partition, held)| (*partition, held.lease, given_back(held)))
    }

    /// Whether what came by this lease may still be acked.
    pub(super) fn holds(&self, partition: PartitionId, lease: LeaseId) -> bool {
        self.held.get(&partition).is_some_and(|held| held.lease == lease)
    }

    /// The partitions that are held.
    pub(super) fn partitions(&self) -> Vec<PartitionId> {
        self.held.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PartitionId = PartitionId(0);
    const Q: PartitionId = PartitionId(1);

    fn origin(partition: PartitionId, lease: u64, offset: u64) -> Origin {
        let appended_at = crate::engine::Timestamp(0);
        let user = bytes::Bytes::new();
        Origin {
            partition,
            offset: Offset(offset),
            epoch: None,
            appended_at,
            user,
            bytes: 1,
            lease: Some(LeaseId(lease)),
            skipped: 0,
            first_offset: Offset(offset),
            slice: None,
            producer: None,
            epoch_end: false,
            delivery: 1,
            traceparent: None,
        }
    }

    fn holding(partition: PartitionId, lease: u64, is_wanted: bool) -> Holding {
        Holding { partition, lease: LeaseId(lease), is_wanted }
    }

    #[test]
    fn what_came_by_an_older_lease_is_of_no_more_use() {
        let mut held = HeldLeases::default();
        let receipts = [1, 1, 2, 1, 2].map(|lease| held.receive(P, LeaseId(lease)));
        assert_eq!(receipts, [Receipt::First, Receipt::Next, Receipt::First, Receipt::Stale, Receipt::Next]);
        assert!(held.holds(P, LeaseId(2)) && !held.holds(P, LeaseId(1)) && !held.holds(Q, LeaseId(2)));
    }

    #[test]
    fn leases_that_are_held_no_more_are_forgotten_but_not_those_that_are_newer_than_the_answer() {
        let mut held = HeldLeases::default();
        for (partition, lease) in [(0, 1), (1, 2), (2, 5)] {
            held.receive(PartitionId(partition), LeaseId(lease));
        }
        assert_eq!(held.keep(&[holding(P, 3, false), holding(Q, 2, false)], LeaseId(4)), [P], "leased anew, and nothing came by it yet");
        assert_eq!(held.partitions(), [Q, PartitionId(2)]);
        assert_eq!(held.keep(&[], LeaseId(5)), [Q, PartitionId(2)]);
    }

    #[test]
    fn leases_with_lower_numbers_count_once_the_former_are_known_to_be_lost() {
        let mut held = HeldLeases::default();
        assert_eq!(held.receive(P, LeaseId(90)), Receipt::First);
        assert_eq!(held.keep(&[holding(P, 7, false)], LeaseId(7)), [], "it may be newer than the answer");
        assert_eq!(held.receive(P, LeaseId(7)), Receipt::Stale);
        // The coordinator has been started again, by a clock that has gone back; nothing is on its way.
        assert_eq!(held.keep(&[holding(P, 7, true)], LeaseId(u64::MAX)), [P]);
        let wanted = held.wanted(&[holding(P, 7, true)]);
        assert_eq!(wanted, [LeasedOffset { partition: P, lease: LeaseId(7), offset: Offset(0) }]);
        assert_eq!(held.receive(P, LeaseId(8)), Receipt::First);
    }

    #[test]
    fn what_is_wanted_is_given_back_from_what_was_not_handed_out() {
        let mut held = HeldLeases::default();
        let receipts = [(); 3].map(|()| held.receive(P, LeaseId(1)));
        assert_eq!(receipts, [Receipt::First, Receipt::Next, Receipt::Next]);
        held.hand_out(&origin(P, 1, 6));
        let wanted = held.wanted(&[holding(P, 1, true), holding(Q, 2, true), holding(PartitionId(2), 3, false)]);
        let given = |partition, lease, offset| LeasedOffset { partition, lease: LeaseId(lease), offset: Offset(offset) };
        assert_eq!(wanted, [given(P, 1, 7), given(Q, 2, 0)]);
        assert_eq!(held.receive(P, LeaseId(1)), Receipt::Stale, "no more by this lease");
        assert_eq!(held.receive(Q, LeaseId(2)), Receipt::Stale);
        let left: Vec<_> = held.receiving().collect();
        assert_eq!(left, [(P, LeaseId(1), Some(Offset(7))), (Q, LeaseId(2), Some(Offset(0)))]);
        let again = held.wanted(&[holding(P, 1, false)]);
        assert_eq!(again, [given(P, 1, 7)], "the coordinator has not heard of it");
        assert_eq!(held.receive(P, LeaseId(4)), Receipt::First, "it came back by another one");
        assert!(held.holds(Q, LeaseId(2)), "what was handed out may be acked");
    }
}
