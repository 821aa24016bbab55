//! What a consumer has handed out and is not acked yet: to bound it, and to make of single acks what a subscription knows,
//! which is a cursor per partition.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::acks::Acked;
use super::handed_out::HandedOut;
use super::options::Offsets;
use super::ready::Origin;
use crate::engine::{Epoch, Generation, LeaseId, Offset, PartitionId};

/// Batches of a partition that are told apart: without a limit of the caller's, more of them are the oldest ones' share of one
/// entry, which single acks do not reach.
const TOLD_APART_MAX: usize = 64 << 10;

/// Where a batch ends: all of its offset, or within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct End {
    /// One past the last offset of which all rows are handed out.
    pub(super) offset: Offset,
    /// Rows of that offset that are handed out, too.
    pub(super) rows: u64,
}

/// Names a batch that was delivered, without keeping it: what it takes to ack it by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unacked {
    pub(super) partition: PartitionId,
    pub(super) end: End,
    pub(super) generation: Option<Generation>,
    /// The lease by which it came.
    pub(super) lease: Option<LeaseId>,
}

impl Unacked {
    /// The batch of a partition that ends before `offset` or, if `rows` is not 0, with so many rows of that; `generation` is what
    /// it was read for, `lease` by which it came (none: the newest one on the partition, if there is any). For bindings, which cannot hold on to a [`Delivered`](super::Delivered).
    #[must_use]
    pub fn new(partition: PartitionId, offset: Offset, rows: u64, generation: Option<Generation>, lease: Option<LeaseId>) -> Self {
        Self { partition, end: End { offset, rows }, generation, lease }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Held,
    Acked,
    /// Several batches, which are acked by those that ack all before an offset.
    Merged,
}

#[derive(Debug)]
struct Entry {
    end: End,
    batches: u64,
    bytes: u64,
    state: State,
    /// Of a share of an epoch: whose, and which.
    epoch: Option<(Arc<str>, Epoch)>,
}

/// Batches that are handed out and not acked, and no more of them than the limits say.
#[derive(Debug)]
pub(super) struct InFlight {
    batches_max: u64,
    bytes_max: u64,
    /// Whether there is anything to be acked at all.
    is_counted: bool,
    by_epoch: bool,
    partitions: BTreeMap<PartitionId, VecDeque<Entry>>,
    batches: u64,
    bytes: u64,
    /// Which of the subscription's cursors they were read for.
    generation: Option<Generation>,
    /// After a seek, one past the last batch handed out since, of each partition: more is not the caller's to ack.
    handed: Option<Offsets>,
    /// By which leases, if the subscription is shared by leases.
    leased: Option<HandedOut>,
    /// Of the batch that was handed out last: acks go by it.
    batch_bytes: u64,
}

/// What is held, and how much may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) batches: u64,
    pub(super) bytes: u64,
    pub(super) batches_max: u64,
    pub(super) bytes_max: u64,
}

impl Held {
    /// Whether somebody may have to wait.
    pub(super) fn is_limited(&self) -> bool {
        self.batches_max != u64::MAX || self.bytes_max != u64::MAX
    }
}

impl InFlight {
    /// `limits`: batches and bytes. `by_epoch`: a partition's share of an epoch is acked as one. `leased`: for what comes by leases.
    pub(super) fn new(
        is_counted: bool,
        by_epoch: bool,
        (batches_max, bytes_max): (Option<u64>, Option<u64>),
        generation: Option<Generation>,
        leased: Option<HandedOut>,
    ) -> Self {
        Self {
            by_epoch,
            batches_max: batches_max.unwrap_or(u64::MAX).max(1),
            bytes_max: bytes_max.unwrap_or(u64::MAX),
            is_counted,
            partitions: BTreeMap::new(),
            batches: 0,
            bytes: 0,
            generation,
            handed: None,
            leased,
            batch_bytes: 0,
        }
    }

    /// Which of the subscription's cursors the batches were read for that were handed out last.
    pub(super) fn generation(&self) -> Option<Generation> {
        self.generation
    }

    pub(super) fn batch_bytes(&self) -> u64 {
        self.batch_bytes
    }

