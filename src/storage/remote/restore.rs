//! Making the disk what the object store says: what is not there is read, what should not be there goes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::committer::Ledger;
use super::keeper::read_local;
use super::load::{READS, damaged, read};
use super::objects::Objects;
use super::saved::{Commit, SegmentName};
use super::segment_file;
use super::state::{Lies, State, Stretch, commit_name};
use crate::engine::{PartitionId, StreamId};
use crate::storage::StorageError;
use crate::storage::catalog::{Catalog, Change, Marker};
use crate::storage::disk::Disk;
use crate::storage::log::{STREAMS, partition_folder};
use crate::storage::segment::{self, index_path};

/// An object, and what of it goes where.
struct Read {
    object: String,
    parts: Vec<(SegmentName, Stretch)>,
}

/// Gives the ledger back, and how many bytes were read.
pub(super) async fn restore(
    objects: &Objects,
    disk: &Arc<dyn Disk>,
    catalog: &Arc<Catalog>,
    ledger: Ledger,
    is_known: bool,
    marker: Marker,
) -> Result<(Ledger, u64), StorageError> {
    let state = Arc::new(ledger.state);
    let missing = {
        let (disk, state) = (disk.clone(), state.clone());
        blocking(move || prepare(&*disk, &state, is_known)).await?
    };
    let reads = reads(&state, &missing);
    let bytes = reads.iter().flat_map(|read| &read.parts).map(|(_, stretch)| stretch.end - stretch.at).sum();
    if bytes > 0 {
        tracing::info!(bytes, segments = missing.len(), "reading segments from the object store");
    }
    let writing = futures::stream::iter(reads).map(|read| fetch(objects, disk.clone(), read));
    writing.buffer_unordered(READS).try_collect::<()>().await?;
    let (disk, catalog, restored) = (disk.clone(), catalog.clone(), state.clone());
    blocking(move || {
        make_durable(&*disk, &missing)?;
        let changes = restored.image.changes().map(|change| Change::try_from(&change)).collect::<Result<Vec<_>, _>>();
        let newer =
            |_| StorageError::NewerFormat { file: marker.place.clone(), found: super::saved::FORMAT + 1, supported: super::saved::FORMAT };
        catalog.replace(&changes.map_err(newer)?, &marker)
    })
    .await?;
    let state = Arc::unwrap_or_clone(state);
    Ok((Ledger { state, ..ledger }, bytes))
}

/// Removes from the disk what is not in the store, and gives the segments that are to be read.
fn prepare(disk: &dyn Disk, state: &State, is_known: bool) -> Result<BTreeSet<SegmentName>, StorageError> {
    let error = |what, path: &str, source| StorageError::file(what, disk, path, source);
    if !is_known {
        // Nobody knows what of it is what the store has.
        match disk.remove_dir(STREAMS) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error("remove", STREAMS, source)),
            _ => {}
        }
    }
    for (stream, partition) in partitions(disk)? {
        let folder = partition_folder(StreamId(stream), PartitionId(partition));
        for number in segment::list(disk, &folder).map_err(|source| error("look at", &folder, source))? {
            if state.len_of(&SegmentName { stream, partition, number }).is_none() {
                segment::remove(disk, &folder, number).map_err(|source| error("remove a segment of", &folder, source))?;
            }
        }
    }
    let mut missing = BTreeSet::new();
    let is_newest = |segment: &SegmentName| {
        let next = SegmentName { number: segment.number + 1, ..*segment };
        state.segments_from(&next).next().is_none_or(|(found, _)| (found.stream, found.partition) != (segment.stream, segment.partition))
    };
    // The disk may have lost the end of what was written last, or be unable to read it.
    let is_as_stored = |segment: SegmentName| {
        !is_newest(&segment) || read_local(disk, segment, state.stretches(&segment)).is_ok_and(|found| found.is_some())
    };
    for (segment, _) in state.segments() {
        let file = segment_file(segment);
        let wanted = state.len_of(&segment).unwrap_or_default();
        match disk.open(&file).and_then(|opened| Ok((opened.len()?, opened))) {
            Ok((len, _)) if len == wanted && is_as_stored(segment) => {}
            Ok((len, opened)) if len > wanted && is_as_stored(segment) => {
                // What is behind was never confirmed. The index knows it, so it goes first.
                remove_index(disk, segment)?;
                opened.set_len(wanted).and_then(|()| opened.sync()).map_err(|source| error("cut", &file, source))?;
            }
            Ok(_) => drop(missing.insert(segment)),
            Err(source) if source.kind() == io::ErrorKind::NotFound => drop(missing.insert(segment)),
            Err(source) => return Err(error("open", &file, source)),
        }
    }
    for segment in &missing {
        let folder = partition_folder(StreamId(segment.stream), PartitionId(segment.partition));
        disk.make_dir(&folder).map_err(|source| error("make", &folder, source))?;
        remove_index(disk, *segment)?;
        let file = segment_file(*segment);
        match disk.remove(&file) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error("remove", &file, source)),
            _ => drop(disk.create(&file).map_err(|source| error("create", &file, source))?),
        }
    }
    Ok(missing)
}

