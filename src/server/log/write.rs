//! Doing the work of a stream's log: write, make durable, tell the catalog. Blocks.

use std::collections::BTreeMap;

use super::pending::Work;
use crate::engine::{Offset, PartitionId};
use crate::storage::StorageError;
use crate::storage::catalog::{Catalog, Change};
use crate::storage::log::{Appended, StreamLog, extent_of};
use crate::zoo::{self, Bug};

/// What is written before it is made durable: consumers get it that soon, however much there is to do.
const STEP_BYTES: u64 = 64 << 20;

/// What is written together.
const WRITE_BYTES: u64 = 1 << 20;

/// How far one step has come.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Written.
    pub(super) appended: Vec<Appended>,
    /// Durable, and visible as far as offsets before this.
    pub(super) durable: BTreeMap<PartitionId, Offset>,
    /// No batch of the work is left to write.
    pub(super) is_written: bool,
    /// Nothing of the work is left.
    pub(super) is_finished: bool,
}

/// Does a part of the work, and takes it out of it. `dead` are segments that may be removed once the catalog knows all of it.
///
/// # Errors
/// [`StorageError`], beside what was done before it. [`StorageError::NoRoom`] may be tried again.
pub(super) fn step(
    log: &mut StreamLog,
    catalog: &Catalog,
    work: &mut Work,
    dead: &[(PartitionId, u64)],
) -> (Step, Result<(), StorageError>) {
    let (mut step, mut done) = written(log, work);
    if done.is_ok() && step.is_written {
        done = finish(log, catalog, work, dead, &mut step);
    }
    (step, done)
}

/// The first half of a step: batches are in their segments, and durable as far as that is needed.
pub(super) fn written(log: &mut StreamLog, work: &mut Work) -> (Step, Result<(), StorageError>) {
    let mut step = Step::default();
    let written = write(log, work, &mut step);
    let synced = step.durable.keys().try_for_each(|partition| log.sync(*partition));
    if synced.is_err() {
        step.durable.clear();
        return (step, synced);
    }
    if written.is_err() || !work.appended.is_empty() {
        return (step, written);
    }
    let shown = work.shown.iter().filter(|_| !zoo::has(Bug::CatalogFirst));
    let synced = shown.map(|shown| shown.partition).try_for_each(|partition| log.sync(partition));
    step.is_written = synced.is_ok();
    (step, synced)
}

/// What the catalog has to know of the work. All of its batches are written.
pub(super) fn changes(log: &StreamLog, work: &Work) -> Vec<Change> {
    let id = log.id();
    let extents = work.shown.iter().map(|shown| Change::Extent(id, shown.partition, shown.first, extent_of(&shown.batches)));
    work.changes.iter().cloned().chain(extents).collect()
}

/// Writes batches. Of those with offsets of their own, what comes before a commit's becomes visible in this step.
fn write(log: &mut StreamLog, work: &mut Work, step: &mut Step) -> Result<(), StorageError> {
    let wanted = work.appended.iter().map(|appended| appended.facts.bytes).sum::<u64>().min(STEP_BYTES);
    log.check_room(wanted)?;
    let mut bytes = 0;
    while bytes < STEP_BYTES && !work.appended.is_empty() {
        let mut partitions: BTreeMap<PartitionId, Vec<Appended>> = BTreeMap::new();
        let mut together = 0;
        while together < WRITE_BYTES
            && let Some(appended) = work.appended.pop_front()
        {
            together += appended.facts.bytes;
            partitions.entry(appended.partition).or_default().push(appended);
        }
        bytes += together;
        while let Some((partition, appended)) = partitions.pop_first() {
            if let Err(error) = log.append(partition, &work.schemas, &appended) {
                // Each partition's are in their order again, and that is all that counts.
                let rest: Vec<_> = appended.into_iter().chain(partitions.into_values().flatten()).collect();
                rest.into_iter().rev().for_each(|appended| work.appended.push_front(appended));
                return Err(error);
            }
            if let Some(offset) = appended.iter().rev().find_map(|appended| appended.facts.offset) {
                let commit = work.shown.iter().filter(|shown| shown.partition == partition).map(|shown| shown.first).min();
                let visible = commit.map_or(offset.plus(1), |first| first.min(offset.plus(1)));
                step.durable.insert(partition, visible);
                let is_hidden = |appended: &&Appended| appended.facts.offset.is_some_and(|offset| offset >= visible);
                work.hidden.extend(appended.iter().filter(is_hidden).map(|appended| appended.facts.clone()));
            }
            step.appended.extend(appended);
        }
    }
    Ok(())
}

/// Removes segments that nobody needs. One that cannot be removed is tried again with the next ones.
pub(super) fn remove(log: &mut StreamLog, dead: &[(PartitionId, u64)]) {
    for (partition, segment) in dead {
        if let Err(error) = log.remove_segment(*partition, *segment) {
            tracing::warn!(%error, "a segment that nobody needs is left");
        }
    }
}

/// The second half: the catalog knows all of it, and what nobody needs is gone.
pub(super) fn finish(
    log: &mut StreamLog,
    catalog: &Catalog,
    work: &Work,
    dead: &[(PartitionId, u64)],
    step: &mut Step,
) -> Result<(), StorageError> {
    let changes = changes(log, work);
    if !changes.is_empty() {
        catalog.commit(changes)?;
    }
    if work.is_deleted {
        // What is left of it the next start removes.
        if let Err(error) = log.remove_all() {
            tracing::warn!(%error, "files of a deleted stream are left");
        }
    } else if work.has_late {
        remove(log, dead);
    }
    step.durable = work.ends.iter().copied().collect();
    step.is_finished = true;
    Ok(())
}
