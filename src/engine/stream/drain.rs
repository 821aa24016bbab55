//! Draining: once appends had to wait, they are let in when the stream has fallen to its low watermark; and no wait lasts for ever.

use super::super::appender::Progress;
use super::super::budget::Usage;
use super::super::limits::{DRAIN_STALL, RESUME_PERCENT_MAX};
use super::super::{AppenderId, Effects, Error, FullPolicy, HeldBy, OnOverflow, PartitionId, Place, Timestamp};
use super::Stream;

/// A stream that drains.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draining {
    /// Batches that were held at the last tick that found another number, and when that was.
    seen: Option<(u64, Timestamp)>,
}

impl<D: Clone> Stream<D> {
    /// Whether those that wait do so although they might fit.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_some() && !self.waiting.is_empty()
    }

    /// Somebody is about to wait for consumers.
    pub(super) fn begin_draining(&mut self) {
        if self.options.resume_percent < RESUME_PERCENT_MAX {
            self.draining.get_or_insert(Draining { seen: None });
        }
    }

    /// Whether appends may go on as soon as they fit. Only what consumers can still ack is worth draining: never is anybody kept
    /// waiting by what is staged or planned.
    pub(super) fn has_drained(&mut self) -> bool {
        if self.draining.is_some() && (self.is_low() || !self.holds_back_producers()) {
            self.draining = None;
        }
        self.draining.is_none()
    }

    /// Whether some place that an append may go to holds as little as it has to.
    fn is_low(&self) -> bool {
        let places: &[Place] = match (self.is_durable, self.options.full_policy) {
            (true, _) => &[Place::Log],
            (false, FullPolicy::Spill) => &[Place::Memory, Place::Spool],
            (false, _) => &[Place::Memory],
        };
        places.iter().any(|place| self.is_low_in(*place))
    }

    pub(super) fn is_low_in(&self, place: Place) -> bool {
        self.is_low_without(&Usage::default(), place)
    }

    /// Whether a place would hold as little if `gone`, a part of what is held, were dropped.
    pub(super) fn is_low_without(&self, gone: &Usage, place: Place) -> bool {
        self.budget.is_low_without(gone, place, self.options.resume_percent)
    }

    /// A consumer that acks only when it is given more does not let the stream drain: it is given more.
    pub(super) fn end_stalled_drain(&mut self, now: Timestamp) {
        let Usage { memory_batches, spool_batches, log_batches, .. } = *self.budget.used();
        let held = memory_batches + spool_batches + log_batches;
        let Some(draining) = &mut self.draining else { return };
        match draining.seen {
            Some((seen, since)) if seen == held && now.since(since) < DRAIN_STALL => (),
            Some((seen, _)) if seen == held => self.draining = None,
            _ => draining.seen = Some((held, now)),
        }
    }

    /// Refuses those that have waited for `max_wait`.
    pub(super) fn expire_waits(&mut self, now: Timestamp, effects: &mut Effects) {
        let Some(max_wait) = self.options.max_wait else { return };
        let waits = self.waiting.values().filter_map(|id| match self.appenders.get(id)?.progress {
            Progress::Waiting { bytes, since, .. } => Some((*id, bytes, now.since(since))),
            Progress::Idle | Progress::Reserved { .. } => None,
        });
        let late: Vec<_> = waits.filter(|(_, _, waited)| *waited >= max_wait).collect();
        if late.is_empty() {
            return;
        }
        let (fill, held_by) = (self.budget.fill(self.is_durable), self.held_by(now).map(Box::new));
        for (id, bytes, waited) in late {
            self.refuse_wait(id, Error::WaitedTooLong { bytes, waited, fill, held_by: held_by.clone() }, effects);
        }
    }

    pub(super) fn refuse_wait(&mut self, id: AppenderId, error: Error, effects: &mut Effects) {
        self.release_room(id);
        effects.refused.push((id, error));
    }

    /// Who has neither acked nor planned the oldest batch of all that hold back producers; none if nobody does.
    fn held_by(&self, now: Timestamp) -> Option<HeldBy> {
        let firm = self.subscriptions.iter().filter(|(_, one)| one.holds() && one.on_overflow == OnOverflow::Hold);
        let oldest = firm.flat_map(|(name, subscription)| {
            let places = self.partitions.iter().zip(&subscription.cursors).zip((0..).map(PartitionId));
            places.filter_map(move |((partition, cursor), number)| Some((partition.get(cursor.unblocked())?, cursor, number, name)))
        });
        let (batch, cursor, partition, name) = oldest.min_by_key(|(batch, ..)| batch.age)?;
        let held_for = now.since(batch.visible_at.max(cursor.moved_at));
        Some(HeldBy { subscription: name.clone(), partition, offset: batch.offset, held_for })
    }
}
