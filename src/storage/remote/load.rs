//! What the object store has: the newest snapshot, and the commits behind it.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use prost::Message;

use super::committer::Ledger;
use super::objects::Objects;
use super::saved::{Commit, SegmentName, Snapshot, Unusable, decode};
use super::state::{CATALOGS, COMMITS, Lies, State, Stretch, catalog_name, commit_name, object_name};
use crate::storage::StorageError;

/// Objects that are read at once.
pub(super) const READS: usize = 16;
/// How often it begins again because a coordinator that still lives has removed what it was about to read.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Reads all commits.
pub(super) async fn load(objects: &Objects) -> Result<Ledger, StorageError> {
    let mut missing = String::new();
    for _ in 0..TRIES {
        match try_load(objects).await? {
            Ok(ledger) => return Ok(ledger),
            Err(name) => missing = name,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(damaged(objects, &missing, "it is missing, and the catalogs and commits around it are there"))
}

/// The number of the newest snapshot; 0 if there is none.
pub(super) async fn newest_snapshot(objects: &Objects) -> Result<u64, StorageError> {
    let catalogs = objects.list(CATALOGS, None).await?;
    Ok(catalogs.iter().filter_map(|name| name.parse().ok()).max().unwrap_or_default())
}

/// The inner error names an object that is not there.
async fn try_load(objects: &Objects) -> Result<Result<Ledger, String>, StorageError> {
    let mut ledger = Ledger { state: State::default(), unneeded: Vec::new(), commits: 0, bytes: 0 };
    let number = newest_snapshot(objects).await?;
    if number > 0 {
        let name = catalog_name(number);
        let Some(bytes) = objects.get(&name).await? else { return Ok(Err(name)) };
        ledger.state = State::restored(read::<Snapshot>(objects, &name, bytes, |snapshot| snapshot.format)?);
    }
    let behind = commit_name(ledger.state.number);
    let after = behind.strip_prefix(COMMITS).map(|name| name.trim_start_matches('/'));
    let commits = objects.list(COMMITS, after).await?;
    let numbers: Vec<u64> = commits.iter().filter_map(|name| name.parse().ok()).collect();
    for (expected, found) in (ledger.state.number + 1..).zip(&numbers) {
        if *found != expected {
            return Ok(Err(commit_name(expected)));
        }
    }
    let mut reading = futures::stream::iter(numbers).map(async |number| (number, objects.get(&commit_name(number)).await)).buffered(READS);
    while let Some((number, bytes)) = reading.next().await {
        let name = commit_name(number);
        let Some(bytes) = bytes? else { return Ok(Err(name)) };
        let len = bytes.len() as u64;
        let commit = read::<Commit>(objects, &name, bytes, |commit| commit.format)?;
        if commit.number != number {
            return Err(damaged(objects, &name, "it is another one"));
        }
        ledger.apply(&commit, len);
    }
    // What former owners have not removed is found by its name.
    ledger.unneeded.clear();
    Ok(Ok(ledger))
}

/// A part of a segment that lies in a commit.
pub(super) async fn part_of_commit(objects: &Objects, segment: SegmentName, stretch: &Stretch) -> Result<Bytes, StorageError> {
    let Lies::Commit(number) = stretch.lies else {
        return Err(damaged(objects, &object_name(segment, stretch.at, 0), "it is no commit"));
    };
    let name = commit_name(number);
    let bytes = objects.get(&name).await?.ok_or_else(|| damaged(objects, &name, "it is missing, and a part of a segment is in it"))?;
    let commit = read::<Commit>(objects, &name, bytes, |commit| commit.format)?;
    commit.part(segment, stretch).ok_or_else(|| damaged(objects, &name, "it lacks a part of a segment"))
}

/// An object as what it is.
pub(super) fn read<T: Message + Default>(
    objects: &Objects,
    name: &str,
    bytes: Bytes,
    format: impl Fn(&T) -> u32,
) -> Result<T, StorageError> {
    decode(bytes, format).map_err(|unusable| match unusable {
        Unusable::Damaged(why) => damaged(objects, name, why),
        Unusable::Newer(found) => {
            StorageError::NewerFormat { file: format!("{}/{name}", objects.shown()), found, supported: super::saved::FORMAT }
        }
    })
}

/// An object that is not what was written.
pub(super) fn damaged(objects: &Objects, name: &str, why: &'static str) -> StorageError {
    StorageError::DamagedObject { object: format!("{}/{name}", objects.shown()), why }
}
