//! Epochs: open, commit, abort; and the signs of life of those who run them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::epoch::{OpenEpoch, Producer};
use super::super::{Attempt, Effects, Epoch, EpochState, Error, Outcome, Part, ProducerId, RunId, Task, Timestamp};
use super::Stream;
use crate::zoo::{self, Bug};

impl<D: Clone> Stream<D> {
    /// When an epoch of a producer's run was opened, if it is open.
    #[must_use]
    pub fn epoch_opened_at(&self, producer: &ProducerId, run: &RunId, epoch: Epoch) -> Option<Timestamp> {
        let state = self.producers.get(producer).filter(|state| state.run == *run)?;
        Some(state.epochs.get(&epoch)?.opened_at)
    }

    /// What the named writers of an open epoch have staged: batches, rows and bytes.
    #[must_use]
    pub fn staged(&self, producer: &ProducerId, epoch: Epoch, named: &[(Task, Attempt)]) -> (u64, u64, u64) {
        let epoch = self.producers.get(producer).and_then(|state| state.epochs.get(&epoch));
        let writers = epoch.into_iter().flat_map(|epoch| named.iter().filter_map(|name| epoch.writers.get(name)));
        writers.fold((0, 0, 0), |sum, writer| (sum.0 + writer.next_ordinal, sum.1 + writer.rows, sum.2 + writer.bytes))
    }

    pub(super) fn open_epoch(
        &mut self,
        producer: &ProducerId,
        run: &RunId,
        epoch: Epoch,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        let open = self.check_open();
        let state = self.enter_producer(producer, run, now, effects)?;
        if state.check_uncommitted(producer, epoch).is_err() {
            self.epochs_replayed += 1;
            return Ok(Outcome::Epoch(EpochState::AlreadyCommitted));
        }
        open?;
        state.open_epoch(epoch, now)?;
        Ok(Outcome::Epoch(EpochState::Open))
    }

    pub(super) fn commit_epoch(
        &mut self,
        producer: &ProducerId,
        run: &RunId,
        epoch: Epoch,
        receipts: &[(Task, Attempt)],
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        let open = self.check_open();
        let state = self.enter_producer(producer, run, now, effects)?;
        if state.check_uncommitted(producer, epoch).is_err() {
            self.epochs_replayed += 1;
            return Ok(Outcome::Epoch(EpochState::AlreadyCommitted));
        }
        open?;
        check_receipts(state, epoch, receipts)?;
        if !zoo::has(Bug::CommitForgotten) {
            state.committed = Some(epoch);
        }
        let mut ended = state.take_epochs_through(epoch);
        let committed = ended.remove(&epoch);
        self.abort_epochs(ended.into_values(), effects);
        if let Some(mut committed) = committed {
            self.show_winners(&mut committed, receipts, now, effects);
            self.drop_epoch(committed, effects);
        }
        self.epochs_committed += 1;
        self.touch(Part::Producer(producer.clone()), effects);
        Ok(Outcome::Epoch(EpochState::Committed))
    }

    /// Makes what the named writers have staged visible, by task, so that the order is the same however the
    /// receipts came in. With `immediate` visibility nothing is staged: it is visible already.
    fn show_winners(&mut self, epoch: &mut OpenEpoch<D>, receipts: &[(Task, Attempt)], now: Timestamp, effects: &mut Effects) {
        let mut winners = receipts.to_vec();
        if zoo::has(Bug::AllAttemptsCount) {
            winners = epoch.writers.iter().filter(|(_, writer)| writer.finished).map(|(key, _)| *key).collect();
        }
        winners.sort_unstable();
        for key in winners {
            let staged = epoch.writers.get_mut(&key).map(|writer| std::mem::take(&mut writer.staged));
            for batch in staged.into_iter().flatten() {
                self.show(batch, now, effects);
            }
        }
    }

    pub(super) fn abort_epoch(
        &mut self,
        producer: &ProducerId,
        run: &RunId,
        epoch: Epoch,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        let state = self.enter_producer(producer, run, now, effects)?;
        if state.check_uncommitted(producer, epoch).is_err() {
            return Ok(Outcome::Epoch(EpochState::AlreadyCommitted));
        }
        let aborted = state.take_aborted(epoch);
        self.abort_epochs(aborted, effects);
        Ok(Outcome::Epoch(EpochState::Aborted))
    }

    /// Drops epochs that will not commit.
    pub(super) fn abort_epochs(&mut self, epochs: impl IntoIterator<Item = OpenEpoch<D>>, effects: &mut Effects) {
        for epoch in epochs {
            self.epochs_aborted += 1;
            self.drop_epoch(epoch, effects);
        }
    }

    /// Gives back what an epoch has staged, and ends the waits of its writers. The epoch is out of its
    /// producer's list already.
    fn drop_epoch(&mut self, epoch: OpenEpoch<D>, effects: &mut Effects) {
        let orphans: Vec<_> = epoch.writers.values().map(|writer| writer.appender).collect();
        self.writers -= orphans.len();
        for batch in epoch.writers.into_values().flat_map(|writer| writer.staged) {
            self.budget.release(batch.place, batch.facts.bytes);
            effects.dropped_batches += 1;
        }
        self.stop_appenders(orphans, effects);
    }

    pub(super) fn keep_producer(
        &mut self,
        producer: &ProducerId,
        run: &RunId,
        lease: Duration,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        let state = self.enter_producer(producer, run, now, effects)?;
        let lease = (!lease.is_zero()).then_some(lease);
        let was_leased = std::mem::replace(&mut state.lease, lease);
        state.lease_until = lease.map(|lease| now.plus(lease));
        let was_lost = std::mem::replace(&mut state.lost, false);
        effects.changed |= was_lost;
        if was_leased != lease {
            self.touch(Part::Producer(producer.clone()), effects);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn expire_producers(&mut self, now: Timestamp, effects: &mut Effects) -> Outcome {
        for state in self.producers.values_mut() {
            if state.lease_until.is_some_and(|until| until < now) {
                state.lease_until = None;
                state.lost = true;
                effects.changed = true;
            }
        }
        Outcome::Done
    }
}

/// Every receipt names a finished writer, and no task has two.
fn check_receipts<D>(state: &Producer<D>, epoch: Epoch, receipts: &[(Task, Attempt)]) -> Result<(), Error> {
    let writers = state.epochs.get(&epoch).map(|open| &open.writers);
    let mut tasks = BTreeSet::new();
    for &(task, attempt) in receipts {
        if !writers.and_then(|writers| writers.get(&(task, attempt))).is_some_and(|writer| writer.finished) {
            return Err(Error::ReceiptUnknown { epoch, task, attempt });
        }
        if !tasks.insert(task) {
            return Err(Error::TaskNamedTwice { epoch, task });
        }
    }
    Ok(())
}
