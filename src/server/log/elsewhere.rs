//! Doing the work of a log that has to be in an object store as well: nothing is visible or answered before it is there.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::pending::Work;
use super::relief;
use super::task::Files;
use super::write::{Step, changes, finish, written};
use crate::engine::PartitionId;
use crate::storage::StorageError;
use crate::storage::catalog::Change;
use crate::storage::remote::{Remote, Storing};

/// How long the catalog may not know what it may learn later: each time costs a request.
pub(super) const LATE_LINGER: Duration = Duration::from_secs(1);

/// What nobody waits for yet, an epoch before its commit, goes when there is so much of it: its commit then has little left to send.
const EARLY_BYTES: u64 = 8 << 20;

/// How long a coordinator that stops waits for a store that does not answer.
const STOP_TIME: Duration = Duration::from_secs(5);

/// A step whose result has to be in the object store. See [`step`](super::write::step).
pub(super) async fn step(
    files: Files,
    remote: &Arc<Remote>,
    mut work: Work,
    dead: Vec<(PartitionId, u64)>,
    stopping: &CancellationToken,
) -> (Files, (Work, Step, Result<(), StorageError>)) {
    let (mut files, (mut work, mut step, mut result)) = files
        .run(move |files| {
            let (step, result) = written(&mut files.log, &mut work);
            (work, step, result)
        })
        .await;
    if result.as_ref().is_err_and(|error| !error.is_no_room()) {
        return (files, (work, step, result));
    }
    let storing = storing(&files, &work, &step, &dead);
    if let Some(storing) = storing {
        if let Err(error) = store(&mut files, remote, storing, stopping).await {
            // What was written stays unseen.
            step.durable.clear();
            return (files, (work, step, Err(error)));
        }
        if step.is_written {
            work.is_stored = true;
            let committed = work.changes.iter().filter_map(|change| match change {
                Change::Producer(_, name, Some(saved)) => Some((name.clone(), saved.committed)),
                _ => None,
            });
            work.committed_elsewhere.extend(committed.collect::<Vec<_>>());
        }
    }
    if step.is_written {
        (files, (work, step, result)) = files
            .run(move |files| {
                let result = finish(&mut files.log, &files.catalog, &work, &dead, &mut step);
                (work, step, result)
            })
            .await;
    }
    (files, (work, step, result))
}

/// The half of [`relieve`](super::relief::relieve) that comes before it.
pub(super) async fn relieved(
    files: Files,
    remote: &Arc<Remote>,
    work: Work,
    dead: &[(PartitionId, u64)],
    stopping: &CancellationToken,
) -> (Files, (Work, Result<(), StorageError>)) {
    let removed = relief::removable(&work, dead).to_vec();
    // What it has as a whole is not to be taken back in part.
    let is_stored = work.is_stored;
    let (mut files, (mut work, producers)) = files
        .run(move |files| {
            let producers = if is_stored { Ok(Vec::new()) } else { relief::producers(&files.catalog, &work, &work.committed_elsewhere) };
            (work, producers)
        })
        .await;
    let producers = match producers {
        Ok(producers) => producers,
        Err(error) => return (files, (work, Err(error))),
    };
    let changes = if is_stored { Vec::new() } else { relief::news(&work, &producers, &work.said_elsewhere) };
    if changes.is_empty() && removed.is_empty() {
        return (files, (work, Ok(())));
    }
    let unstored = files.log.unstored();
    let result = store(&mut files, remote, Storing { unstored, changes, removed }, stopping).await;
    if result.is_ok() && !is_stored {
        work.said_elsewhere = producers;
    }
    (files, (work, result))
}

async fn store(files: &mut Files, remote: &Arc<Remote>, storing: Storing, stopping: &CancellationToken) -> Result<(), StorageError> {
    tokio::select! {
        biased;
        stored = remote.store(files.log.id(), storing) => stored?,
        gone = stopped(remote, stopping) => return Err(gone),
    }
    files.log.stored();
    Ok(())
}

/// What the object store has to have before the step is done; none if nobody waits for anything.
fn storing(files: &Files, work: &Work, step: &Step, dead: &[(PartitionId, u64)]) -> Option<Storing> {
    let unstored = files.log.unstored();
    // A full disk may have kept the catalog from learning what the store has.
    let is_last = step.is_written && !work.is_stored;
    let changes = if is_last { changes(&files.log, work) } else { Vec::new() };
    let removed = if step.is_written && work.has_late { dead.to_vec() } else { Vec::new() };
    let bytes: u64 = unstored.iter().map(|part| part.end - part.at).sum();
    let is_awaited = !step.durable.is_empty() || !changes.is_empty() || !removed.is_empty();
    (is_awaited || bytes >= EARLY_BYTES).then_some(Storing { unstored, changes, removed })
}

/// All segments are sealed: the store gets their ends, so that the next start finds them as they are here.
pub(super) async fn sealed(files: &Files, remote: &Arc<Remote>) -> Result<(), StorageError> {
    let unstored = files.log.unstored();
    if unstored.is_empty() {
        return Ok(());
    }
    let storing = Storing { unstored, changes: Vec::new(), removed: Vec::new() };
    match tokio::time::timeout(STOP_TIME, remote.store(files.log.id(), storing)).await {
        Ok(stored) => stored,
        Err(_) => Err(unanswered(remote)),
    }
}

/// Ends some time after the coordinator is to stop.
async fn stopped(remote: &Remote, stopping: &CancellationToken) -> StorageError {
    stopping.cancelled().await;
    tokio::time::sleep(STOP_TIME).await;
    unanswered(remote)
}

fn unanswered(remote: &Remote) -> StorageError {
    let reason = format!("no answer within {} s of the coordinator's end", STOP_TIME.as_secs());
    StorageError::ObjectStore { what: "commit to", object: remote.place().to_owned(), reason }
}
