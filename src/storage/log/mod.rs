//! A durable stream's log: a series of segments per partition.

mod cache;
mod logged;
mod partition;
mod recovery;
#[cfg(all(test, feature = "client"))]
mod tests;
#[cfg(all(test, feature = "client"))]
mod unsettled_tests;

use std::io;
use std::sync::Arc;

pub use cache::Cache;
pub use logged::LoggedBatch;
pub use recovery::{RecoveredStream, check_has_catalog, recover_stream, remove_unknown};

use self::partition::PartitionLog;
use super::StorageError;
use super::catalog::Extent;
use super::disk::Disk;
use super::segment::{EntryFacts, Segment};
use crate::engine::{Offset, PartitionId, StreamId, StreamName};

/// Where the streams' folders are.
pub(super) const STREAMS: &str = "streams";

/// A batch that the log is to write.
#[derive(Debug)]
pub struct Appended {
    /// Its partition.
    pub partition: PartitionId,
    /// What is written beside it.
    pub facts: EntryFacts,
    /// The batch.
    pub batch: Arc<LoggedBatch>,
}

/// What was written to a segment and is not in the object store yet.
#[derive(Debug)]
pub struct Unstored {
    /// The partition.
    pub partition: PartitionId,
    /// The segment.
    pub segment: Arc<Segment>,
    /// From this byte on.
    pub at: u64,
    /// Up to this one.
    pub end: u64,
}

/// The logs of a stream's partitions. Whoever has it is the only one who writes them.
#[derive(Debug)]
pub struct StreamLog {
    disk: Arc<dyn Disk>,
    id: StreamId,
    name: StreamName,
    /// Bytes of the disk that batches never use.
    reserve_bytes: u64,
    partitions: Vec<PartitionLog>,
}

impl StreamLog {
    /// The log of a new stream. Its files come with the first batch.
    #[must_use]
    pub fn new(disk: &Arc<dyn Disk>, reserve_bytes: u64, id: StreamId, name: StreamName, partitions: u32) -> Self {
        let partitions = (0..partitions).map(|number| PartitionLog::new(partition_folder(id, PartitionId(number)), PartitionId(number)));
        Self { disk: disk.clone(), reserve_bytes, id, name, partitions: partitions.collect() }
    }

    /// A segment of so many bytes is followed by another, instead of one of 64 MiB.
    pub fn cut_segments_at(&mut self, bytes: u64) {
        self.partitions.iter_mut().for_each(|partition| partition.segment_bytes_cut = bytes);
    }

    /// Keeps in mind what is not in the object store.
    pub fn keep_unstored(&mut self) {
        self.partitions.iter_mut().for_each(PartitionLog::keep_unstored);
    }

    /// What was written and is not in the object store, durable here or not.
    #[must_use]
    pub fn unstored(&self) -> Vec<Unstored> {
        self.partitions.iter().flat_map(PartitionLog::unstored).collect()
    }

    /// All that was written is in the object store.
    pub fn stored(&mut self) {
        self.partitions.iter_mut().for_each(PartitionLog::stored);
    }

    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Whether the disk has so many bytes beyond its reserve. The catalog may use that: what is acked has to be told there for
    /// room to come back.
    ///
    /// # Errors
    /// [`StorageError::NoRoom`] if not; [`StorageError::File`] if the disk cannot be asked.
    pub fn check_room(&self, bytes: u64) -> Result<(), StorageError> {
        let available = self.disk.available().map_err(|source| StorageError::file("look at the disk of", &*self.disk, "", source))?;
        if bytes > 0 && available < bytes.saturating_add(self.reserve_bytes) {
            let file = self.disk.place();
            let left = format!("{available} bytes are left, of which {} are kept in reserve", self.reserve_bytes);
            return Err(StorageError::NoRoom { bytes, file, source: io::Error::new(io::ErrorKind::StorageFull, left) });
        }
        Ok(())
    }

    /// Writes batches of one partition at the end of its log; their schema message, of all that the stream has, stands at the beginning
    /// of each segment. They can be read then, and are durable after [`sync`](Self::sync). Blocks.
    ///
    /// # Errors
    /// [`StorageError`]; none of them is written then, or those before a change of the schema: they are not written again.
    pub fn append(&mut self, partition: PartitionId, schemas: &[Arc<[u8]>], appended: &[Appended]) -> Result<(), StorageError> {
        let Self { disk, id, name, partitions, .. } = self;
        partitions[partition.index()].append(&**disk, (name, *id), schemas, appended)
    }

    /// Makes durable what was written to a partition. Blocks.
    ///
    /// # Errors
    /// [`StorageError`]: nobody knows then what is durable, and the partition takes no more.
    pub fn sync(&mut self, partition: PartitionId) -> Result<(), StorageError> {
        self.partitions[partition.index()].sync()
    }

    /// The segments in which nothing is left that anybody holds. Ask before the stream's state is looked at that is to be
    /// committed, remove once it is committed: what they had is then known to be dropped.
    #[must_use]
    pub fn dead_segments(&self) -> Vec<(PartitionId, u64)> {
        self.partitions.iter().flat_map(|partition| partition.dead().map(|segment| (partition.number(), segment))).collect()
    }

    /// Makes those of the newest segments removable in which nothing is left: for a full disk.
    pub fn retire(&mut self) {
        self.partitions.iter_mut().for_each(PartitionLog::retire);
    }

    /// Removes a segment. Blocks.
    ///
    /// # Errors
    /// [`StorageError`]; it is tried again with the next one.
    pub fn remove_segment(&mut self, partition: PartitionId, segment: u64) -> Result<(), StorageError> {
        self.partitions[partition.index()].remove(&*self.disk, segment)
    }

    /// Seals all segments: the next start then reads no more than their indexes. Blocks.
    ///
    /// # Errors
    /// [`StorageError`]; the log is as good without.
    pub fn seal(&mut self) -> Result<(), StorageError> {
        self.partitions.iter_mut().try_for_each(PartitionLog::seal)
    }

    /// Removes all files of a stream that the catalog has no more. Blocks.
    ///
    /// # Errors
    /// [`StorageError`]; the next start tries again.
    pub fn remove_all(&mut self) -> Result<(), StorageError> {
        self.partitions.clear();
        remove_stream(&*self.disk, self.id)
    }
}

/// Where batches lie that have consecutive offsets from the first one's on. They are written.
#[must_use]
pub fn extent_of(batches: &[Arc<LoggedBatch>]) -> Extent {
    let mut extent = Extent::default();
    for (segment, start) in batches.iter().filter_map(|batch| batch.place()) {
        extent.push(segment, start);
    }
    extent
}

/// What a commit has made visible of one partition: batches that had no offset when they were written.
#[derive(Debug)]
pub struct Shown {
    /// The partition.
    pub partition: PartitionId,
    /// The first one's offset.
    pub first: Offset,
    /// The batches, with consecutive offsets.
    pub batches: Vec<Arc<LoggedBatch>>,
}

impl Shown {
    /// One past the last one's offset.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.first.plus(self.batches.len() as u64)
    }
}

/// Removes a stream's folder, if there is one.
pub(super) fn remove_stream(disk: &dyn Disk, id: StreamId) -> Result<(), StorageError> {
    let folder = stream_folder(id);
    match disk.remove_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|source| StorageError::file("remove", disk, &folder, source)),
    }
}

fn stream_folder(id: StreamId) -> String {
    format!("{STREAMS}/{:016x}", id.0)
}

pub(super) fn partition_folder(id: StreamId, partition: PartitionId) -> String {
    format!("{}/{:04}", stream_folder(id), partition.0)
}
