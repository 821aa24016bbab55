//! Appending: open, reserve room, append into it, finish, close; and the queue of those that wait.

use super::super::appender::{Appender, Progress};
use super::super::batch::StagedBatch;
use super::super::epoch::{Producer, Writer};
use super::super::limits::{APPENDERS_MAX, PRODUCERS_MAX};
use super::super::{
    AppenderId, AppenderKind, BatchFacts, Effects, Error, FullPolicy, Offset, Outcome, PartitionId, Place, ProducerId, Receipt, RunId,
    Timestamp, Visibility,
};
use super::Stream;

impl<D: Clone> Stream<D> {
    pub(super) fn open_appender(&mut self, kind: AppenderKind, now: Timestamp, effects: &mut Effects) -> Result<Outcome, Error> {
        self.check_open()?;
        if self.appenders.len() >= APPENDERS_MAX {
            return Err(Error::TooMany { what: "appenders", limit: APPENDERS_MAX });
        }
        let id = AppenderId(self.next_appender);
        let (next_ordinal, superseded) = match &kind {
            AppenderKind::Anonymous { producer } => {
                let run = RunId::new("anonymous").expect("a constant, valid name");
                self.enter_producer(producer, &run, now, effects)?.direct = Some(id);
                (0, None)
            }
            AppenderKind::Direct { producer, run } => {
                let state = self.enter_producer(producer, run, now, effects)?;
                (state.direct_next_ordinal, state.direct.replace(id))
            }
            AppenderKind::Writer { producer, run, epoch, task, attempt } => {
                let state = self.enter_producer(producer, run, now, effects)?;
                state.check_uncommitted(producer, *epoch)?;
                let writers = &mut Self::epoch_entry(state, *epoch, now).writers;
                let known = writers.contains_key(&(*task, *attempt));
                let writer = writers.entry((*task, *attempt)).or_insert_with(|| Writer::new(id));
                let former = std::mem::replace(&mut writer.appender, id);
                (writer.next_ordinal, known.then_some(former))
            }
        };
        if let Some(former) = superseded {
            self.forget_appender(former);
            effects.refused.push((former, Error::AppenderSuperseded { appender: former }));
        }
        self.next_appender += 1;
        self.appenders.insert(id, Appender { kind, progress: Progress::Idle });
        Ok(Outcome::Opened { appender: id, next_ordinal })
    }

