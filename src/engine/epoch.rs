//! Producers, their epochs and the writers in them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::batch::StagedBatch;
use super::limits::{EPOCHS_MAX, SUPERSEDED_RUNS_MAX};
use super::snapshot::ProducerSnapshot;
use super::{AppenderId, AppenderKind, Attempt, Connection, Epoch, Error, ProducerId, RunId, Task, Timestamp};
use crate::zoo::{self, Bug};

/// Where an epoch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochState {
    /// It takes writers.
    Open,
    /// This command has committed it.
    Committed,
    /// It, or a later one, was committed before: a replay, which changes nothing.
    AlreadyCommitted,
    /// Nothing of it is held.
    Aborted,
}

/// What a writer gets when its data is staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The epoch.
    pub epoch: Epoch,
    /// The task.
    pub task: Task,
    /// The attempt.
    pub attempt: Attempt,
    /// Batches staged.
    pub batches: u64,
    /// Rows staged.
    pub rows: u64,
    /// Bytes staged.
    pub bytes: u64,
    /// When its epoch was opened: what tells it from one of an earlier try of the same epoch, which was aborted.
    pub opened_at: Timestamp,
}

/// One task attempt's staged data.
#[derive(Debug)]
pub(super) struct Writer<D> {
    /// The appender that feeds it; older ones are refused.
    pub(super) appender: AppenderId,
    pub(super) connection: Option<Connection>,
    pub(super) next_ordinal: u64,
    pub(super) staged: Vec<StagedBatch<D>>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// A commit may name it: all of its batches have come. It takes no more, so that its receipt stays true.
    pub(super) finished: bool,
}

impl<D> Writer<D> {
    pub(super) fn new(appender: AppenderId, connection: Option<Connection>) -> Self {
        Self { appender, connection, next_ordinal: 0, staged: Vec::new(), rows: 0, bytes: 0, finished: false }
    }

