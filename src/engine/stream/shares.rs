//! Consumers that share a subscription's batches: signs of life, what they are given, what becomes of it, and the dead letters.

use super::super::lease::InFlight;
use super::super::limits::CONSUMERS_MAX;
use super::super::pieces::PieceState;
use super::super::shares::{Settled, Shares, Sign};
use super::super::subscription::{Cursor, Subscription};
use super::super::view::ShareView;
use super::super::{
    ConsumerId, ConsumerView, Dying, Effects, Error, LeaseId, LeaseUpdate, LeasedOffset, Outcome, Part, PartitionId, SharingRules,
    StreamName, SubscriptionMode, SubscriptionName, Timestamp,
};
use super::{Standing, Stream};

impl<D: Clone> Stream<D> {
    pub(super) fn is_shared(&self, name: &SubscriptionName) -> bool {
        self.subscriptions.get(name).is_some_and(|subscription| subscription.shares.is_some())
    }

    /// How a shared subscription is shared; none of another one.
    ///
    /// # Errors
    /// [`Error::SubscriptionNotFound`].
    pub fn sharing(&self, name: &SubscriptionName) -> Result<Option<&SharingRules>, Error> {
        Ok(self.subscription(name)?.shares.as_ref().map(|shares| &shares.rules))
    }

    /// Whether a consumer of a shared subscription has let a lease run out, and has not said that it goes on.
    ///
    /// # Errors
    /// [`Error::SubscriptionNotFound`].
    pub fn is_stalled(&self, name: &SubscriptionName, consumer: ConsumerId) -> Result<bool, Error> {
        let shares = self.subscription(name)?.shares.as_ref();
        Ok(shares.and_then(|shares| shares.consumers.get(&consumer)).is_some_and(|member| member.is_stalled))
    }

    /// When a shared subscription has something to do by time alone: a lease runs out, or a delay ends.
    ///
    /// # Errors
    /// [`Error::SubscriptionNotFound`].
    pub fn next_due(&self, name: &SubscriptionName, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        Ok(self.subscription(name)?.shares.as_ref().and_then(|shares| shares.pieces.next_due(now)))
    }

    /// What is to go to the dead letters, by subscription and in the order of the numbers. Nothing of one that is evicted.
    #[must_use]
    pub fn dying(&self) -> Vec<Dying> {
        let of_one = |(name, subscription): (&SubscriptionName, &Subscription)| {
            let dying = subscription.shares.as_ref().into_iter().flat_map(|shares| shares.pieces.dying());
            let dying = dying.filter_map(|(key, piece)| match piece.state {
                PieceState::Dying { number, since } => Some(Dying {
                    subscription: name.clone(),
                    created_at: subscription.created_at,
                    number,
                    partition: key.partition,
                    offset: key.offset,
                    share: piece.share,
                    deliveries: piece.failed,
                    reason: piece.reason.clone(),
                    since,
                }),
                PieceState::Leased { .. } | PieceState::Waiting { .. } => None,
            });
            dying.collect::<Vec<_>>()
        };
        self.subscriptions.iter().filter(|(_, subscription)| subscription.holds()).flat_map(of_one).collect()
    }

    /// Whether anything is to go to the dead letters.
    #[must_use]
    pub fn has_dying(&self) -> bool {
        self.holders().filter_map(|subscription| subscription.shares.as_ref()).any(|shares| shares.pieces.dying_len() > 0)
    }

    pub(super) fn new_shares(
        &self,
        mode: SubscriptionMode,
        sharing: Option<SharingRules>,
        name: &SubscriptionName,
        cursors: &[Cursor],
    ) -> Result<Option<Shares>, Error> {
        if mode != SubscriptionMode::Shared {
            return Ok(None);
        }
        let unnamed = || Error::DeadLettersUnnamed { subscription: name.clone() };
        let default = || StreamName::new(&format!("{}.dead-letters", self.name)).map(SharingRules::new).map_err(|_| unnamed());
        Ok(Some(Shares::new(sharing.map_or_else(default, Ok)?, cursors)))
    }

