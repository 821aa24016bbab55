//! Appending into reserved room, and finishing a writer.

use super::super::batch::StagedBatch;
use super::super::epoch::Writer;
use super::super::{AppenderId, AppenderKind, BatchFacts, Effects, Error, Offset, Outcome, Part, PartitionId, Receipt, Timestamp};
use super::Stream;
use crate::zoo::{self, Bug};

impl<D: Clone> Stream<D> {
    pub(super) fn append(
        &mut self,
        id: AppenderId,
        ordinal: u64,
        partition: PartitionId,
        (rows, bytes, data): (u64, u64, D),
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        let not_ready = Error::AppenderNotReady { appender: id, bytes };
        let reserved = self.release_room(id);
        self.check_open()?;
        self.partition(partition)?;
        self.check_appender(id, bytes)?;
        let kind = self.appenders.get(&id).ok_or(not_ready.clone())?.kind.clone();
        let expected = *self.next_ordinal(id, &kind).ok_or(not_ready.clone())?;
        if ordinal > expected {
            return Err(Error::OrdinalGap { ordinal, expected });
        }
        if !zoo::has(Bug::SentAgainStoredAgain) && (ordinal < expected || self.is_stored_ahead(&kind, ordinal, effects)) {
            return Ok(Outcome::Appended { offset: None, again: true });
        }
        self.check_unfinished(&kind)?;
        let (place, _) = reserved.filter(|(_, room)| bytes <= *room).ok_or(not_ready)?;
        self.budget.charge(place, bytes);
        if let Some(next) = self.next_ordinal(id, &kind) {
            *next += 1;
        }
        let facts = BatchFacts { rows, bytes, producer: kind.producer().clone(), epoch: kind.epoch(), appended_at: now };
        let offset = self.take_in(&kind, StagedBatch { partition, facts, data, place }, now, effects);
        if let AppenderKind::Direct { producer, .. } = kind {
            self.touch(Part::Producer(producer), effects);
        }
        Ok(Outcome::Appended { offset, again: false })
    }

    /// Counts a batch for its writer, if a writer sent it, and stages it or makes it visible.
    fn take_in(&mut self, kind: &AppenderKind, batch: StagedBatch<D>, now: Timestamp, effects: &mut Effects) -> Option<Offset> {
        let visible = self.is_visible_at_once(kind);
        let Some(writer) = self.writer(kind) else { return Some(self.show(batch, now, effects)) };
        writer.count(batch.facts.rows, batch.facts.bytes);
        if visible {
            return Some(self.show(batch, now, effects));
        }
        writer.staged.push(batch);
        None
    }

    /// Makes a batch visible, or gives it its offset and leaves the rest to [`Command::Settle`](super::super::Command::Settle).
    /// It is charged already.
    pub(super) fn show(&mut self, batch: StagedBatch<D>, now: Timestamp, effects: &mut Effects) -> Offset {
        let age = self.next_age;
        self.next_age += 1;
        let partition = &mut self.partitions[batch.partition.index()];
        let offset = partition.push(batch.facts, batch.data, batch.place, age, now);
        if self.is_durable && !zoo::has(Bug::VisibleAtOnce) {
            partition.hide_newest();
            self.touch(Part::Partition(batch.partition), effects);
        } else {
            partition.count_shown(1, now);
            effects.visible.push(batch.partition);
        }
        offset
    }

    /// The number of the batch that is to come next from this appender.
    fn next_ordinal(&mut self, id: AppenderId, kind: &AppenderKind) -> Option<&mut u64> {
        match kind {
            AppenderKind::Anonymous { .. } => self.appenders.get_mut(&id).map(|appender| &mut appender.anonymous_next_ordinal),
            AppenderKind::Direct { producer, .. } => self.producers.get_mut(producer).map(|state| &mut state.direct_next_ordinal),
            AppenderKind::Writer { .. } => self.writer(kind).map(|writer| &mut writer.next_ordinal),
        }
    }

    /// Whether a crash has kept the batch of the ordinal that comes next. Then the one after it does.
    fn is_stored_ahead(&mut self, kind: &AppenderKind, ordinal: u64, effects: &mut Effects) -> bool {
        let AppenderKind::Direct { producer, .. } = kind else { return false };
        let Some(state) = self.producers.get_mut(producer) else { return false };
        let is_stored = state.direct_stored_ahead.remove(&ordinal);
        if is_stored {
            state.direct_next_ordinal = ordinal + 1;
            self.touch(Part::Producer(producer.clone()), effects);
        }
        is_stored
    }

    fn writer(&mut self, kind: &AppenderKind) -> Option<&mut Writer<D>> {
        let AppenderKind::Writer { producer, epoch, task, attempt, .. } = kind else { return None };
        self.producers.get_mut(producer)?.epochs.get_mut(epoch)?.writers.get_mut(&(*task, *attempt))
    }

    /// Refuses a writer that has its receipt: a commit may count on what that says.
    fn check_unfinished(&mut self, kind: &AppenderKind) -> Result<(), Error> {
        match (kind, self.writer(kind)) {
            (&AppenderKind::Writer { epoch, task, attempt, .. }, Some(writer)) if writer.finished => {
                Err(Error::WriterFinished { epoch, task, attempt })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn finish_writer(&mut self, id: AppenderId) -> Result<Outcome, Error> {
        self.check_open()?;
        self.check_appender(id, 0)?;
        let missing = Error::AppenderNotReady { appender: id, bytes: 0 };
        let kind = self.appenders.get(&id).ok_or(missing.clone())?.kind.clone();
        let AppenderKind::Writer { producer, run, epoch, task, attempt } = &kind else { return Err(missing) };
        let opened_at = self.epoch_opened_at(producer, run, *epoch).ok_or(missing.clone())?;
        let writer = self.writer(&kind).ok_or(missing)?;
        writer.finished = true;
        Ok(Outcome::Receipt(Receipt {
            epoch: *epoch,
            task: *task,
            attempt: *attempt,
            batches: writer.next_ordinal,
            rows: writer.rows,
            bytes: writer.bytes,
            opened_at,
        }))
    }
}
