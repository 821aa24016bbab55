//! Consumers that share a subscription by leases: signs of life, what they are sent, acks, and who has what next.

use super::super::leases::{Leases, Lost, Member};
use super::super::limits::CONSUMERS_MAX;
use super::super::shares::Sign;
use super::super::subscription::Subscription;
use super::super::{
    ConsumerId, ConsumerView, Effects, Error, Holding, InFlight, LeaseId, LeasedOffset, Outcome, Part, SubscriptionMode, SubscriptionName,
    Timestamp,
};
use super::Stream;
use super::shares::sharer_views;
use crate::zoo::{self, Bug};

/// How far the consumers of a subscription have come, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// All that is visible was sent to consumers that are there.
    pub is_sent: bool,
    /// And all of it is acked.
    pub is_acked: bool,
    /// What was not sent waits for acks alone, this consumer's among them: partitions are to go over, and their owners have given
    /// back all that their callers do not have.
    pub needs_acks: bool,
}

impl<D: Clone> Stream<D> {
    /// Refuses a call that is for subscriptions of another mode.
    ///
    /// # Errors
    /// [`Error::SubscriptionNotFound`], [`Error::SubscriptionMode`].
    pub fn check_mode(&self, subscription: &SubscriptionName, asked: SubscriptionMode) -> Result<(), Error> {
        let mode = self.subscription(subscription)?.mode();
        if mode == asked { Ok(()) } else { Err(Error::SubscriptionMode { subscription: subscription.clone(), mode, asked }) }
    }

    /// How far the consumers have come, if this is one of them, and reads by this number.
    ///
    /// # Errors
    /// [`Error::SubscriptionNotFound`], [`Error::SubscriptionMode`], [`Error::ConsumerLost`], [`Error::ConsumerSuperseded`].
    pub fn standing(&self, subscription: &SubscriptionName, consumer: ConsumerId, reading: u64) -> Result<Standing, Error> {
        self.check_not_evicted(subscription)?;
        let Subscription { leases, shares, cursors, .. } = self.subscription(subscription)?;
        if let Some(shares) = shares {
            return self.standing_of(shares, cursors, (subscription, consumer, reading));
        }
        self.check_mode(subscription, SubscriptionMode::Partitioned)?;
        let Some(leases) = leases else { return Ok(Standing::default()) };
        leases.check(consumer, reading).map_err(|lost| lost.into_error(subscription, consumer))?;
        let places = || self.partitions.iter().map(super::Partition::visible_end).zip(leases.partitions.iter().zip(cursors));
        let is_acked = places().all(|(end, (_, cursor))| cursor.acked >= end);
        // What was dropped before it was sent is not sent any more.
        let unsent = || places().filter(|(end, (lease, cursor))| lease.sent.max(cursor.acked) < *end).map(|(_, place)| place);
        let needs_acks =
            unsent().all(|(lease, cursor)| lease.waits_for_acks(cursor)) && unsent().any(|(lease, _)| lease.owner == Some(consumer));
        Ok(Standing { is_sent: unsent().next().is_none() || is_acked, is_acked, needs_acks })
    }

    /// What a consumer holds, and the newest lease of the subscription.
    ///
    /// # Errors
    /// [`Error::SubscriptionNotFound`].
    pub fn holdings(&self, subscription: &SubscriptionName, consumer: ConsumerId) -> Result<(LeaseId, Vec<Holding>), Error> {
        let leases = self.subscription(subscription)?.leases.as_ref();
        Ok(leases.map_or((LeaseId::default(), Vec::new()), |leases| (leases.newest, leases.holdings(consumer))))
    }

    /// The newest lease of a subscription: another one as soon as any partition is leased anew.
    ///
    /// # Errors
    /// [`Error::SubscriptionNotFound`].
    pub fn newest_lease(&self, subscription: &SubscriptionName) -> Result<LeaseId, Error> {
        Ok(self.subscription(subscription)?.leases.as_ref().map(|leases| leases.newest).unwrap_or_default())
    }

    pub(super) fn keep_consumer(
        &mut self,
        name: &SubscriptionName,
        consumer: ConsumerId,
        sign: Sign,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        if self.is_shared(name) {
            return self.keep_sharing(name, consumer, sign, now, effects);
        }
        let Sign { name: consumer_name, lease, in_flight, .. } = sign;
        let (leases, cursors) = self.leases(name)?;
        if lease.is_zero() {
            effects.changed |= leases.leave(consumer, cursors, now);
            return Ok(Outcome::Done);
        }
        if leases.consumers.len() >= CONSUMERS_MAX && !leases.consumers.contains_key(&consumer) {
            return Err(Error::TooMany { what: "consumers of one subscription", limit: CONSUMERS_MAX });
        }
        effects.changed |= leases.keep(consumer, consumer_name, (lease, in_flight), cursors, now);
        // It may have more in flight than before.
        effects.consumers.push(consumer);
        Ok(Outcome::Done)
    }

    pub(super) fn expire_consumers(&mut self, now: Timestamp, effects: &mut Effects) {
        if zoo::has(Bug::DeadKeepLeases) {
            return;
        }
        for Subscription { leases, cursors, .. } in self.subscriptions.values_mut() {
            if let Some(leases) = leases {
                effects.changed |= leases.expire(cursors, now);
                // What was dropped under them is not waited for.
                effects.changed |= leases.hand_over_all(cursors, now);
            }
        }
    }