    pub(super) fn standing_of(
        &self,
        shares: &Shares,
        cursors: &[Cursor],
        (subscription, consumer, reading): (&SubscriptionName, ConsumerId, u64),
    ) -> Result<Standing, Error> {
        shares.check(consumer, reading).map_err(|lost| lost.into_error(subscription, consumer))?;
        let ends = || self.partitions.iter().map(super::Partition::visible_end).enumerate();
        let is_acked = ends().zip(cursors).all(|((_, end), cursor)| cursor.acked >= end);
        let is_given = shares.pieces.waiting_len() == 0 && ends().all(|(index, end)| shares.next(index) >= end);
        Ok(Standing { is_sent: is_given || is_acked, is_acked, needs_acks: false })
    }

    pub(super) fn keep_sharing(
        &mut self,
        name: &SubscriptionName,
        consumer: ConsumerId,
        sign: Sign,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        let shares = self.shares(name)?;
        if sign.lease.is_zero() {
            if shares.consumers.contains_key(&consumer) {
                let has_failed = shares.leave(consumer, now);
                effects.changed = true;
                if has_failed {
                    self.touch(Part::Subscription(name.clone()), effects);
                }
            }
            return Ok(Outcome::Done);
        }
        if shares.consumers.len() >= CONSUMERS_MAX && !shares.consumers.contains_key(&consumer) {
            return Err(Error::TooMany { what: "consumers of one subscription", limit: CONSUMERS_MAX });
        }
        effects.changed |= shares.keep(consumer, sign, now);
        // It may have more in flight than before.
        effects.consumers.push(consumer);
        Ok(Outcome::Done)
    }

    pub(super) fn read_shared(
        &mut self,
        name: &SubscriptionName,
        consumer: ConsumerId,
        got: &[LeasedOffset],
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        let got: Vec<LeaseId> = got.iter().map(|got| got.lease).collect();
        // Who waits by the former one is to see that it is of no more use; and what comes back is anybody's.
        effects.consumers.push(consumer);
        effects.changed = true;
        let reads = self.shares(name)?.read(consumer, &got, now).map_err(|lost| lost.into_error(name, consumer))?;
        Ok(Outcome::Reads(reads))
    }

    pub(super) fn take_shares(
        &mut self,
        name: &SubscriptionName,
        (consumer, reading): (ConsumerId, u64),
        most: InFlight,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        self.check_not_evicted(name)?;
        self.expire_shares_of(name, now, effects);
        let Self { subscriptions, partitions, state, .. } = self;
        let Some(shares) = subscriptions.get_mut(name).and_then(|found| found.shares.as_mut()) else { return Ok(Outcome::Done) };
        let taken = shares.take(consumer, reading, most, partitions, now).map_err(|lost| lost.into_error(name, consumer))?;
        // The others may have waited for that: it may have been the last.
        effects.changed |= !taken.is_empty() && *state != super::StreamState::Open;
        Ok(Outcome::TakenShares(taken))
    }

    pub(super) fn update_leases(
        &mut self,
        name: &SubscriptionName,
        updates: &[LeaseUpdate],
        (resumes, pauses): (Option<ConsumerId>, Option<ConsumerId>),
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        let shares = self.shares(name)?;
        let mut settled = shares.update(updates, now);
        let has_resumed = resumes.is_some_and(|consumer| shares.resume(consumer));
        let has_paused = pauses.is_some_and(|consumer| shares.pause(consumer));
        effects.changed |= has_resumed || has_paused;
        let lost = std::mem::take(&mut settled.lost);
        self.settle_shares(name, settled, now, effects);
        Ok(Outcome::Updated { lost })
    }

    pub(super) fn save_shares(&mut self, name: SubscriptionName, effects: &mut Effects) -> Result<Outcome, Error> {
        self.shares(&name)?;
        self.touch(Part::Subscription(name), effects);
        Ok(Outcome::Done)
    }