    /// Whether a batch of `bytes` that was read for these cursors has to wait until something is acked. What was handed out
    /// before a seek does not count, for it cannot be acked; and one batch may be handed out, however large.
    pub(super) fn is_full_for(&self, bytes: u64, generation: Option<Generation>) -> bool {
        let fits = self.batches < self.batches_max && self.bytes.saturating_add(bytes) <= self.bytes_max;
        generation == self.generation && self.batches > 0 && !fits
    }

    pub(super) fn held(&self) -> Held {
        let Self { batches, bytes, batches_max, bytes_max, .. } = *self;
        Held { batches, bytes, batches_max, bytes_max }
    }

    /// A batch is about to be the caller's.
    pub(super) fn hand_out(&mut self, origin: &Origin, generation: Option<Generation>) -> Unacked {
        if self.generation != generation {
            self.generation = generation;
            self.handed = Some(Offsets::new());
            self.partitions.clear();
            (self.batches, self.bytes) = (0, 0);
        }
        let (partition, end, lease) = (origin.partition, origin.end(), origin.lease);
        if self.leased.as_mut().is_some_and(|leased| leased.note(partition, end.offset, lease)) {
            self.forget(partition);
        }
        if let Some(handed) = &mut self.handed {
            handed.insert(partition, end.offset);
        }
        self.batch_bytes = origin.bytes / (origin.offset.since(origin.first_offset) + 1);
        if self.is_counted {
            let entries = self.partitions.entry(partition).or_default();
            let epoch = origin.producer.clone().zip(origin.epoch).filter(|_| self.by_epoch);
            match entries.back_mut().filter(|last| epoch.is_some() && last.epoch == epoch && last.state == State::Held) {
                Some(last) => (last.end, last.batches, last.bytes) = (end, last.batches + 1, last.bytes.saturating_add(origin.bytes)),
                None => entries.push_back(Entry { end, batches: 1, bytes: origin.bytes, state: State::Held, epoch }),
            }
            if entries.len() > TOLD_APART_MAX && self.batches_max == u64::MAX {
                merge_oldest(entries);
            }
            self.batches += 1;
            self.bytes = self.bytes.saturating_add(origin.bytes);
        }
        Unacked { partition, end, generation, lease }
    }

