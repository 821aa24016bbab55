//! Subscriptions: subscribe, ack, plan, seek; and what may be dropped because of it.

use std::sync::Arc;

use super::super::limits::SUBSCRIPTIONS_MAX;
use super::super::subscription::{Cursor, Subscription};
use super::super::{
    Batch, Effects, Error, Generation, Offset, OnOverflow, Outcome, Part, PartitionId, Retention, SharingRules, Start, SubscriptionMode,
    SubscriptionName, Timestamp,
};
use super::Stream;
use crate::zoo::{self, Bug};

impl<D: Clone> Stream<D> {
    pub(super) fn subscribe(
        &mut self,
        name: SubscriptionName,
        start: &Start,
        (mode, on_overflow, sharing, query): (Option<SubscriptionMode>, OnOverflow, Option<SharingRules>, Option<Arc<str>>),
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        if let Some(known) = self.subscriptions.get(&name) {
            mode.map_or(Ok(()), |mode| self.check_mode(&name, mode))?;
            return match query.filter(|query| known.query.as_ref() != Some(query)) {
                Some(asked) => Err(Error::SubscriptionQuery { subscription: name, query: known.query.clone(), asked }),
                None => Ok(Outcome::Done),
            };
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(Error::TooMany { what: "subscriptions", limit: SUBSCRIPTIONS_MAX });
        }
        let cursors = self.locate(start)?.into_iter().map(|offset| Cursor::at(offset, now));
        let mode = mode.unwrap_or_default();
        let mut subscription = Subscription { on_overflow, query, ..Subscription::new(mode, now, Generation(now.0), cursors.collect()) };
        subscription.shares = self.new_shares(mode, sharing, &name, &subscription.cursors)?;
        self.subscriptions.insert(name.clone(), subscription);
        self.touch(Part::Subscription(name), effects);
        self.drop_acked(0..self.partitions.len(), now, effects);
        Ok(Outcome::Done)
    }

    /// What a subscription asks of each batch, if it does.
    ///
    /// # Errors
    /// [`Error::SubscriptionNotFound`].
    pub fn query(&self, name: &SubscriptionName) -> Result<Option<Arc<str>>, Error> {
        Ok(self.subscription(name)?.query.clone())
    }

    /// Drops the subscription. If it was the last one, what it had not acked stays for the next.
    pub(super) fn unsubscribe(&mut self, name: &SubscriptionName, now: Timestamp, effects: &mut Effects) -> Result<Outcome, Error> {
        // Its consumers wait for what never comes.
        effects.changed |= self.subscription(name)?.mode() != SubscriptionMode::Static;
        self.subscriptions.remove(name);
        self.touch(Part::Subscription(name.clone()), effects);
        self.drop_acked(0..self.partitions.len(), now, effects);
        Ok(Outcome::Done)
    }

    pub(super) fn ack(
        &mut self,
        name: &SubscriptionName,
        generation: Option<Generation>,
        offsets: &[(PartitionId, Offset)],
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        self.check_mode(name, SubscriptionMode::Static)?;
        self.check_not_evicted(name)?;
        if let Some(generation) = generation.filter(|_| !zoo::has(Bug::LateAckUndoesSeek)) {
            self.check_generation(name, generation)?;
        }
        self.for_cursors(name, offsets, |cursor, offset| cursor.ack(offset, now))?;
        self.touch(Part::Subscription(name.clone()), effects);
        self.drop_acked(named(offsets), now, effects);
        Ok(Outcome::Done)
    }

    pub(super) fn plan(
        &mut self,
        name: &SubscriptionName,
        offsets: &[(PartitionId, Offset)],
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        self.check_not_evicted(name)?;
        self.for_cursors(name, offsets, |cursor, offset| cursor.planned = cursor.planned.max(offset))?;
        self.touch(Part::Subscription(name.clone()), effects);
        Ok(Outcome::Done)
    }

    pub(super) fn seek(
        &mut self,
        name: &SubscriptionName,
        to: &Start,
        dry_run: bool,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        let moves = self.moves(name, to)?;
        if dry_run {
            return Ok(Outcome::Moved(moves));
        }
        // What is not named stays as it is, what it has planned too.
        let is_named = |partition: &PartitionId| if let Start::Offsets(offsets) = to { offsets.contains_key(partition) } else { true };
        let offsets: Vec<_> = moves.iter().map(|moved| (moved.partition, moved.to)).filter(|(partition, _)| is_named(partition)).collect();
        self.for_cursors(name, &offsets, |cursor, offset| cursor.seek(offset, now))?;
        if offsets.is_empty() {
            return Ok(Outcome::Moved(moves));
        }
        if let Some(subscription) = self.subscriptions.get_mut(name) {
            subscription.renew(now);
            subscription.eviction = None;
            // Of an evicted one; the others are there already.
            for (index, partition) in self.partitions.iter().enumerate() {
                subscription.skip_to(index, partition.start());
            }
            if let Some(leases) = &mut subscription.leases {
                leases.renew(&subscription.cursors, now);
            }
            if let Some(shares) = &mut subscription.shares {
                shares.renew(&subscription.cursors, is_named, now);
            }
        }
        effects.changed = true;
        self.touch(Part::Subscription(name.clone()), effects);
        // All of them: an evicted one holds those again that were not named.
        self.drop_acked(0..self.partitions.len(), now, effects);
        Ok(Outcome::Moved(moves))
    }

