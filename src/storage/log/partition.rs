//! A partition's log: a series of segments, the newest of which takes batches.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::{Appended, Unstored};
use crate::engine::{PartitionId, StreamId, StreamName};
use crate::storage::StorageError;
use crate::storage::disk::Disk;
use crate::storage::segment::{self, Segment, SegmentHead, SegmentWriter};
use crate::zoo::{self, Bug};

/// A segment of so many bytes is followed by another. What is dropped gives its room back a segment at a time.
pub(super) const SEGMENT_BYTES_CUT: u64 = 64 << 20;

/// So many sealed segments stay in the system's page cache. A log that is written at the disk's speed would else take all of it, and a
/// write into memory that was just given back costs less than one into memory that was never used.
const SEGMENTS_IN_PAGE_CACHE: usize = 2;

/// The log of one partition.
#[derive(Debug)]
pub(super) struct PartitionLog {
    folder: String,
    number: PartitionId,
    /// Those that take no more. Held by nobody else once all of their batches are dropped.
    sealed: BTreeMap<u64, Arc<Segment>>,
    newest: Option<SegmentWriter>,
    next_segment: u64,
    pub(super) segment_bytes_cut: u64,
    /// The folder is there, and durable.
    has_folder: bool,
    /// What the object store lacks, if there is one.
    unstored: Option<Lack>,
}

/// What the object store lacks of a partition's segments.
#[derive(Debug, Default)]
struct Lack {
    /// Of those that were sealed since: from where on, and up to where.
    sealed: Vec<(Arc<Segment>, u64, u64)>,
    /// Of the newest: from where on.
    newest_from: u64,
}

impl PartitionLog {
    pub(super) fn new(folder: String, number: PartitionId) -> Self {
        Self {
            folder,
            number,
            sealed: BTreeMap::new(),
            newest: None,
            next_segment: 0,
            segment_bytes_cut: SEGMENT_BYTES_CUT,
            has_folder: false,
            unstored: None,
        }
    }

    pub(super) fn keep_unstored(&mut self) {
        self.unstored = Some(Lack::default());
    }

    pub(super) fn unstored(&self) -> impl Iterator<Item = Unstored> {
        let partition = self.number;
        let lack = self.unstored.iter();
        let sealed = lack.clone().flat_map(|lack| &lack.sealed).map(|(segment, at, end)| (segment, *at, *end));
        let newest = lack.zip(&self.newest).map(|(lack, newest)| (newest.segment(), lack.newest_from, newest.end()));
        let all = sealed.chain(newest).filter(|(_, at, end)| at < end);
        all.map(move |(segment, at, end)| Unstored { partition, segment: segment.clone(), at, end })
    }

    pub(super) fn stored(&mut self) {
        if let Some(lack) = &mut self.unstored {
            lack.sealed.clear();
            lack.newest_from = self.newest.as_ref().map_or(0, SegmentWriter::end);
        }
    }

    /// Goes on behind what a restart has found and, of those that are missing, behind the one `named` last: with a segment of its own.
    pub(super) fn resume(&mut self, found: Vec<Arc<Segment>>, named: Option<u64>) {
        self.has_folder = !found.is_empty();
        self.next_segment = found.iter().map(|segment| segment.head().number).chain(named).max().map_or(0, |last| last + 1);
        self.sealed = found.into_iter().map(|segment| (segment.head().number, segment)).collect();
    }

    pub(super) fn number(&self) -> PartitionId {
        self.number
    }

    pub(super) fn append(
        &mut self,
        disk: &dyn Disk,
        (name, id): (&StreamName, StreamId),
        schemas: &[Arc<[u8]>],
        appended: &[Appended],
    ) -> Result<(), StorageError> {
        // A segment has batches of one version. They are not sorted by it: a crash must not keep one and lose those before it.
        let mut runs = appended.chunk_by(|one, next| one.batch.schema() == next.batch.schema());
        runs.try_for_each(|run| self.append_run(disk, (name, id), schemas, run))
    }

