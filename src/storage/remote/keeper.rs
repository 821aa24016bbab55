//! The keeper: makes commits superfluous, so that there are never many of them, and removes what nobody needs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::committer::{Request, Shared};
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
/// How long it waits after a failure.
const FAILED_PAUSE: Duration = Duration::from_secs(5);

/// Keeps until it is told to stop, or fenced.
pub(super) async fn run(remote: Arc<Remote>, disk: Arc<dyn Disk>, after: KeepAfter) {
    let shared = remote.shared.clone();
    let keeping = async {
        if let Err(error) = sweep(&shared).await {
            tracing::warn!(%error, "what former starts have left in the object store stays until the next one");
        }
        loop {
            shared.keep.notified().await;
            if let Err(error) = keep(&remote, &disk, after).await {
                tracing::warn!(%error, "no snapshot of the catalog was made in the object store; it is tried again");
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

async fn keep(remote: &Remote, disk: &Arc<dyn Disk>, after: KeepAfter) -> Result<(), StorageError> {
    let shared = &remote.shared;
    let (unneeded, is_due) = {
        let mut ledger = shared.ledger.lock();
        let is_due = ledger.commits >= after.commits || ledger.bytes >= after.bytes;
        (std::mem::take(&mut ledger.unneeded), is_due)
    };
    if !unneeded.is_empty() {
        shared.objects.remove(&unneeded).await?;
    }
    if is_due {
        fold(remote, disk).await?;
        snapshot(remote).await?;
    }
    Ok(())
}

/// Finds what former starts have left that nothing refers to. What later ones write is theirs.
async fn sweep(shared: &Shared) -> Result<(), StorageError> {
    let found = shared.objects.list(SEGMENTS, None).await?;
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
async fn fold(remote: &Remote, disk: &Arc<dyn Disk>) -> Result<(), StorageError> {
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
        remote.shared.objects.put(&object_name(segment, at, term), &bytes).await?;
        folded.push(Piece { segment, at, end, checksum: crc32fast::hash(&bytes), bytes: None });
    }
    if folded.is_empty() {
        return Ok(());
    }
    remote.ask(Request { folded, ..Request::default() }).await
}

/// Writes down what all commits add up to, and removes those that are of no more use.
async fn snapshot(remote: &Remote) -> Result<(), StorageError> {
    let shared = &remote.shared;
    let (number, bytes) = {
        let mut ledger = shared.ledger.lock();
        (ledger.commits, ledger.bytes) = (0, 0);
        (ledger.state.number, encode(&ledger.state.snapshot()))
    };
    shared.objects.put(&catalog_name(number), &bytes).await?;
    let commits = shared.objects.list(COMMITS, None).await?;
    let catalogs = shared.objects.list(CATALOGS, None).await?;
    let unneeded: Vec<String> = {
        let state = &shared.ledger.lock().state;
        let oldest = state.oldest_inline();
        let is_old = |name: &String| name.parse().is_ok_and(|found| !state.needs_commit(found, oldest, number));
        let commits = commits.iter().filter(|name| is_old(name)).filter_map(|name| Some(commit_name(name.parse().ok()?)));
        let is_older = |name: &&String| name.parse::<u64>().is_ok_and(|found| found < number);
        commits.chain(catalogs.iter().filter(is_older).filter_map(|name| Some(catalog_name(name.parse().ok()?)))).collect()
    };
    tracing::debug!(number, removed = unneeded.len(), "a snapshot of the catalog is in the object store");
    shared.objects.remove(&unneeded).await
}
