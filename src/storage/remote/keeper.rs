//! The keeper: makes commits superfluous, so that there are never many of them, and removes what nobody needs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::committer::{Request, Shared};
use super::objects::Objects;
use super::saved::{Piece, encode};
use super::state::{CATALOGS, COMMITS, SEGMENTS, catalog_name, commit_name, object_name, term_of};
use super::{Remote, segment_file};
use crate::storage::StorageError;
use crate::storage::disk::Disk;

/// A snapshot is made when there are so many commits behind the last one, or so many bytes in them: a start has to read them.
#[derive(Debug, Clone, Copy)]
pub struct KeepAfter {
    /// Commits.
    pub commits: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Default for KeepAfter {
    fn default() -> Self {
        Self { commits: 500, bytes: 128 << 20 }
    }
}

/// How often what nobody needs is removed.
const REMOVE_PAUSE: Duration = Duration::from_millis(500);
/// How often each request is tried before it waits.
const TRIES: u32 = 8;
/// How long it waits after a failure.
const FAILED_PAUSE: Duration = Duration::from_secs(5);

/// Keeps until it is told to stop, or fenced.
pub(super) async fn run(remote: Arc<Remote>, disk: Arc<dyn Disk>, after: KeepAfter) {
    let shared = remote.shared.clone();
    let objects = shared.objects.in_background(TRIES);
    let keeping = async {
        if let Err(error) = sweep(&shared, &objects).await {
            tracing::warn!(%error, "what former starts have left in the object store stays until the next one");
        }
        loop {
            shared.keep.notified().await;
            if let Err(error) = keep(&remote, &objects, &disk, after).await {
                tracing::warn!(%error, "the object store is not tidied up; it is tried again");
                tokio::time::sleep(FAILED_PAUSE).await;
                shared.keep.notify_one();
            }
            tokio::time::sleep(REMOVE_PAUSE).await;
        }
    };
    tokio::select! {
        () = keeping => (),
        () = shared.stopping.cancelled() => (),
        () = shared.fenced.cancelled() => (),
    }
}

async fn keep(remote: &Remote, objects: &Objects, disk: &Arc<dyn Disk>, after: KeepAfter) -> Result<(), StorageError> {
    let shared = &remote.shared;
    let is_due = {
        let ledger = shared.ledger.lock();
        ledger.commits >= after.commits || ledger.bytes >= after.bytes
    };
    if is_due {
        fold(remote, objects, disk).await?;
        snapshot(shared, objects).await?;
    }
    let unneeded = std::mem::take(&mut shared.ledger.lock().unneeded);
    let removed = objects.remove(&unneeded).await;
    if removed.is_err() {
        shared.ledger.lock().unneeded.extend(unneeded);
    }
    removed
}

/// Finds what former starts have left that nothing refers to. What later ones write is theirs.
async fn sweep(shared: &Shared, objects: &Objects) -> Result<(), StorageError> {
    let found = objects.list(SEGMENTS, None).await?;
    let mut ledger = shared.ledger.lock();
    let (term, needed) = (ledger.state.owner.term, ledger.state.objects().collect::<BTreeSet<_>>());
    let named = found.iter().map(|name| format!("{SEGMENTS}/{name}"));
    let left = named.filter(|name| term_of(name).is_some_and(|of| of < term) && !needed.contains(name));
    ledger.unneeded.extend(left);
    drop(ledger);
    shared.keep.notify_one();
    Ok(())
}

/// Makes objects of what lies in commits.
async fn fold(remote: &Remote, objects: &Objects, disk: &Arc<dyn Disk>) -> Result<(), StorageError> {
    let (runs, term) = {
        let ledger = remote.shared.ledger.lock();
        (ledger.state.inline_runs(), ledger.state.owner.term)
    };
    let mut folded = Vec::with_capacity(runs.len());
    for (segment, at, end) in runs {
        let (file, disk) = (segment_file(segment), disk.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(end - at).unwrap_or(usize::MAX)];
            disk.open(&file)?.read_at(&mut bytes, at)?;
            std::io::Result::Ok(Bytes::from(bytes))
        });
        let Ok(Ok(bytes)) = reading.await else {
            // Removed meanwhile, here; in the object store with one of the next commits.
            continue;
        };
        objects.put(&object_name(segment, at, term), &bytes).await?;
        folded.push(Piece { segment, at, end, checksum: crc32fast::hash(&bytes), bytes: None });
    }
    if folded.is_empty() {
        return Ok(());
    }
    remote.ask(Request { folded, ..Request::default() }).await
}

/// Writes down what all commits add up to, and removes those that are of no more use.
async fn snapshot(shared: &Shared, objects: &Objects) -> Result<(), StorageError> {
    let (number, bytes, counted) = {
        let ledger = shared.ledger.lock();
        (ledger.state.number, encode(&ledger.state.snapshot()), (ledger.commits, ledger.bytes))
    };
    objects.put(&catalog_name(number), &bytes).await?;
    {
        let mut ledger = shared.ledger.lock();
        (ledger.commits, ledger.bytes) = (ledger.commits - counted.0, ledger.bytes - counted.1);
    }
    let commits = objects.list(COMMITS, None).await?;
    let catalogs = objects.list(CATALOGS, None).await?;
    let unneeded: Vec<String> = {
        let state = &shared.ledger.lock().state;
        let oldest = state.oldest_inline();
        let is_old = |name: &String| name.parse().is_ok_and(|found| !state.needs_commit(found, oldest, number));
        let commits = commits.iter().filter(|name| is_old(name)).filter_map(|name| Some(commit_name(name.parse().ok()?)));
        let is_older = |name: &&String| name.parse::<u64>().is_ok_and(|found| found < number);
        commits.chain(catalogs.iter().filter(is_older).filter_map(|name| Some(catalog_name(name.parse().ok()?)))).collect()
    };
    tracing::debug!(number, removed = unneeded.len(), "a snapshot of the catalog is in the object store");
    objects.remove(&unneeded).await
}