    /// Checks all offsets, then changes all cursors: all or nothing.
    fn for_cursors(
        &mut self,
        name: &SubscriptionName,
        offsets: &[(PartitionId, Offset)],
        mut change: impl FnMut(&mut Cursor, Offset),
    ) -> Result<(), Error> {
        self.subscription(name)?;
        for &(partition, offset) in offsets {
            self.partition(partition)?.check_not_ahead(offset)?;
        }
        let Some(subscription) = self.subscriptions.get_mut(name) else { return Ok(()) };
        for &(partition, offset) in offsets {
            change(&mut subscription.cursors[partition.index()], offset);
        }
        Ok(())
    }

    /// Takes note of what every subscription has acked of these partitions, and drops what need not stay. A stream without
    /// subscriptions keeps everything that the last ones had not acked.
    pub(super) fn drop_acked(&mut self, partitions: impl IntoIterator<Item = usize>, now: Timestamp, effects: &mut Effects) {
        let is_kept = self.options.retention != Retention::default();
        for index in partitions {
            let acked = self.holders().map(|subscription| subscription.cursors[index].acked);
            let low = if zoo::has(Bug::OneAckDropsForAll) { acked.max() } else { acked.min() };
            let Some(low) = low else { break };
            self.partitions[index].acked = low;
            while !is_kept && self.partitions[index].oldest_acked().is_some() {
                self.drop_oldest_of(index, effects);
            }
        }
        if is_kept {
            self.drop_retained(now, effects);
        }
    }

    /// Drops what has stayed beyond its acks for long enough.
    pub(super) fn drop_retained(&mut self, now: Timestamp, effects: &mut Effects) {
        let Retention { time, bytes } = self.options.retention;
        while let Some((index, batch)) = self.oldest_acked() {
            let is_young = now.since(batch.facts.appended_at) < time;
            let is_near = self.budget.bytes(self.is_durable).saturating_sub(batch.facts.bytes) < bytes;
            if is_young || is_near {
                return;
            }
            self.drop_oldest_of(index, effects);
        }
    }

    /// Drops the oldest batch that every subscription has acked; false if there is none.
    pub(super) fn drop_oldest_acked(&mut self, effects: &mut Effects) -> bool {
        let oldest = self.oldest_acked().map(|(index, _)| index);
        oldest.into_iter().for_each(|index| self.drop_oldest_of(index, effects));
        oldest.is_some()
    }

    fn oldest_acked(&self) -> Option<(usize, &Batch<D>)> {
        let partitions = self.partitions.iter().enumerate();
        partitions.filter_map(|(index, partition)| Some((index, partition.oldest_acked()?))).min_by_key(|(_, batch)| batch.age)
    }

    pub(super) fn drop_oldest_of(&mut self, index: usize, effects: &mut Effects) {
        if let Some(batch) = self.partitions[index].pop_oldest() {
            self.budget.release(batch.place, batch.facts.bytes);
            effects.dropped_batches += 1;
            self.touch(Part::Partition(PartitionId::of(index)), effects);
        }
    }

    /// Drops the oldest visible batch of all partitions, acked or not. False if there is none.
    pub(super) fn drop_oldest(&mut self, now: Timestamp, effects: &mut Effects) -> bool {
        let fronts = self.partitions.iter().enumerate().filter_map(|(index, partition)| Some((partition.oldest()?.age, index)));
        let Some((_, index)) = fronts.min() else { return false };
        self.drop_oldest_of(index, effects);
        let (start, mut is_shared) = (self.partitions[index].start(), false);
        for (name, subscription) in self.subscriptions.iter_mut().filter(|(_, subscription)| subscription.holds()) {
            if subscription.cursors[index].acked < start && self.is_durable {
                effects.touched.push(Part::Subscription(name.clone()));
            }
            is_shared |= subscription.skip_to(index, start);
        }
        if is_shared {
            effects.changed = true;
            self.drop_acked([index], now, effects);
        }
        true
    }

    /// Whether some batch is still to be acked or planned by some subscription that holds (or there is none to do it), so that it
    /// is worth a producer's while to wait. Those that give way do so at once, as soon as what they have is visible.
    pub(super) fn holds_back_producers(&self) -> bool {
        self.partitions.iter().enumerate().any(|(index, partition)| {
            let firm = self.holders().filter(|subscription| subscription.on_overflow == OnOverflow::Hold);
            let unblocked = firm.map(|subscription| subscription.cursors[index].unblocked()).min();
            let otherwise = || match self.subscriptions.is_empty() {
                true => partition.acked.max(partition.start()),
                false => partition.visible_end(),
            };
            partition.end() > unblocked.unwrap_or_else(otherwise)
        })
    }
}

/// The indices of the partitions that `offsets` name.
fn named(offsets: &[(PartitionId, Offset)]) -> impl Iterator<Item = usize> {
    offsets.iter().map(|(partition, _)| partition.index())
}