    /// Counts a batch for the receipt.
    pub(super) fn count(&mut self, rows: u64, bytes: u64) {
        self.rows = self.rows.saturating_add(rows);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

#[derive(Debug)]
pub(super) struct OpenEpoch<D> {
    pub(super) opened_at: Timestamp,
    pub(super) writers: BTreeMap<(Task, Attempt), Writer<D>>,
}

/// What a run leaves behind when a newer one takes over.
#[derive(Debug)]
pub(super) struct Former<D> {
    pub(super) epochs: BTreeMap<Epoch, OpenEpoch<D>>,
    pub(super) direct: Option<AppenderId>,
}

/// What the stream remembers of a producer.
#[derive(Debug)]
pub(super) struct Producer<D> {
    /// The run that may append and commit.
    pub(super) run: RunId,
    /// Runs that were taken over, oldest first; bounded.
    pub(super) superseded: VecDeque<RunId>,
    /// The last committed epoch; everything up to it is a replay.
    pub(super) committed: Option<Epoch>,
    pub(super) epochs: BTreeMap<Epoch, OpenEpoch<D>>,
    /// When the newest of them was opened: no two are opened at the same time.
    last_opened_at: Timestamp,
    /// Epochs that this run has aborted and not opened again: a task that comes late would stage what nobody
    /// ends. Bounded, the highest are kept.
    aborted: BTreeSet<Epoch>,
    /// The direct appender, while it is open.
    pub(super) direct: Option<AppenderId>,
    /// The newest connection of this run that a direct appender was opened on.
    pub(super) direct_connection: Option<Connection>,
    /// What it appends next.
    pub(super) direct_next_ordinal: u64,
    /// Ordinals beyond that whose batches are stored already: a crash has kept them, in one partition, and not what came
    /// before them in another.
    pub(super) direct_stored_ahead: BTreeSet<u64>,
    /// How long a sign of life lasts; none if the producer gives none.
    pub(super) lease: Option<Duration>,
    /// When the last sign of life runs out; none if the producer gives none.
    pub(super) lease_until: Option<Timestamp>,
    pub(super) lost: bool,
    pub(super) last_seen: Timestamp,
}

impl<D> Producer<D> {
    pub(super) fn new(run: RunId, now: Timestamp) -> Self {
        Self {
            run,
            superseded: VecDeque::new(),
            committed: None,
            epochs: BTreeMap::new(),
            last_opened_at: Timestamp::default(),
            aborted: BTreeSet::new(),
            direct: None,
            direct_connection: None,
            direct_next_ordinal: 0,
            direct_stored_ahead: BTreeSet::new(),
            lease: None,
            lease_until: None,
            lost: false,
            last_seen: now,
        }
    }

    /// What a restart has found. Its lease begins anew: nobody could renew it meanwhile.
    pub(super) fn restore(found: ProducerSnapshot, now: Timestamp) -> Self {
        Self {
            superseded: found.superseded.into(),
            committed: found.committed,
            direct_next_ordinal: found.next_ordinal,
            direct_stored_ahead: found.stored_ahead,
            lease: found.lease,
            lease_until: found.lease.map(|lease| now.plus(lease)),
            ..Self::new(found.run, now)
        }
    }

    /// Lets `run` in: the valid one as it is, an unknown one as the new valid one, a superseded one not.
    /// Returns what the former run leaves behind, if `run` takes over.
    pub(super) fn enter(&mut self, producer: &ProducerId, run: &RunId, now: Timestamp) -> Result<Option<Former<D>>, Error> {
        if self.superseded.contains(run) && !zoo::has(Bug::FenceIgnored) {
            return Err(self.fenced(producer, run));
        }
        self.last_seen = now;
        if *run == self.run {
            return Ok(None);
        }
        if self.superseded.len() == SUPERSEDED_RUNS_MAX {
            self.superseded.pop_front();
        }
        self.superseded.push_back(std::mem::replace(&mut self.run, run.clone()));
        self.aborted.clear();
        self.direct_connection = None;
        self.direct_next_ordinal = 0;
        self.direct_stored_ahead.clear();
        self.lease = None;
        self.lease_until = None;
        self.lost = false;
        Ok(Some(Former { epochs: std::mem::take(&mut self.epochs), direct: self.direct.take() }))
    }

    fn fenced(&self, producer: &ProducerId, run: &RunId) -> Error {
        Error::Fenced { producer: producer.clone(), run: run.clone(), current: self.run.clone() }
    }

    /// Refuses an appender of an older run, of an epoch that is not open, or one that a newer took over.
    pub(super) fn check_appender(&self, id: AppenderId, kind: &AppenderKind) -> Result<(), Error> {
        let (run, feeder) = match kind {
            AppenderKind::Anonymous { .. } => return Ok(()),
            AppenderKind::Direct { run, .. } => (run, self.direct),
            AppenderKind::Writer { run, epoch, task, attempt, .. } => {
                let writer = self.epochs.get(epoch).and_then(|open| open.writers.get(&(*task, *attempt)));
                (run, writer.map(|writer| writer.appender))
            }
        };
        if *run != self.run {
            return Err(self.fenced(kind.producer(), run));
        }
        match (feeder, kind.epoch()) {
            (Some(feeder), _) if feeder == id => Ok(()),
            (None, Some(epoch)) => Err(self.missing_epoch(kind.producer(), epoch)),
            _ => Err(Error::AppenderSuperseded { appender: id }),
        }
    }

    /// The open epoch, opened now if it was not, also after an abort.
    pub(super) fn open_epoch(&mut self, epoch: Epoch, now: Timestamp) -> Result<&mut OpenEpoch<D>, Error> {
        if self.epochs.len() >= EPOCHS_MAX && !self.epochs.contains_key(&epoch) {
            return Err(Error::TooMany { what: "open epochs of the producer", limit: EPOCHS_MAX });
        }
        self.aborted.remove(&epoch);
        let next = now.max(self.last_opened_at.plus(Duration::from_micros(1)));
        let last_opened_at = &mut self.last_opened_at;
        Ok(self.epochs.entry(epoch).or_insert_with(|| {
            *last_opened_at = next;
            OpenEpoch { opened_at: next, writers: BTreeMap::new() }
        }))
    }

    /// Refuses a writer's epoch that was aborted and not opened again.
    pub(super) fn check_unaborted(&self, producer: &ProducerId, epoch: Epoch) -> Result<(), Error> {
        if self.aborted.contains(&epoch) {
            return Err(Error::EpochNotOpen { producer: producer.clone(), epoch });
        }
        Ok(())
    }

    /// Takes out an epoch that is aborted, and remembers that it was, open or not.
    pub(super) fn take_aborted(&mut self, epoch: Epoch) -> Option<OpenEpoch<D>> {
        self.aborted.insert(epoch);
        if self.aborted.len() > EPOCHS_MAX {
            self.aborted.pop_first();
        }
        self.epochs.remove(&epoch)
    }

    /// Refuses an epoch that is committed already.
    pub(super) fn check_uncommitted(&self, producer: &ProducerId, epoch: Epoch) -> Result<(), Error> {
        match self.committed {
            Some(committed) if epoch <= committed => Err(Error::EpochCommitted { producer: producer.clone(), epoch, committed }),
            _ => Ok(()),
        }
    }

    /// Why a writer's epoch cannot be found.
    fn missing_epoch(&self, producer: &ProducerId, epoch: Epoch) -> Error {
        match self.check_uncommitted(producer, epoch) {
            Err(error) => error,
            Ok(()) => Error::EpochNotOpen { producer: producer.clone(), epoch },
        }
    }

    /// Takes out the epochs up to `epoch`, which its commit ends.
    pub(super) fn take_epochs_through(&mut self, epoch: Epoch) -> BTreeMap<Epoch, OpenEpoch<D>> {
        self.aborted.retain(|aborted| *aborted > epoch);
        let later = epoch.0.checked_add(1).map(|next| self.epochs.split_off(&Epoch(next))).unwrap_or_default();
        std::mem::replace(&mut self.epochs, later)
    }

    /// No promise breaks by forgetting it. Its ordinals and superseded runs are lost: a direct producer that
    /// comes back after so many others starts at ordinal 0, and its zombies are taken for new runs.
    pub(super) fn is_forgettable(&self) -> bool {
        self.committed.is_none() && self.epochs.is_empty() && self.direct.is_none() && self.lease_until.is_none() && !self.lost
    }
}