    /// The producer's state, after its run was let in.
    pub(super) fn enter_producer(
        &mut self,
        producer: &ProducerId,
        run: &RunId,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<&mut Producer<D>, Error> {
        if !self.producers.contains_key(producer) {
            self.make_room_for_producer()?;
            self.producers.insert(producer.clone(), Producer::new(run.clone(), now));
        }
        let state = self.producers.get_mut(producer).expect("inserted above if it was missing");
        let was_lost = state.lost;
        let dropped = state.enter(producer, run, now)?;
        effects.changed |= was_lost && !state.lost;
        for (_, epoch) in dropped {
            self.epochs_aborted += 1;
            self.drop_epoch(epoch, effects);
        }
        Ok(self.producers.get_mut(producer).expect("looked up above"))
    }

    fn make_room_for_producer(&mut self) -> Result<(), Error> {
        if self.producers.len() < PRODUCERS_MAX {
            return Ok(());
        }
        let idle = self.producers.iter().filter(|(_, state)| state.is_forgettable()).min_by_key(|(_, state)| state.last_seen);
        let Some(name) = idle.map(|(name, _)| name.clone()) else {
            return Err(Error::TooMany { what: "producers", limit: PRODUCERS_MAX });
        };
        self.producers.remove(&name);
        Ok(())
    }

    pub(super) fn reserve(&mut self, id: AppenderId, bytes: u64, now: Timestamp, effects: &mut Effects) -> Result<Outcome, Error> {
        self.check_open()?;
        self.check_appender(id, bytes)?;
        self.release_reservation(id);
        let placed =
            if self.waiting.is_empty() { self.try_place(bytes, effects)? } else { self.budget.check_size(bytes).map(|()| None)? };
        let (progress, outcome) = match placed {
            Some(place) => {
                self.budget.charge(place, bytes);
                (Progress::Reserved { place, bytes }, Outcome::Reserved { place })
            }
            None => {
                self.waiting.push_back(id);
                (Progress::Waiting { bytes, since: now }, Outcome::Waiting)
            }
        };
        if let Some(appender) = self.appenders.get_mut(&id) {
            appender.progress = progress;
        }
        Ok(outcome)
    }

    /// Refuses an appender that is not open, or whose epoch is no longer.
    fn check_appender(&self, id: AppenderId, bytes: u64) -> Result<(), Error> {
        let appender = self.appenders.get(&id).ok_or(Error::AppenderNotReady { appender: id, bytes })?;
        let AppenderKind::Writer { producer, run, epoch, task, attempt } = &appender.kind else { return Ok(()) };
        let state = self.producers.get(producer).ok_or_else(|| Error::ProducerUnknown { producer: producer.clone() })?;
        if state.run != *run {
            return Err(Error::Fenced { producer: producer.clone(), run: run.clone(), current: state.run.clone() });
        }
        let known = state.epochs.get(epoch).is_some_and(|epoch| epoch.writers.contains_key(&(*task, *attempt)));
        if known { Ok(()) } else { Err(state.missing_epoch(producer, *epoch)) }
    }

    /// Where a batch of this size goes now; none if it has to wait.
    ///
    /// Memory comes first. If it is full, what can leave it without the help of whoever asks is worth waiting
    /// for: visible batches that some subscription neither acked nor planned. If there are none, the space is
    /// held by open epochs, or by what Spark has planned but commits only when it is given more: waiting
    /// could last for ever, so the batch is spooled.
    fn try_place(&mut self, bytes: u64, effects: &mut Effects) -> Result<Option<Place>, Error> {
        self.budget.check_size(bytes)?;
        if self.budget.fits_memory(bytes) {
            return Ok(Some(Place::Memory));
        }
        if self.holds_back_producers() {
            match self.options.full_policy {
                FullPolicy::Wait => return Ok(None),
                FullPolicy::Reject => return Err(self.budget.full(bytes)),
                FullPolicy::DropOldest => {
                    while !self.budget.fits_memory(bytes) && self.drop_oldest(effects) {}
                    if self.budget.fits_memory(bytes) {
                        return Ok(Some(Place::Memory));
                    }
                }
            }
        }
        if self.budget.fits_spool(bytes) { Ok(Some(Place::Spool)) } else { Err(self.budget.spool_full(bytes)) }
    }

    pub(super) fn append(
        &mut self,
        id: AppenderId,
        ordinal: u64,
        partition: PartitionId,
        (rows, bytes, data): (u64, u64, D),
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        let reserved = self.release_reservation(id);
        self.check_open()?;
        self.partition(partition)?;
        self.check_appender(id, bytes)?;
        let kind = self.appenders.get(&id).ok_or(Error::AppenderNotReady { appender: id, bytes })?.kind.clone();
        let expected = self.advance_ordinal(&kind, ordinal)?;
        if ordinal < expected {
            return Ok(Outcome::Appended { offset: None });
        }
        let place = match reserved {
            Some((place, room)) if bytes <= room => place,
            _ => {
                self.set_ordinal(&kind, expected);
                return Err(Error::AppenderNotReady { appender: id, bytes });
            }
        };
        self.budget.charge(place, bytes);
        let facts = BatchFacts { rows, bytes, producer: kind.producer().clone(), epoch: kind.epoch(), appended_at: now };
        let offset = match &kind {
            AppenderKind::Writer { .. } if self.options.visibility == Visibility::Committed => {
                self.stage(&kind, StagedBatch { partition, facts, data, place });
                None
            }
            AppenderKind::Writer { .. } | AppenderKind::Direct { .. } | AppenderKind::Anonymous { .. } => {
                self.count_for_receipt(&kind, rows, bytes);
                Some(self.publish(StagedBatch { partition, facts, data, place }, effects))
            }
        };
        Ok(Outcome::Appended { offset })
    }

    /// Makes a batch visible. It is charged already.
    pub(super) fn publish(&mut self, batch: StagedBatch<D>, effects: &mut Effects) -> Offset {
        let age = self.next_age;
        self.next_age += 1;
        if effects.visible.last() != Some(&batch.partition) {
            effects.visible.push(batch.partition);
        }
        self.partitions[batch.partition.index()].push(batch.facts, batch.data, batch.place, age)
    }

    /// Takes note that `ordinal` is being appended; returns the ordinal that was expected.
    fn advance_ordinal(&mut self, kind: &AppenderKind, ordinal: u64) -> Result<u64, Error> {
        let Some(next) = self.next_ordinal(kind) else { return Ok(0) };
        let expected = *next;
        if ordinal > expected {
            return Err(Error::OrdinalGap { ordinal, expected });
        }
        *next = expected.max(ordinal + 1);
        Ok(expected)
    }

    fn set_ordinal(&mut self, kind: &AppenderKind, ordinal: u64) {
        if let Some(next) = self.next_ordinal(kind) {
            *next = ordinal;
        }
    }

    fn next_ordinal(&mut self, kind: &AppenderKind) -> Option<&mut u64> {
        match kind {
            AppenderKind::Direct { producer, .. } | AppenderKind::Anonymous { producer } => {
                self.producers.get_mut(producer).map(|state| &mut state.direct_next_ordinal)
            }
            AppenderKind::Writer { .. } => self.writer(kind).map(|writer| &mut writer.next_ordinal),
        }
    }

    fn writer(&mut self, kind: &AppenderKind) -> Option<&mut Writer<D>> {
        let AppenderKind::Writer { producer, epoch, task, attempt, .. } = kind else { return None };
        self.producers.get_mut(producer)?.epochs.get_mut(epoch)?.writers.get_mut(&(*task, *attempt))
    }

    fn count_for_receipt(&mut self, kind: &AppenderKind, rows: u64, bytes: u64) {
        if let Some(writer) = self.writer(kind) {
            writer.rows += rows;
            writer.bytes += bytes;
        }
    }

    fn stage(&mut self, kind: &AppenderKind, batch: StagedBatch<D>) {
        self.count_for_receipt(kind, batch.facts.rows, batch.facts.bytes);
        if let Some(writer) = self.writer(kind) {
            writer.staged.push(batch);
        }
    }

    pub(super) fn finish_writer(&mut self, id: AppenderId) -> Result<Outcome, Error> {
        self.check_open()?;
        self.check_appender(id, 0)?;
        let missing = Error::AppenderNotReady { appender: id, bytes: 0 };
        let kind = self.appenders.get(&id).ok_or(missing.clone())?.kind.clone();
        let AppenderKind::Writer { epoch, task, attempt, .. } = &kind else { return Err(missing) };
        let writer = self.writer(&kind).ok_or(missing)?;
        writer.finished = true;
        Ok(Outcome::Receipt(Receipt {
            epoch: *epoch,
            task: *task,
            attempt: *attempt,
            batches: writer.next_ordinal,
            rows: writer.rows,
            bytes: writer.bytes,
        }))
    }

    pub(super) fn close_appender(&mut self, id: AppenderId) -> Result<Outcome, Error> {
        let Some(kind) = self.forget_appender(id) else { return Ok(Outcome::Done) };
        let Some(state) = self.producers.get_mut(kind.producer()) else { return Ok(Outcome::Done) };
        if state.direct == Some(id) {
            state.direct = None;
        }
        if matches!(kind, AppenderKind::Anonymous { .. }) {
            self.producers.remove(kind.producer());
        }
        Ok(Outcome::Done)
    }

    /// Takes the appender out, with its wait and its reservation.
    fn forget_appender(&mut self, id: AppenderId) -> Option<AppenderKind> {
        self.release_reservation(id);
        self.waiting.retain(|waiting| *waiting != id);
        self.appenders.remove(&id).map(|appender| appender.kind)
    }

    /// Gives back what the appender has reserved; ends its wait, if it waits.
    fn release_reservation(&mut self, id: AppenderId) -> Option<(Place, u64)> {
        let appender = self.appenders.get_mut(&id)?;
        match std::mem::replace(&mut appender.progress, Progress::Idle) {
            Progress::Idle => None,
            Progress::Waiting { .. } => {
                self.waiting.retain(|waiting| *waiting != id);
                None
            }
            Progress::Reserved { place, bytes } => {
                self.budget.release(place, bytes);
                Some((place, bytes))
            }
        }
    }

    /// Lets in those at the head of the queue that now fit, and sends away those that no longer can.
    pub(super) fn serve_waiting(&mut self, effects: &mut Effects) {
        while let Some(&id) = self.waiting.front() {
            let Some(Progress::Waiting { bytes, .. }) = self.appenders.get(&id).map(|appender| appender.progress) else {
                self.waiting.pop_front();
                continue;
            };
            let placed = self.check_open().and_then(|()| self.check_appender(id, bytes)).and_then(|()| self.try_place(bytes, effects));
            let progress = match placed {
                Ok(None) => return,
                Ok(Some(place)) => {
                    self.budget.charge(place, bytes);
                    effects.granted.push((id, place));
                    Progress::Reserved { place, bytes }
                }
                Err(error) => {
                    effects.refused.push((id, error));
                    Progress::Idle
                }
            };
            self.waiting.pop_front();
            if let Some(appender) = self.appenders.get_mut(&id) {
                appender.progress = progress;
            }
        }
    }

    /// Ends the waits and reservations of appenders whose epoch is gone, wherever they stand in the queue.
    pub(super) fn drop_orphans(&mut self, orphans: &[AppenderId], effects: &mut Effects) {
        for id in orphans {
            let waits = matches!(self.appenders.get(id).map(|appender| appender.progress), Some(Progress::Waiting { .. }));
            self.release_reservation(*id);
            if waits && let Err(error) = self.check_open().and_then(|()| self.check_appender(*id, 0)) {
                effects.refused.push((*id, error));
            }
        }
    }
}
