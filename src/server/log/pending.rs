//! What a stream's log has still to do.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::Arc;

use crate::engine::{Command, Effects, Epoch, Offset, Part, PartitionId, ProducerId, Stream};
use crate::storage::StoredBatch;
use crate::storage::catalog::{Change, SavedStream};
use crate::storage::log::{Appended, Shown};
use crate::storage::segment::EntryFacts;

/// Work of a stream's log that nobody has taken yet. Lies under the stream's lock.
#[derive(Debug)]
pub(in crate::server) struct Pending {
    appended: Vec<Appended>,
    /// What the catalog has to know before anybody is answered.
    due: BTreeSet<Part>,
    /// What it has to know some time: it follows from the log, or says only what nobody needs any more.
    late: BTreeSet<Part>,
    is_deleted: bool,
    /// How often work was added.
    number: u64,
    /// Of each partition, the offset up to which the log has been told where its batches are.
    told: Vec<Offset>,
}

/// Work that was taken.
#[derive(Debug)]
pub(in crate::server) struct Work {
    pub(super) number: u64,
    /// By version.
    pub(super) schemas: Vec<Arc<[u8]>>,
    pub(super) appended: std::collections::VecDeque<Appended>,
    pub(super) changes: Vec<Change>,
    /// Whether the catalog then knows everything that has changed.
    pub(super) has_late: bool,
    /// Batches that a commit has given their offsets.
    pub(super) shown: Vec<Shown>,
    /// Each partition's end.
    pub(super) ends: Vec<(PartitionId, Offset)>,
    pub(super) is_deleted: bool,
    /// Written behind a commit that the catalog does not know yet: a restart would forget both.
    pub(super) hidden: Vec<EntryFacts>,
    /// The object store has all of it.
    pub(super) is_stored: bool,
    /// Of producers, the last epoch that the object store has with its batches, though the catalog may not know it yet.
    pub(super) committed_elsewhere: BTreeMap<ProducerId, Option<Epoch>>,
    /// Of producers, what was said while the log waits for room: to the catalog, and to the object store.
    pub(super) said: Vec<Change>,
    pub(super) said_elsewhere: Vec<Change>,
}

impl Work {
    /// Adds what has come since.
    pub(super) fn join(&mut self, later: Self) {
        let Self { number, schemas, appended, changes, has_late, shown, ends, is_deleted, .. } = later;
        if is_deleted {
            self.appended.clear();
            self.shown.clear();
        }
        (self.number, self.schemas, self.ends) = (number, schemas, ends);
        self.appended.extend(appended);
        // The state is what it is now: what was to be said of an earlier one is of no more use.
        self.changes.retain(|change| !changes.iter().any(|later| later.replaces(change)));
        self.changes.extend(changes);
        self.has_late |= has_late;
        self.shown.extend(shown);
        self.is_deleted |= is_deleted;
        self.is_stored = false;
    }
}

impl Pending {
    /// Of a stream whose partitions end there.
    pub(in crate::server) fn new(ends: Vec<Offset>) -> Self {
        Self { appended: Vec::new(), due: BTreeSet::new(), late: BTreeSet::new(), is_deleted: false, number: 0, told: ends }
    }

    /// The number of the newest work.
    pub(in crate::server) fn number(&self) -> u64 {
        self.number
    }

    /// Takes note of what a command has changed.
    pub(in crate::server) fn touch(&mut self, is_late: bool, effects: &mut Effects) {
        if effects.touched.is_empty() {
            return;
        }
        let touched = effects.touched.drain(..);
        if is_late {
            self.late.extend(touched);
        } else {
            self.due.extend(touched);
            self.number += 1;
        }
    }

    /// A restart has found more in the log than the catalog knows: it has to, before a segment that says so is removed.
    pub(in crate::server) fn restored(&mut self, producers: impl Iterator<Item = ProducerId>) {
        self.late.extend(producers.map(Part::Producer));
    }

    /// A batch is to be written.
    pub(in crate::server) fn append(&mut self, appended: Appended) {
        self.appended.push(appended);
        self.number += 1;
    }

    /// The stream is new: the catalog does not know it.
    pub(in crate::server) fn create(&mut self) {
        self.due.insert(Part::Stream);
        self.number += 1;
    }

    /// The stream is gone.
    pub(in crate::server) fn delete(&mut self) {
        self.appended.clear();
        self.is_deleted = true;
        self.number += 1;
    }

    /// Whether there is something that somebody may wait for.
    pub(in crate::server) fn is_due(&self) -> bool {
        !self.appended.is_empty() || !self.due.is_empty() || self.is_deleted
    }

