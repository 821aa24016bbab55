//! The leases of a partitioned subscription. Each partition has one owner as soon as there is any consumer; they are spread evenly,
//! and only what has to move moves: once its owner has acked what it was sent, or at once if it is dead.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lease::{Holding, InFlight, LeasedOffset, Taken};
use super::partition::Partition;
use super::spread::evenly;
use super::subscription::Cursor;
use super::{ConsumerId, ConsumerName, LeaseId, Offset, PartitionId, Timestamp};
use crate::zoo::{self, Bug};

/// All leases of a partitioned subscription. No restart outlives them: consumers join again, and get what is not acked.
#[derive(Debug)]
pub(super) struct Leases {
    pub(super) consumers: BTreeMap<ConsumerId, Member>,
    /// One per partition.
    pub(super) partitions: Vec<PartitionLease>,
    pub(super) newest: LeaseId,
}

/// A consumer of the subscription.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: ConsumerName,
    pub(super) joined_at: Timestamp,
    /// When its leases run out, unless a sign of life comes before.
    pub(super) until: Timestamp,
    pub(super) lease: Duration,
    in_flight: InFlight,
    /// What it holds, in the order in which it came.
    held: Vec<PartitionId>,
    /// Which of them is looked at first, before the modulo.
    turn: usize,
    /// Its newest `DoGet`: an older one gets nothing any more.
    reading: u64,
    /// Its last take ended at its limit.
    is_full: bool,
}

/// A lease on a partition.
#[derive(Debug, Clone)]
pub(super) struct PartitionLease {
    pub(super) owner: Option<ConsumerId>,
    pub(super) lease: LeaseId,
    /// The next offset that the owner is given.
    pub(super) sent: Offset,
    /// Who has it next. Then the owner gets no more, and it goes over when all that was sent is acked.
    pub(super) next_owner: Option<ConsumerId>,
    /// The owner has given back what was sent beyond `sent`, and takes no more by this lease.
    is_given_back: bool,
}

impl PartitionLease {
    /// Who will have it if nothing else changes.
    fn heir(&self) -> Option<ConsumerId> {
        self.next_owner.or(self.owner)
    }

    fn is_idle(&self, cursor: &Cursor) -> bool {
        self.sent <= cursor.acked
    }

    /// What is to be sent next if the owner has got all before `next`, and has not got what was dropped under it.
    fn back_to(&self, next: Offset, cursor: &Cursor) -> Offset {
        next.clamp(cursor.before_gap(), self.sent.max(cursor.acked))
    }

    /// Whether it is to go over as soon as the owner's caller has acked what it has.
    pub(super) fn waits_for_acks(&self, cursor: &Cursor) -> bool {
        self.next_owner.is_some() && self.is_given_back && !self.is_idle(cursor)
    }
}

/// Why a consumer gets or does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It is no consumer of the subscription, or not any more.
    Consumer,
    /// A newer `DoGet` of the same consumer has taken over.
    Reading,
    /// The lease.
    Lease,
}

impl Leases {
    pub(super) fn new(partitions: usize) -> Self {
        let free =
            PartitionLease { owner: None, lease: LeaseId::default(), sent: Offset::default(), next_owner: None, is_given_back: false };
        Self { consumers: BTreeMap::new(), partitions: vec![free; partitions], newest: LeaseId::default() }
    }

    /// A sign of life of a consumer, which joins with the first; whether any lease has changed.
    pub(super) fn keep(
        &mut self,
        consumer: ConsumerId,
        name: ConsumerName,
        (lease, in_flight): (Duration, InFlight),
        cursors: &[Cursor],
        now: Timestamp,
    ) -> bool {
        let until = now.plus(lease);
        if let Some(member) = self.consumers.get_mut(&consumer) {
            member.until = member.until.max(until);
            (member.name, member.lease, member.in_flight) = (name, lease, in_flight);
            return false;
        }
        let member = Member { name, joined_at: now, until, lease, in_flight, held: Vec::new(), turn: 0, reading: 0, is_full: false };
        self.consumers.insert(consumer, member);
        self.spread(cursors, now);
        true
    }