/// The partitions that have a folder.
fn partitions(disk: &dyn Disk) -> Result<Vec<(u64, u32)>, StorageError> {
    let list = |folder: &str| match disk.list(folder) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names.map_err(|source| StorageError::file("look at", disk, folder, source)),
    };
    let mut found = Vec::new();
    for name in list(STREAMS)? {
        let Ok(stream) = u64::from_str_radix(&name, 16) else { continue };
        found.extend(list(&format!("{STREAMS}/{name}"))?.iter().filter_map(|name| Some((stream, name.parse().ok()?))));
    }
    Ok(found)
}

fn remove_index(disk: &dyn Disk, segment: SegmentName) -> Result<(), StorageError> {
    let path = index_path(&partition_folder(StreamId(segment.stream), PartitionId(segment.partition)), segment.number);
    match disk.remove(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StorageError::file("remove", disk, &path, source)),
        _ => Ok(()),
    }
}

/// Each object once, with all that is needed of it.
fn reads(state: &State, missing: &BTreeSet<SegmentName>) -> Vec<Read> {
    let mut by_object: BTreeMap<String, Vec<(SegmentName, Stretch)>> = BTreeMap::new();
    for (segment, stretches) in state.segments().filter(|(segment, _)| missing.contains(segment)) {
        for stretch in stretches {
            let object = match stretch.lies {
                Lies::Commit(number) => commit_name(number),
                Lies::Object { term } => super::state::object_name(segment, stretch.at, term),
            };
            by_object.entry(object).or_default().push((segment, stretch.clone()));
        }
    }
    by_object.into_iter().map(|(object, parts)| Read { object, parts }).collect()
}

/// Reads an object and writes what is needed of it.
async fn fetch(objects: &Objects, disk: Arc<dyn Disk>, Read { object, parts }: Read) -> Result<(), StorageError> {
    let lost = |why| damaged(objects, &object, why);
    let bytes = objects.get(&object).await?.ok_or_else(|| lost("it is missing, and a part of a segment is in it"))?;
    let found: Option<Vec<(SegmentName, u64, Bytes)>> = if parts.iter().any(|(_, stretch)| matches!(stretch.lies, Lies::Commit(_))) {
        let commit = read::<Commit>(objects, &object, bytes, |commit| commit.format)?;
        parts.iter().map(|(segment, stretch)| Some((*segment, stretch.at, commit.part(*segment, stretch)?))).collect()
    } else {
        parts.iter().map(|(segment, stretch)| Some((*segment, stretch.at, stretch.of(&bytes)?))).collect()
    };
    let found = found.ok_or_else(|| lost("a part of a segment in it is missing, too short, or has another checksum"))?;
    blocking(move || {
        found.into_iter().try_for_each(|(segment, at, bytes)| {
            let file = segment_file(segment);
            let written = disk.open(&file).and_then(|opened| opened.write_at(&[&bytes], at));
            written.map_err(|source| StorageError::file("write to", &*disk, &file, source))
        })
    })
    .await
}

/// Makes durable what was read, names included.
fn make_durable(disk: &dyn Disk, segments: &BTreeSet<SegmentName>) -> Result<(), StorageError> {
    let mut folders = BTreeSet::from([String::new()]);
    for segment in segments {
        let file = segment_file(*segment);
        let synced = disk.open(&file).and_then(|opened| opened.sync());
        synced.map_err(|source| StorageError::file("make durable", disk, &file, source))?;
        folders.extend(file.char_indices().filter(|(_, character)| *character == '/').map(|(end, _)| file[..end].to_owned()));
    }
    let synced = folders.iter().try_for_each(|folder| disk.sync_dir(folder));
    synced.map_err(|source| StorageError::file("make durable", disk, STREAMS, source))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StorageError> + Send + 'static) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends, and everything with it.
        Err(_) => std::future::pending().await,
    }
}