    /// Whether there is something that nobody waits for.
    pub(in crate::server) fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Takes all of it, with the stream's state as it is now: nothing of it is from before or after. What is late stays, if
    /// only batches have come, unless it is asked for.
    pub(in crate::server) fn take(&mut self, stream: &Stream<StoredBatch>, with_late: bool) -> Work {
        let has_late = with_late || !self.due.is_empty();
        let mut parts = take(&mut self.due);
        if has_late {
            parts.append(&mut self.late);
        }
        // The number of epochs is in the stream's own entry.
        if parts.iter().any(|part| matches!(part, Part::Producer(_))) {
            parts.insert(Part::Stream);
        }
        let ends: Vec<_> = (0..stream.options().partitions).map(PartitionId).filter_map(|p| Some((p, stream.log_end(p).ok()?))).collect();
        let mut shown = Vec::new();
        for (partition, end) in &ends {
            let told = std::mem::replace(&mut self.told[partition.index()], *end);
            if told < *end {
                shown_since(stream, *partition, told, &mut shown);
            }
        }
        let changes = if self.is_deleted {
            vec![Change::Delete(stream.id())]
        } else {
            parts.iter().filter_map(|part| change(stream, part)).collect()
        };
        Work {
            number: self.number,
            schemas: stream.schemas().to_vec(),
            appended: take(&mut self.appended).into(),
            changes,
            has_late,
            shown,
            ends,
            is_deleted: self.is_deleted,
            hidden: Vec::new(),
            is_stored: false,
            committed_elsewhere: BTreeMap::new(),
            said: Vec::new(),
            said_elsewhere: Vec::new(),
        }
    }
}

/// Whether a command changes only what the catalog may learn later: what follows from the log itself, what frees room, and
/// acks, without which at worst is delivered again what was acked in the last moments.
pub(in crate::server) fn is_late(command: &Command<StoredBatch>) -> bool {
    match command {
        Command::Reserve { .. }
        | Command::Append { .. }
        | Command::FinishWriter { .. }
        | Command::CloseAppender { .. }
        | Command::Ack { .. }
        | Command::AckLeased { .. }
        // Leases are in memory alone.
        | Command::KeepConsumer { .. }
        | Command::ReadLeased { .. }
        | Command::TakeLeased { .. }
        | Command::GiveBack { .. }
        | Command::UpdateLeases { .. }
        | Command::Bury { .. }
        | Command::Tick
        | Command::Settle { .. } => true,
        Command::AddSchema { .. }
        | Command::OpenAppender { .. }
        | Command::OpenEpoch { .. }
        | Command::CommitEpoch { .. }
        | Command::AbortEpoch { .. }
        | Command::KeepProducer { .. }
        | Command::Subscribe { .. }
        | Command::Unsubscribe { .. }
        | Command::SaveShares { .. }
        // Who has planned acks no more until there is more, which those wait to append whom a forgotten plan holds back.
        | Command::Plan { .. }
        | Command::Seek { .. }
        | Command::Complete
        | Command::Fail { .. } => false,
    }
}

/// What a log that has failed does not keep from happening.
pub(in crate::server) fn is_in_memory(command: &Command<StoredBatch>) -> bool {
    matches!(
        command,
        Command::CloseAppender { .. }
            | Command::Tick
            | Command::Settle { .. }
            | Command::KeepConsumer { .. }
            | Command::ReadLeased { .. }
            | Command::TakeLeased { .. }
            | Command::GiveBack { .. }
    )
}

/// The batches since `told` that had no offsets when they were written, in runs of consecutive offsets.
fn shown_since(stream: &Stream<StoredBatch>, partition: PartitionId, told: Offset, shown: &mut Vec<Shown>) {
    let Ok(batches) = stream.unsettled(partition, told) else { return };
    let first = shown.len();
    for batch in batches {
        let StoredBatch::Logged { batch: logged, is_staged: true } = &batch.data else { continue };
        match shown[first..].last_mut() {
            Some(run) if run.end() == batch.offset => run.batches.push(logged.clone()),
            _ => shown.push(Shown { partition, first: batch.offset, batches: vec![logged.clone()] }),
        }
    }
}

fn change(stream: &Stream<StoredBatch>, part: &Part) -> Option<Change> {
    let id = stream.id();
    Some(match part {
        Part::Stream => Change::Stream(
            id,
            SavedStream {
                name: stream.name().clone(),
                options: stream.options().clone(),
                schemas: stream.schemas().to_vec(),
                state: stream.state().clone(),
                epochs: stream.epoch_totals(),
            },
        ),
        Part::Partition(partition) => Change::Partition(id, *partition, stream.partition_snapshot(*partition).ok()?),
        Part::Subscription(name) => Change::Subscription(id, name.clone(), stream.subscription_snapshot(name)),
        Part::Producer(producer) => Change::Producer(id, producer.clone(), stream.producer_snapshot(producer)),
    })
}
