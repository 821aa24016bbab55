//! Subscriptions that would rather lose batches than hold back producers, and those that were evicted.

use super::super::budget::Usage;
use super::super::subscription::Subscription;
use super::super::{Effects, Error, Eviction, Offset, OnOverflow, Part, Place, SubscriptionName, Timestamp};
use super::Stream;
use crate::zoo::{self, Bug};

impl<D: Clone> Stream<D> {
    /// Subscriptions for which batches stay.
    pub(super) fn holders(&self) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.values().filter(|subscription| subscription.holds())
    }

    /// Then nothing has to stay, and nothing goes before its room is needed: a seek finds what is left.
    pub(super) fn all_are_evicted(&self) -> bool {
        !self.subscriptions.is_empty() && self.holders().next().is_none()
    }

    /// # Errors
    /// [`Error::SubscriptionNotFound`], [`Error::SubscriptionEvicted`].
    pub(super) fn check_not_evicted(&self, name: &SubscriptionName) -> Result<(), Error> {
        match self.subscription(name)?.eviction {
            Some(eviction) => Err(Error::SubscriptionEvicted { subscription: name.clone(), eviction }),
            None => Ok(()),
        }
    }

    /// What a subscription does that holds room which is needed.
    ///
    /// # Errors
    /// [`Error::SubscriptionNotFound`].
    pub fn on_overflow(&self, name: &SubscriptionName) -> Result<OnOverflow, Error> {
        Ok(self.subscription(name)?.on_overflow)
    }

    /// How many batches were dropped directly before the subscription's cursor, since it was last moved by an ack or seek.
    ///
    /// # Errors
    /// [`Error::SubscriptionNotFound`], [`Error::PartitionOutOfRange`].
    pub fn gap(&self, name: &SubscriptionName, partition: super::PartitionId) -> Result<u64, Error> {
        self.partition(partition)?;
        Ok(self.subscription(name)?.cursors[partition.index()].gap)
    }

    /// Makes room at the cost of subscriptions that are to skip or to be evicted, in one of these places. None, and nobody loses
    /// anything, if what they alone hold is not enough. Whoever may skip does so down to the low watermark; nobody is evicted for that.
    pub(super) fn take_from_laggards(&mut self, places: &[Place], bytes: u64, now: Timestamp, effects: &mut Effects) -> Option<Place> {
        let is_full = !places.iter().any(|place| self.budget.fits(*place, bytes));
        if !is_full || self.holders().all(|subscription| subscription.on_overflow == OnOverflow::Hold) {
            return None;
        }
        let ends = self.ends_of_laggards();
        let free = self.held_before(&ends);
        let place = places.iter().copied().find(|place| self.budget.fits_without(&free, *place, bytes))?;
        while !self.budget.fits(place, bytes) {
            let index = self.oldest_before(&ends)?;
            self.let_go(index, bytes, now, effects);
        }
        let drains = self.is_low_without(&self.held_before(&ends), place);
        while drains && !self.is_low_in(place) {
            let Some(index) = self.oldest_before(&ends).filter(|index| !self.would_evict(*index)) else { break };
            self.let_go(index, bytes, now, effects);
        }
        Some(place)
    }

    /// Per partition, one past the last batch that stays only for subscriptions which are to skip or to be evicted, and are behind
    /// there. One that has planned all there is is not behind, and holds what it has not acked.
    fn ends_of_laggards(&self) -> Vec<Offset> {
        let end_of = |index: usize| {
            let end = self.partitions[index].visible_end();
            let held = self.holders().filter_map(|subscription| {
                let cursor = &subscription.cursors[index];
                let is_laggard = subscription.on_overflow != OnOverflow::Hold && cursor.unblocked() < end;
                (!is_laggard).then_some(cursor.acked)
            });
            held.min().unwrap_or(end).min(end)
        };
        (0..self.partitions.len()).map(end_of).collect()
    }

    fn held_before(&self, ends: &[Offset]) -> Usage {
        let parts = self.partitions.iter().zip(ends).filter(|(partition, end)| partition.start() < **end);
        parts.fold(Usage::default(), |sum, (partition, end)| sum.with(&partition.used_before(*end)))
    }

    fn oldest_before(&self, ends: &[Offset]) -> Option<usize> {
        let fronts = self.partitions.iter().zip(ends).enumerate().filter_map(|(index, (partition, end))| {
            let oldest = partition.oldest().filter(|batch| batch.offset < *end)?;
            Some((oldest.age, index))
        });
        fronts.min().map(|(_, index)| index)
    }

    /// Whether a partition's oldest batch stays for one that is to be evicted.
    fn would_evict(&self, index: usize) -> bool {
        let start = self.partitions[index].start();
        self.holders().any(|subscription| subscription.on_overflow == OnOverflow::Evict && subscription.cursors[index].acked <= start)
    }

    /// A partition's oldest batch goes; whoever has not acked it skips it or is evicted.
    fn let_go(&mut self, index: usize, needed_bytes: u64, now: Timestamp, effects: &mut Effects) {
        let start = self.partitions[index].start();
        let (mut evicted, mut is_shared) = (Vec::new(), false);
        for (name, subscription) in self.subscriptions.iter_mut().filter(|(_, subscription)| subscription.holds()) {
            let is_behind = subscription.cursors[index].acked <= start;
            match subscription.on_overflow {
                OnOverflow::Evict if is_behind || zoo::has(Bug::EvictsWhoKeepsUp) => evicted.push(name.clone()),
                OnOverflow::Skip if is_behind => is_shared |= subscription.skip_to(index, start.plus(1)),
                OnOverflow::Hold | OnOverflow::Skip | OnOverflow::Evict => continue,
            }
            if self.is_durable {
                effects.touched.push(Part::Subscription(name.clone()));
            }
        }
        for name in evicted {
            self.evict(name, needed_bytes, now, effects);
        }
        if self.partitions[index].start() == start {
            self.drop_oldest_of(index, effects);
        }
        if is_shared {
            effects.changed = true;
            self.drop_acked([index], now, effects);
        }
    }

    fn evict(&mut self, name: SubscriptionName, needed_bytes: u64, now: Timestamp, effects: &mut Effects) {
        let Some(subscription) = self.subscriptions.get_mut(&name) else { return };
        let lags = self.partitions.iter().zip(&subscription.cursors).map(|(partition, cursor)| {
            let end = partition.visible_end();
            (end.since(cursor.acked), partition.totals_before(end).1 - partition.totals_before(cursor.acked).1)
        });
        let (lag_batches, lag_bytes) = lags.fold((0, 0), |sum: (u64, u64), lag| (sum.0 + lag.0, sum.1.saturating_add(lag.1)));
        subscription.eviction = Some(Eviction { at: now, lag_batches, lag_bytes, needed_bytes });
        effects.evicted.push(name);
        effects.changed = true;
        self.drop_acked(0..self.partitions.len(), now, effects);
    }
}
