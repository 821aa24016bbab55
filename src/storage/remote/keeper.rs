//! The keeper: makes commits superfluous, so that there are never many of them, and removes what nobody needs.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::committer::{Request, Shared};
use super::load::part_of_commit;
use super::objects::Objects;
use super::saved::{Piece, SegmentName, encode};
use super::state::{CATALOGS, COMMITS, SEGMENTS, Stretch, catalog_name, commit_name, object_name, term_of};
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
    let mut unneeded = std::mem::take(&mut shared.ledger.lock().unneeded);
    let removed = objects.remove(&mut unneeded).await;
    shared.ledger.lock().unneeded.extend(unneeded);
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
    for (segment, run) in runs {
        let bytes = match bytes_of(remote, objects, disk, segment, &run).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => continue,
            Err(error) => {
                // Its commits stay; all others need not.
                tracing::warn!(%error, "a part of a segment is left in its commits");
                continue;
            }
        };
        let at = run.first().map_or(0, |stretch| stretch.at);
        let (name, end) = (object_name(segment, at, term), at + bytes.len() as u64);
        // It was one of that name, and is one again.
        remote.shared.ledger.lock().unneeded.retain(|unneeded| *unneeded != name);
        objects.put(&name, &bytes).await?;
        folded.push(Piece { segment, at, end, checksum: crc32fast::hash(&bytes), bytes: None });
    }
    if folded.is_empty() {
        return Ok(());
    }
    remote.ask(Request { folded, ..Request::default() }).await
}

/// What lies in commits, from the disk; where that has something else, from the commits. None: the segment is gone meanwhile.
async fn bytes_of(
    remote: &Remote,
    objects: &Objects,
    disk: &Arc<dyn Disk>,
    segment: SegmentName,
    run: &[Stretch],
) -> Result<Option<Bytes>, StorageError> {
    let reading = {
        let (run, disk) = (run.to_vec(), disk.clone());
        tokio::task::spawn_blocking(move || read_local(&*disk, segment, &run)).await
    };
    if let Ok(Ok(Some(bytes))) = reading {
        return Ok(Some(bytes));
    }
    let is_there = || remote.shared.ledger.lock().state.len_of(&segment).is_some();
    let mut bytes = BytesMut::new();
    for stretch in run {
        if !is_there() {
            return Ok(None);
        }
        bytes.extend_from_slice(&part_of_commit(objects, segment, stretch).await?);
    }
    tracing::warn!(file = segment_file(segment), "the disk has other bytes than the object store; the latter count");
    Ok(Some(bytes.freeze()))
}

/// A run of stretches, as the disk has it; none if that is not what was stored.
pub(super) fn read_local(disk: &dyn Disk, segment: SegmentName, run: &[Stretch]) -> io::Result<Option<Bytes>> {
    let file = disk.open(&segment_file(segment))?;
    let mut all = BytesMut::new();
    for stretch in run {
        let mut bytes = vec![0; usize::try_from(stretch.end - stretch.at).unwrap_or(usize::MAX)];
        file.read_at(&mut bytes, stretch.at)?;
        if !stretch.is_as_stored(&bytes) {
            return Ok(None);
        }
        all.extend_from_slice(&bytes);
    }
    Ok(Some(all.freeze()))
}

/// Writes down what all commits add up to, and removes those that are of no more use.
async fn snapshot(shared: &Shared, objects: &Objects) -> Result<(), StorageError> {
    let (number, snapshot, counted) = {
        let ledger = shared.ledger.lock();
        (ledger.state.number, ledger.state.snapshot(), (ledger.commits, ledger.bytes))
    };
    objects.put(&catalog_name(number), &encode(&snapshot)).await?;
    {
        let mut ledger = shared.ledger.lock();
        (ledger.commits, ledger.bytes) = (ledger.commits - counted.0, ledger.bytes - counted.1);
    }
    let commits = objects.list(COMMITS, None).await?;
    let catalogs = objects.list(CATALOGS, None).await?;
    let mut unneeded: Vec<String> = {
        let state = &shared.ledger.lock().state;
        let oldest = state.oldest_inline();
        let is_old = |name: &String| name.parse().is_ok_and(|found| !state.needs_commit(found, oldest, number));
        let commits = commits.iter().filter(|name| is_old(name)).filter_map(|name| Some(commit_name(name.parse().ok()?)));
        let is_older = |name: &&String| name.parse::<u64>().is_ok_and(|found| found < number);
        commits.chain(catalogs.iter().filter(is_older).filter_map(|name| Some(catalog_name(name.parse().ok()?)))).collect()
    };
    tracing::debug!(number, removed = unneeded.len(), "a snapshot of the catalog is in the object store");
    objects.remove(&mut unneeded).await
}