    /// The consumer is gone; whether it was there.
    pub(super) fn leave(&mut self, consumer: ConsumerId, cursors: &[Cursor], now: Timestamp) -> bool {
        let was_there = self.forget(consumer);
        if was_there {
            self.spread(cursors, now);
        }
        was_there
    }

    /// Takes the leases from consumers that gave no sign of life; whether there were any.
    pub(super) fn expire(&mut self, cursors: &[Cursor], now: Timestamp) -> bool {
        let dead: Vec<_> = self.consumers.iter().filter(|(_, member)| member.until < now).map(|(id, _)| *id).collect();
        dead.iter().for_each(|consumer| {
            self.forget(*consumer);
        });
        if !dead.is_empty() {
            self.spread(cursors, now);
        }
        !dead.is_empty()
    }

    fn forget(&mut self, consumer: ConsumerId) -> bool {
        if self.consumers.remove(&consumer).is_none() {
            return false;
        }
        for lease in &mut self.partitions {
            if lease.next_owner == Some(consumer) {
                // Who has given back takes no more by this lease: it gets another one.
                lease.next_owner = lease.owner.filter(|_| lease.is_given_back);
            }
            if lease.owner == Some(consumer) {
                lease.owner = None;
            }
        }
        true
    }

    /// Spreads the partitions evenly; who has one keeps it unless it has more than its share.
    fn spread(&mut self, cursors: &[Cursor], now: Timestamp) {
        let heirs: Vec<_> = self.partitions.iter().map(PartitionLease::heir).collect();
        let consumers: Vec<_> = self.consumers.iter().map(|(consumer, member)| (*consumer, member.joined_at)).collect();
        // First those with nothing under way: they go over at once.
        for (index, consumer) in evenly(&heirs, &consumers, |index| self.partitions[index].is_idle(&cursors[index])) {
            self.bequeath(index, consumer, &cursors[index], now);
        }
    }

    /// The partition is to be this consumer's.
    fn bequeath(&mut self, index: usize, heir: ConsumerId, cursor: &Cursor, now: Timestamp) {
        let lease = &mut self.partitions[index];
        match lease.owner {
            None => return self.grant(index, heir, cursor, now),
            Some(owner) if owner == heir && !lease.is_given_back => lease.next_owner = None,
            Some(_) => lease.next_owner = Some(heir),
        }
        self.hand_over(index, cursor, now);
    }

    /// Gives the partition to who has it next, if nothing is under way; whether it did.
    pub(super) fn hand_over(&mut self, index: usize, cursor: &Cursor, now: Timestamp) -> bool {
        let lease = &self.partitions[index];
        let Some(next) = lease.next_owner.filter(|_| lease.is_idle(cursor) || zoo::has(Bug::PartitionMovesUnacked)) else {
            return false;
        };
        self.grant(index, next, cursor, now);
        true
    }

    /// The same for all partitions; whether any went over.
    pub(super) fn hand_over_all(&mut self, cursors: &[Cursor], now: Timestamp) -> bool {
        let mut any = false;
        for (index, cursor) in cursors.iter().enumerate() {
            any |= self.hand_over(index, cursor, now);
        }
        any
    }

    fn grant(&mut self, index: usize, to: ConsumerId, cursor: &Cursor, now: Timestamp) {
        let partition = PartitionId::of(index);
        let former = self.partitions[index].owner.and_then(|owner| self.consumers.get_mut(&owner));
        former.into_iter().for_each(|member| member.held.retain(|held| *held != partition));
        let lease = self.next_lease(now);
        self.partitions[index] =
            PartitionLease { owner: Some(to), lease, sent: cursor.before_gap(), next_owner: None, is_given_back: false };
        self.consumers.entry(to).and_modify(|member| member.held.push(partition));
    }