    /// What was handed out of a partition by a lease that is lost comes again, and is not to be acked.
    fn forget(&mut self, partition: PartitionId) {
        for entry in self.partitions.remove(&partition).into_iter().flatten() {
            self.batches -= entry.batches;
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
    }

    /// What was handed out by leases that are lost leaves its room to others. It is the caller's to ack all the same, and hears that
    /// its lease is lost then.
    pub(super) fn release_lost(&mut self, holds: impl Fn(PartitionId, LeaseId) -> bool) {
        let Some(leased) = &self.leased else { return };
        for (partition, entries) in &mut self.partitions {
            if leased.lease(*partition).is_none_or(|lease| holds(*partition, lease)) {
                continue;
            }
            for entry in entries {
                self.batches -= std::mem::take(&mut entry.batches);
                self.bytes = self.bytes.saturating_sub(std::mem::take(&mut entry.bytes));
            }
        }
    }

    /// Whether something that was handed out is not acked, and comes again unless it is.
    pub(super) fn has_unacked(&self) -> bool {
        self.batches > 0
    }

    /// The caller is done with all before `offset`: up to where that is to be acked, which may be further, and none where it is
    /// not the caller's to ack. What single acks have left open before it is closed by this. Of leases the newest counts.
    pub(super) fn ack(&mut self, partition: PartitionId, offset: Offset) -> Option<Acked> {
        self.ack_by(partition, offset, self.newest_lease(partition))
    }

    fn newest_lease(&self, partition: PartitionId) -> Option<LeaseId> {
        self.leased.as_ref()?.lease(partition)
    }

    /// The same for what came by this lease.
    pub(super) fn ack_by(&mut self, partition: PartitionId, offset: Offset, lease: Option<LeaseId>) -> Option<Acked> {
        self.ack_to(partition, End { offset, rows: 0 }, lease)
    }

    /// The same for this batch and all before it.
    pub(super) fn ack_through(&mut self, unacked: &Unacked) -> Option<Acked> {
        let Unacked { partition, end, generation, lease } = *unacked;
        let lease = lease.or_else(|| self.newest_lease(partition));
        if generation == self.generation { self.ack_to(partition, end, lease) } else { None }
    }

    fn ack_to(&mut self, partition: PartitionId, end: End, lease: Option<LeaseId>) -> Option<Acked> {
        let lease = match &self.leased {
            Some(leased) if leased.may_ack(partition, end.offset, lease) => lease,
            Some(_) => return None,
            None => None,
        };
        if self.handed.as_ref().is_some_and(|handed| handed.get(&partition).is_none_or(|handed| end.offset > *handed)) {
            return None;
        }
        let reached = self.release(partition, |entry| entry.end <= end);
        let offset = reached.map_or(end.offset, |reached| reached.offset.max(end.offset));
        Some(Acked { partition, offset, lease })
    }

    /// The caller is done with this batch: up to where that is to be acked, none while one before it is not.
    pub(super) fn ack_one(&mut self, unacked: &Unacked) -> Option<Acked> {
        let Unacked { partition, end, generation, lease } = *unacked;
        let lease = lease.or_else(|| self.newest_lease(partition));
        if generation != self.generation || self.leased.as_ref().is_some_and(|leased| !leased.may_ack(partition, end.offset, lease)) {
            return None;
        }
        let entries = self.partitions.get_mut(&partition)?;
        let index = entries.partition_point(|entry| entry.end < end);
        let entry = entries.get_mut(index).filter(|entry| entry.end == end && entry.state == State::Held)?;
        entry.state = State::Acked;
        // Room for others, even if no cursor moves.
        self.batches -= entry.batches;
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        (entry.batches, entry.bytes) = (0, 0);
        self.release(partition, |_| false).map(|end| Acked { partition, offset: end.offset, lease })
    }

    /// Forgets the oldest ones that are acked or that `is_done` says; how far that goes.
    fn release(&mut self, partition: PartitionId, is_done: impl Fn(&Entry) -> bool) -> Option<End> {
        let entries = self.partitions.get_mut(&partition)?;
        let mut reached = None;
        while let Some(entry) = entries.front().filter(|entry| entry.state == State::Acked || is_done(entry)) {
            self.batches -= entry.batches;
            self.bytes = self.bytes.saturating_sub(entry.bytes);
            reached = Some(entry.end);
            entries.pop_front();
        }
        reached
    }
}

fn merge_oldest(entries: &mut VecDeque<Entry>) {
    if let Some(oldest) = entries.pop_front()
        && let Some(next) = entries.front_mut()
    {
        next.batches += oldest.batches;
        next.bytes = next.bytes.saturating_add(oldest.bytes);
        next.state = State::Merged;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::ready::Slice;
    use super::*;
    use crate::engine::Timestamp;

    const P: PartitionId = PartitionId(0);

    fn origin(offset: u64, bytes: u64) -> Origin {
        Origin {
            partition: P,
            offset: Offset(offset),
            epoch: None,
            appended_at: Timestamp::default(),
            user: Bytes::new(),
            bytes,
            lease: None,
            skipped: 0,
            first_offset: Offset(offset),
            slice: None,
            producer: None,
            epoch_end: false,
            delivery: 1,
            traceparent: None,
        }
    }

    fn handed(in_flight: &mut InFlight, offsets: std::ops::Range<u64>) -> Vec<Unacked> {
        offsets.map(|offset| in_flight.hand_out(&origin(offset, 10), None)).collect()
    }

    #[test]
    fn single_acks_move_the_cursor_once_the_gap_closes() {
        let mut in_flight = InFlight::new(true, false, (None, None), None, None);
        let batches = handed(&mut in_flight, 5..9);
        assert_eq!(in_flight.ack_one(&batches[1]), None);
        assert_eq!(in_flight.ack_one(&batches[2]), None);
        assert_eq!(in_flight.ack_one(&batches[1]), None, "twice is once");
        assert_eq!(in_flight.held().batches, 2, "those acked out of order are held no more");
        assert_eq!(in_flight.ack_one(&batches[0]).map(|acked| acked.offset), Some(Offset(8)));
        assert_eq!(in_flight.ack_one(&batches[0]), None);
        assert_eq!(in_flight.ack_one(&batches[3]).map(|acked| acked.offset), Some(Offset(9)));
        assert_eq!((in_flight.held().batches, in_flight.held().bytes), (0, 0));
    }

    #[test]
    fn an_ack_of_all_before_an_offset_goes_on_over_what_was_acked_by_itself() {
        let mut in_flight = InFlight::new(true, false, (None, None), None, None);
        let batches = handed(&mut in_flight, 0..4);
        assert_eq!(in_flight.ack_one(&batches[2]), None);
        assert_eq!(in_flight.ack(P, Offset(2)).map(|acked| acked.offset), Some(Offset(3)));
        assert_eq!(in_flight.ack(P, Offset(1)).map(|acked| acked.offset), Some(Offset(1)), "of old ones the coordinator knows already");
        assert_eq!(in_flight.held().batches, 1);
    }

    #[test]
    fn the_limits_let_one_batch_out_however_large() {
        let mut in_flight = InFlight::new(true, false, (Some(2), Some(25)), None, None);
        assert!(!in_flight.is_full_for(1_000, None));
        let batches = handed(&mut in_flight, 0..2);
        assert!(in_flight.is_full_for(0, None), "two of two batches");
        in_flight.ack_one(&batches[1]);
        assert!(!in_flight.is_full_for(15, None));
        assert!(in_flight.is_full_for(16, None), "26 of 25 bytes");
        in_flight.ack_one(&batches[0]);
        assert!(!in_flight.is_full_for(1_000, None));
    }

    #[test]
    fn an_offset_is_acked_with_the_last_of_its_parts() {
        let mut in_flight = InFlight::new(true, false, (None, None), None, None);
        let part = |rows| origin(7, 30).part(Slice { rows, of: 3 });
        let parts = [part(0..1), part(1..2), part(2..3)].map(|part| in_flight.hand_out(&part, None));
        assert_eq!(parts.map(|part| part.end.offset), [Offset(7), Offset(7), Offset(8)]);
        assert_eq!(in_flight.ack_one(&parts[0]).map(|acked| acked.offset), Some(Offset(7)), "which changes nothing");
        assert_eq!(in_flight.held().batches, 2);
        assert_eq!(in_flight.ack_one(&parts[2]), None);
        assert_eq!(in_flight.ack_one(&parts[1]).map(|acked| acked.offset), Some(Offset(8)));
        let parts = [part(0..1), part(1..2), part(2..3)].map(|part| in_flight.hand_out(&part, None));
        assert_eq!(in_flight.ack_through(&parts[1]).map(|acked| acked.offset), Some(Offset(7)));
        assert_eq!(in_flight.held().batches, 1, "the parts before it are held no more");
        assert_eq!(in_flight.ack(P, Offset(8)).map(|acked| acked.offset), Some(Offset(8)));
    }

    #[test]
    fn after_a_seek_what_was_held_counts_no_more_and_its_acks_do_nothing() {
        let mut in_flight = InFlight::new(true, false, (Some(1), None), Some(Generation(1)), None);
        let old = in_flight.hand_out(&origin(3, 10), Some(Generation(1)));
        assert!(in_flight.is_full_for(10, Some(Generation(1))));
        assert!(!in_flight.is_full_for(10, Some(Generation(2))));
        let new = in_flight.hand_out(&origin(0, 10), Some(Generation(2)));
        assert_eq!(in_flight.ack_one(&old), None);
        assert_eq!(in_flight.ack(P, Offset(4)), None, "not handed out since");
        assert_eq!(in_flight.ack_one(&new).map(|acked| acked.offset), Some(Offset(1)));
    }

    #[test]
    fn a_newer_lease_on_a_partition_discards_what_the_older_one_left_open() {
        let mut in_flight = InFlight::new(true, false, (Some(4), None), None, Some(HandedOut::default()));
        let by = |lease, offset| Origin { lease: Some(LeaseId(lease)), ..origin(offset, 10) };
        let old = [3, 4, 5].map(|offset| in_flight.hand_out(&by(1, offset), None));
        assert_eq!(in_flight.ack_one(&old[1]), None, "the one before it is not acked");
        assert_eq!(in_flight.held().batches, 2);
        let new = [3, 4].map(|offset| in_flight.hand_out(&by(2, offset), None));
        assert_eq!((in_flight.held().batches, in_flight.held().bytes), (2, 20), "what the older lease left counts no more");
        assert_eq!(in_flight.ack_one(&old[0]), None);
        assert_eq!(in_flight.ack_through(&old[2]), None);
        assert_eq!(in_flight.ack_by(P, Offset(4), Some(LeaseId(1))), None);
        assert_eq!(in_flight.ack_by(P, Offset(4), None), None);
        assert_eq!(in_flight.ack(P, Offset(6)), None, "not handed out by this lease");
        assert!(in_flight.has_unacked());
        let acked = |offset| Some(Acked { partition: P, offset: Offset(offset), lease: Some(LeaseId(2)) });
        assert_eq!(in_flight.ack_one(&new[0]), acked(4));
        assert_eq!(in_flight.ack_through(&Unacked::new(P, Offset(5), 0, None, None)), acked(5), "by the newest lease");
        assert!(!in_flight.has_unacked());
    }

    #[test]
    fn what_came_by_a_lost_lease_takes_up_no_room_and_may_still_be_acked_in_vain() {
        let mut in_flight = InFlight::new(true, false, (Some(2), None), None, Some(HandedOut::default()));
        let by = |partition, lease, offset| Origin { partition: PartitionId(partition), lease: Some(LeaseId(lease)), ..origin(offset, 10) };
        let lost = [3, 4].map(|offset| in_flight.hand_out(&by(0, 1, offset), None));
        assert!(in_flight.is_full_for(1, None) && in_flight.has_unacked());
        in_flight.release_lost(|partition, lease| (partition, lease) == (P, LeaseId(1)));
        assert!(in_flight.is_full_for(1, None), "it is held");
        in_flight.release_lost(|_, _| false);
        in_flight.release_lost(|_, _| false);
        assert_eq!((in_flight.held().batches, in_flight.held().bytes), (0, 0));
        assert!(!in_flight.is_full_for(1, None) && !in_flight.has_unacked());
        let held = in_flight.hand_out(&by(1, 2, 0), None);
        assert_eq!(in_flight.ack_one(&lost[1]), None);
        let acked = in_flight.ack_one(&lost[0]);
        assert_eq!(acked, Some(Acked { partition: P, offset: Offset(5), lease: Some(LeaseId(1)) }), "so that it hears of the loss");
        assert_eq!((in_flight.held().batches, in_flight.held().bytes), (1, 10));
        assert!(in_flight.ack_one(&held).is_some());
        assert!(!in_flight.has_unacked());
    }

    #[test]
    fn the_oldest_of_very_many_are_acked_together_or_not_at_all() {
        let mut in_flight = InFlight::new(true, false, (None, None), None, None);
        let count = TOLD_APART_MAX as u64 + 2;
        let batches = handed(&mut in_flight, 0..count);
        assert_eq!(in_flight.partitions[&P].len(), TOLD_APART_MAX);
        for batch in &batches {
            assert_eq!(in_flight.ack_one(batch), None, "three of them are one entry");
        }
        assert_eq!(in_flight.held().batches, 3);
        assert_eq!(in_flight.ack(P, Offset(2)).map(|acked| acked.offset), Some(Offset(2)));
        assert_eq!(in_flight.ack(P, Offset(3)).map(|acked| acked.offset), Some(Offset(count)), "all of them, and those behind");
        assert_eq!((in_flight.held().batches, in_flight.held().bytes), (0, 0));
    }

    #[test]
    fn a_share_of_an_epoch_is_acked_with_its_last_batch() {
        let mut in_flight = InFlight::new(true, true, (None, None), None, None);
        let mut hand_out = |offset, epoch: Option<u64>| {
            let producer = epoch.map(|_| Arc::from("p"));
            in_flight.hand_out(&Origin { epoch: epoch.map(Epoch), producer, ..origin(offset, 10) }, None)
        };
        let [early, first, _, second] = [hand_out(0, Some(1)), hand_out(1, Some(1)), hand_out(2, Some(2)), hand_out(3, Some(2))];
        let [alone, other] = [hand_out(4, None), hand_out(5, None)];
        assert_eq!(in_flight.ack_one(&early), None, "more of it came");
        assert_eq!(in_flight.ack_one(&second), None, "the first epoch is not acked");
        assert_eq!(in_flight.ack_one(&first).map(|acked| acked.offset), Some(Offset(4)));
        assert_eq!(in_flight.ack_one(&other), None);
        assert_eq!(in_flight.ack_one(&alone).map(|acked| acked.offset), Some(Offset(6)));
        assert_eq!((in_flight.held().batches, in_flight.held().bytes), (0, 0));
    }
}