    pub(super) fn read_leased(
        &mut self,
        name: &SubscriptionName,
        consumer: ConsumerId,
        got: &[LeasedOffset],
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        if self.is_shared(name) {
            return self.read_shared(name, consumer, got, now, effects);
        }
        let (leases, cursors) = self.leases(name)?;
        // Who waits by the former one is to see that it is of no more use.
        effects.consumers.push(consumer);
        let reads = leases.read(consumer, got, cursors, now).map_err(|lost| lost.into_error(name, consumer))?;
        effects.changed |= leases.hand_over_all(cursors, now);
        Ok(Outcome::Reads(reads))
    }

    pub(super) fn take_leased(
        &mut self,
        name: &SubscriptionName,
        consumer: ConsumerId,
        reading: u64,
        most: InFlight,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        if self.is_shared(name) {
            return self.take_shares(name, (consumer, reading), most, now, effects);
        }
        self.check_mode(name, SubscriptionMode::Partitioned)?;
        self.check_not_evicted(name)?;
        let Self { subscriptions, partitions, state, .. } = self;
        let found = subscriptions.get_mut(name).and_then(|found| Some((found.leases.as_mut()?, &found.cursors)));
        let Some((leases, cursors)) = found else { return Ok(Outcome::Taken(Vec::new())) };
        let taken = leases.take(consumer, reading, most, partitions, cursors).map_err(|lost| lost.into_error(name, consumer))?;
        // The others may have waited for that: it may have been the last.
        effects.changed |= !taken.is_empty() && *state != super::StreamState::Open;
        Ok(Outcome::Taken(taken))
    }

    pub(super) fn ack_leased(
        &mut self,
        name: &SubscriptionName,
        acks: &[LeasedOffset],
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        for ack in acks {
            self.partition(ack.partition)?.check_not_ahead(ack.offset)?;
        }
        let (leases, cursors) = self.leases(name)?;
        let (mut lost, mut acked) = (Vec::new(), Vec::with_capacity(acks.len()));
        for ack in acks {
            let index = ack.partition.index();
            if leases.owner_by(ack.partition, ack.lease).is_err() {
                lost.push(*ack);
                continue;
            }
            cursors[index].ack(ack.offset, now);
            effects.consumers.extend(leases.acked(index, ack.offset));
            effects.changed |= leases.hand_over(index, &cursors[index], now);
            acked.push(index);
        }
        if !acked.is_empty() {
            self.touch(Part::Subscription(name.clone()), effects);
            self.drop_acked(acked, now, effects);
            effects.changed |= self.state != super::StreamState::Open;
        }
        Ok(Outcome::Acked { lost })
    }

    pub(super) fn give_back(
        &mut self,
        name: &SubscriptionName,
        from: &[LeasedOffset],
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        for given in from {
            self.partition(given.partition)?;
        }
        let has_ended = self.state != super::StreamState::Open;
        let (leases, cursors) = self.leases(name)?;
        for LeasedOffset { partition, lease, offset } in from {
            let cursor = &cursors[partition.index()];
            // Who has lost the lease has given it back.
            if let Ok(owner) = leases.give_back(*partition, *lease, *offset, cursor) {
                // It has less under way, and may be sent more of others. What is left of an ended stream may wait for acks alone now.
                effects.consumers.push(owner);
                effects.changed |= leases.hand_over(partition.index(), cursor, now) || has_ended;
            }
        }
        Ok(Outcome::Done)
    }

    /// What consumers hold of a partitioned subscription, and its cursors.
    fn leases(&mut self, name: &SubscriptionName) -> Result<(&mut Leases, &mut Vec<super::super::subscription::Cursor>), Error> {
        self.check_not_evicted(name)?;
        let not_found = || Error::SubscriptionNotFound { subscription: name.clone() };
        let Subscription { leases, shares, cursors, .. } = self.subscriptions.get_mut(name).ok_or_else(not_found)?;
        match leases {
            Some(leases) => Ok((leases, cursors)),
            None => Err(Error::SubscriptionMode {
                subscription: name.clone(),
                mode: if shares.is_some() { SubscriptionMode::Shared } else { SubscriptionMode::Static },
                asked: SubscriptionMode::Partitioned,
            }),
        }
    }

    /// Who has joined a subscription.
    pub(super) fn consumer_views(&self, subscription: &Subscription, now: Timestamp) -> Vec<ConsumerView> {
        let Some(leases) = &subscription.leases else {
            return subscription.shares.as_ref().map_or_else(Vec::new, |shares| sharer_views(shares, now));
        };
        let mut consumers: Vec<_> = leases.consumers.iter().collect();
        consumers.sort_by_key(|(consumer, member)| (member.joined_at, **consumer));
        let view = |(consumer, member): (&ConsumerId, &Member)| {
            let under_way = leases.under_way(*consumer, &self.partitions, &subscription.cursors);
            let held = leases.holdings(*consumer).into_iter().map(|holding| holding.partition);
            ConsumerView {
                consumer: *consumer,
                name: member.name.clone(),
                joined_for: now.since(member.joined_at),
                lease_left: member.until.since(now),
                in_flight_batches: under_way.batches,
                in_flight_bytes: under_way.bytes,
                is_stalled: false,
                partitions: held.map(|partition| (partition, leases.partitions[partition.index()].sent)).collect(),
            }
        };
        consumers.into_iter().map(view).collect()
    }
}

impl Lost {
    pub(super) fn into_error(self, subscription: &SubscriptionName, consumer: ConsumerId) -> Error {
        let subscription = subscription.clone();
        match self {
            Self::Reading => Error::ConsumerSuperseded { subscription, consumer },
            Self::Consumer | Self::Lease => Error::ConsumerLost { subscription, consumer },
        }
    }
}