    pub(super) fn bury(
        &mut self,
        name: &SubscriptionName,
        (created_at, number): (Timestamp, u64),
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        if self.subscription(name)?.created_at != created_at {
            return Err(Error::SubscriptionNotFound { subscription: name.clone() });
        }
        if let Some(settled) = self.shares(name)?.bury(number) {
            self.settle_shares(name, settled, now, effects);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn expire_shares(&mut self, now: Timestamp, effects: &mut Effects) {
        let names = self.subscriptions.iter().filter(|(_, subscription)| subscription.shares.is_some() && subscription.holds());
        let names: Vec<_> = names.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.expire_shares_of(&name, now, effects);
        }
    }

    fn expire_shares_of(&mut self, name: &SubscriptionName, now: Timestamp, effects: &mut Effects) {
        let Some(shares) = self.subscriptions.get_mut(name).and_then(|found| found.shares.as_mut()) else { return };
        let settled = shares.expire(now);
        self.settle_shares(name, settled, now, effects);
    }

    fn settle_shares(&mut self, name: &SubscriptionName, settled: Settled, now: Timestamp, effects: &mut Effects) {
        let Settled { acked, has_failed, has_returned, wake, .. } = settled;
        effects.consumers.extend(wake);
        effects.changed |= has_returned;
        if has_failed || !acked.is_empty() {
            self.touch(Part::Subscription(name.clone()), effects);
        }
        if acked.is_empty() {
            return;
        }
        if let Some(Subscription { shares: Some(shares), cursors, .. }) = self.subscriptions.get_mut(name) {
            for index in &acked {
                cursors[*index].ack(shares.acked(*index), now);
            }
        }
        self.drop_acked(acked, now, effects);
        effects.changed |= self.state != super::StreamState::Open;
    }

    fn shares(&mut self, name: &SubscriptionName) -> Result<&mut Shares, Error> {
        self.check_not_evicted(name)?;
        self.check_mode(name, SubscriptionMode::Shared)?;
        let shares = self.subscriptions.get_mut(name).and_then(|found| found.shares.as_mut());
        shares.ok_or_else(|| Error::SubscriptionNotFound { subscription: name.clone() })
    }

    /// What is with consumers of a partition, or waits for them.
    pub(super) fn share_view(&self, shares: &Shares, index: usize, now: Timestamp) -> ShareView {
        let partition = &self.partitions[index];
        // An evicted one may stand before the start.
        let next = shares.next(index).max(partition.start());
        let (lag_rows, lag_bytes) = shares.left(index, partition);
        let mut view =
            ShareView { given: next, lag_batches: partition.visible_end().since(next), lag_rows, lag_bytes, ..ShareView::default() };
        let mut last = None;
        for (key, piece) in shares.pieces.of(PartitionId::of(index)) {
            match piece.state {
                PieceState::Leased { consumer, since, .. } => {
                    view.leased += 1;
                    if view.oldest.is_none_or(|(_, of)| of < now.since(since)) {
                        view.oldest = Some((consumer, now.since(since)));
                    }
                }
                PieceState::Waiting { .. } => view.waiting += 1,
                PieceState::Dying { since, .. } => {
                    view.dying += 1;
                    view.dying_for = view.dying_for.max(now.since(since));
                }
            }
            view.lag_batches += u64::from(last.replace(key.offset) != Some(key.offset) && key.offset < next);
            view.lag_rows = view.lag_rows.saturating_add(piece.rows);
            view.lag_bytes = view.lag_bytes.saturating_add(piece.bytes);
        }
        view
    }
}

/// Who has joined a shared subscription.
pub(super) fn sharer_views(shares: &Shares, now: Timestamp) -> Vec<ConsumerView> {
    let mut consumers: Vec<_> = shares.consumers.iter().collect();
    consumers.sort_by_key(|(consumer, member)| (member.joined_at, **consumer));
    let view = |(consumer, member): (&ConsumerId, &super::super::shares::ShareMember)| ConsumerView {
        consumer: *consumer,
        name: member.name.clone(),
        joined_for: now.since(member.joined_at),
        lease_left: member.until.since(now),
        in_flight_batches: member.under_way.batches,
        in_flight_bytes: member.under_way.bytes,
        is_stalled: member.is_stalled,
        partitions: Vec::new(),
    };
    consumers.into_iter().map(view).collect()
}