    /// Time makes it one that was never given, also before a restart: unless the clock has gone back over that, to before a lease
    /// that was given later than anything that the log knows of. Consumers forget all leases then (`Membership::begin`).
    fn next_lease(&mut self, now: Timestamp) -> LeaseId {
        self.newest = LeaseId(now.0.max(self.newest.0.saturating_add(1)));
        self.newest
    }

    /// The cursors were put elsewhere: who owns a partition goes on there, by another lease.
    pub(super) fn renew(&mut self, cursors: &[Cursor], now: Timestamp) {
        for (index, cursor) in cursors.iter().enumerate() {
            if let Some(heir) = self.partitions[index].heir() {
                self.grant(index, heir, cursor, now);
            }
        }
    }

    /// A consumer reads anew. What it names it has got under these leases; what it does not name it gets from the cursor on.
    pub(super) fn read(&mut self, consumer: ConsumerId, got: &[LeasedOffset], cursors: &[Cursor], now: Timestamp) -> Result<u64, Lost> {
        if !self.consumers.contains_key(&consumer) {
            return Err(Lost::Consumer);
        }
        let reading = self.next_lease(now).0;
        let member = self.consumers.get_mut(&consumer).ok_or(Lost::Consumer)?;
        member.reading = reading;
        let got: BTreeMap<_, _> = got.iter().map(|got| ((got.partition, got.lease), got.offset)).collect();
        for partition in &member.held {
            let (lease, cursor) = (&mut self.partitions[partition.index()], &cursors[partition.index()]);
            let next = got.get(&(*partition, lease.lease)).copied();
            if !lease.is_given_back {
                lease.sent = lease.back_to(next.unwrap_or_default(), cursor);
            }
        }
        Ok(reading)
    }

    /// Refuses a `DoGet` that gets nothing any more.
    pub(super) fn check(&self, consumer: ConsumerId, reading: u64) -> Result<&Member, Lost> {
        let member = self.consumers.get(&consumer).ok_or(Lost::Consumer)?;
        if member.reading == reading { Ok(member) } else { Err(Lost::Reading) }
    }

    /// The next batches for a consumer: at most so many and so many bytes (one always), within what it may have in flight.
    pub(super) fn take<D>(
        &mut self,
        consumer: ConsumerId,
        reading: u64,
        most: InFlight,
        partitions: &[Partition<D>],
        cursors: &[Cursor],
    ) -> Result<Vec<Taken>, Lost> {
        let allowed = self.check(consumer, reading)?.in_flight;
        let under_way = self.under_way(consumer, partitions, cursors);
        let mut room = Room::new(most, allowed, under_way);
        let Some(member) = self.consumers.get_mut(&consumer) else { return Err(Lost::Consumer) };
        let mut taken = Vec::new();
        for turn in 0..member.held.len() {
            let id = member.held[(member.turn + turn) % member.held.len()];
            let (lease, partition) = (&mut self.partitions[id.index()], &partitions[id.index()]);
            if lease.next_owner.is_some() {
                continue;
            }
            let first = lease.sent.max(partition.start()).max(cursors[id.index()].acked);
            let mut next = first;
            while partition.get(next).is_some_and(|batch| room.admit(batch.facts.bytes)) {
                next = next.plus(1);
            }
            if next > first {
                let skipped = first.since(lease.sent);
                taken.push(Taken { lease: lease.lease, partition: id, first, skipped, batches: next.since(first) });
                lease.sent = next;
            }
        }
        member.turn = member.turn.wrapping_add(1);
        member.is_full = room.is_full;
        Ok(taken)
    }