    fn append_run(
        &mut self,
        disk: &dyn Disk,
        (name, id): (&StreamName, StreamId),
        schemas: &[Arc<[u8]>],
        appended: &[Appended],
    ) -> Result<(), StorageError> {
        let version = appended.iter().find_map(|appended| appended.batch.schema()).unwrap_or_default();
        let takes_no_more = |newest: &SegmentWriter| newest.end() >= self.segment_bytes_cut || newest.segment().head().schema != version;
        if self.newest.as_ref().is_some_and(takes_no_more) {
            self.seal()?;
        }
        let newest = match &mut self.newest {
            Some(newest) => newest,
            none => {
                let (partition, number) = (self.number, self.next_segment);
                let head = SegmentHead { stream: name.clone(), stream_id: id, partition, number, schema: version };
                let schema = schemas.get(version.0 as usize).map(|schema| Bytes::copy_from_slice(schema)).unwrap_or_default();
                if !self.has_folder {
                    make_folder(disk, &self.folder)?;
                    self.has_folder = true;
                }
                let writer = SegmentWriter::create(disk, &self.folder, head, &schema)?;
                self.next_segment += 1;
                none.insert(writer)
            }
        };
        let segment = newest.segment().clone();
        let unwritten: Vec<_> = appended.iter().filter_map(|appended| Some((appended, appended.batch.unwritten()?))).collect();
        let batches = unwritten.iter().map(|(appended, batch)| (&**batch, appended.facts.clone()));
        newest.append_all(batches, |index, entry| unwritten[index].0.batch.written(segment.clone(), entry))
    }

    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        if zoo::has(Bug::NoSync) {
            return Ok(());
        }
        self.newest.as_mut().map_or(Ok(()), SegmentWriter::sync)
    }

    pub(super) fn seal(&mut self) -> Result<(), StorageError> {
        let Some(newest) = &mut self.newest else { return Ok(()) };
        newest.seal()?;
        let (segment, end) = (newest.segment().clone(), newest.end());
        self.newest = None;
        if let Some(lack) = &mut self.unstored {
            lack.sealed.push((segment.clone(), std::mem::take(&mut lack.newest_from), end));
        }
        self.sealed.insert(segment.head().number, segment);
        if let Some((_, old)) = self.sealed.iter().rev().nth(SEGMENTS_IN_PAGE_CACHE) {
            old.let_go();
        }
        Ok(())
    }

    /// Begins a new segment next, if all that the newest one has is dropped: on a full disk its room is worth more than its end.
    pub(super) fn retire(&mut self) {
        if let Some(newest) = self.newest.take_if(|newest| newest.has_batches() && Arc::strong_count(newest.segment()) == 1) {
            let segment = newest.segment().clone();
            self.sealed.insert(segment.head().number, segment);
            // What the object store lacks of it nobody needs.
            self.unstored.iter_mut().for_each(|lack| lack.newest_from = 0);
        }
    }

    /// The segments whose batches are all dropped.
    pub(super) fn dead(&self) -> impl Iterator<Item = u64> {
        self.sealed.iter().filter(|(_, segment)| Arc::strong_count(segment) == 1).map(|(number, _)| *number)
    }

    pub(super) fn remove(&mut self, disk: &dyn Disk, number: u64) -> Result<(), StorageError> {
        if self.sealed.contains_key(&number) {
            match segment::remove(disk, &self.folder, number) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StorageError::file("remove a segment of", disk, &self.folder, error));
                }
                _ => drop(self.sealed.remove(&number)),
            }
        }
        Ok(())
    }
}

/// Makes a folder durable, with those above it.
fn make_folder(disk: &dyn Disk, folder: &str) -> Result<(), StorageError> {
    disk.make_dir(folder).map_err(|source| StorageError::file("make", disk, folder, source))?;
    let above = folder.char_indices().filter(|(_, character)| *character == '/').map(|(end, _)| &folder[..end]);
    [""].into_iter().chain(above).try_for_each(|above| disk.sync_dir(above)).map_err(|source| StorageError::unsynced(disk, folder, source))
}