    /// What the consumer was sent and has not acked.
    pub(super) fn under_way<D>(&self, consumer: ConsumerId, partitions: &[Partition<D>], cursors: &[Cursor]) -> InFlight {
        let mut under_way = InFlight { batches: 0, bytes: 0 };
        for id in self.consumers.get(&consumer).into_iter().flat_map(|member| &member.held) {
            let (sent, acked, partition) = (self.partitions[id.index()].sent, cursors[id.index()].acked, &partitions[id.index()]);
            if sent > acked {
                under_way.batches = under_way.batches.saturating_add(sent.since(acked));
                let bytes = partition.totals_before(sent).1.saturating_sub(partition.totals_before(acked).1);
                under_way.bytes = under_way.bytes.saturating_add(bytes);
            }
        }
        under_way
    }

    /// Whose lease it is.
    pub(super) fn owner_by(&self, partition: PartitionId, lease: LeaseId) -> Result<ConsumerId, Lost> {
        let held = &self.partitions[partition.index()];
        held.owner.filter(|_| held.lease == lease || zoo::has(Bug::LostLeaseAcks)).ok_or(Lost::Lease)
    }

    /// After an ack of the partition: who is to be woken because it may be sent more, if anybody.
    pub(super) fn acked(&mut self, index: usize, offset: Offset) -> Option<ConsumerId> {
        let lease = &mut self.partitions[index];
        // Not to the cursor: what was dropped under it was not sent, and is told as a gap.
        lease.sent = lease.sent.max(offset);
        let member = self.consumers.get_mut(&lease.owner?)?;
        std::mem::take(&mut member.is_full).then_some(lease.owner?)
    }

    /// The owner has handed nothing to its caller from `next` on, and will not, since the partition is wanted elsewhere. Gives the owner.
    pub(super) fn give_back(&mut self, partition: PartitionId, lease: LeaseId, next: Offset, cursor: &Cursor) -> Result<ConsumerId, Lost> {
        let owner = self.owner_by(partition, lease)?;
        let held = &mut self.partitions[partition.index()];
        held.sent = held.back_to(next, cursor);
        if held.next_owner.is_none() {
            held.next_owner = held.owner;
        }
        held.is_given_back = true;
        Ok(owner)
    }

    /// What a consumer holds, by partition.
    pub(super) fn holdings(&self, consumer: ConsumerId) -> Vec<Holding> {
        let held = self.consumers.get(&consumer).into_iter().flat_map(|member| &member.held);
        let holding = |partition: &PartitionId| {
            let lease = &self.partitions[partition.index()];
            Holding { partition: *partition, lease: lease.lease, is_wanted: lease.next_owner.is_some() }
        };
        let mut holdings: Vec<_> = held.map(holding).collect();
        holdings.sort_by_key(|holding| holding.partition);
        holdings
    }
}

/// What may still be taken.
#[derive(Debug)]
pub(super) struct Room {
    /// At a time.
    most: InFlight,
    /// Until acked.
    allowed: InFlight,
    taken: InFlight,
    under_way: InFlight,
    /// What is allowed was the limit.
    is_full: bool,
}

impl Room {
    pub(super) fn new(most: InFlight, allowed: InFlight, under_way: InFlight) -> Self {
        Self { most, allowed, taken: InFlight { batches: 0, bytes: 0 }, under_way, is_full: false }
    }

    /// Whether what is allowed until acked was the limit.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether nothing was taken, and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.batches == 0
    }

    /// Takes a batch, if it may be.
    pub(super) fn admit(&mut self, bytes: u64) -> bool {
        let fits = |limit: InFlight, held: InFlight| {
            held.batches == 0 || (held.batches < limit.batches && held.bytes.saturating_add(bytes) <= limit.bytes)
        };
        if !fits(self.most, self.taken) {
            return false;
        }
        if !fits(self.allowed, self.under_way) {
            self.is_full = true;
            return false;
        }
        for held in [&mut self.taken, &mut self.under_way] {
            held.batches += 1;
            held.bytes = held.bytes.saturating_add(bytes);
        }
        true
    }
}
