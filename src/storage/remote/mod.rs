//! The object store: where durable streams are as well, so that they outlive their machine, and by which one coordinator at a time
//! owns them.
//!
//! Under the URL's prefix:
//!
//! | object | what |
//! | --- | --- |
//! | `commits/00000000000000000001` | all that became durable together, numbered: new bytes of segments, changes of the catalog |
//! | `segments/{stream}/{partition}/{segment}-{at}-{term}` | a part of a segment, from a byte on: too long for a commit, or moved out of one |
//! | `catalogs/00000000000000000001` | what the commits up to that one add up to |
//!
//! A commit is made only if there is none of its number. A coordinator that starts makes one that says so, its takeover; its number is the
//! coordinator's term. Whoever was the owner before meets that very number with its next commit, and knows that it is fenced. That is why
//! takeovers are never removed. What a fenced owner still writes has its own term in its name, and no commit refers to it.

mod committer;
mod keeper;
mod load;
mod objects;
mod place;
mod restore;
mod saved;
mod start;
mod state;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;

pub use keeper::KeepAfter;
pub use place::keep_in_memory;
pub use start::{Started, Starter};

use self::committer::{Ask, Request, Shared};
use self::saved::{Piece, SegmentName};
use self::state::object_name;
use super::StorageError;
use super::catalog::{Change, SavedChange};
use super::disk::Disk;
use super::log::{Unstored, partition_folder};
use super::segment::{Segment, segment_path};
use crate::engine::{PartitionId, StreamId};

/// An object with a part of a segment is about so long at most: so much of it is in memory when it is written.
const OBJECT_BYTES: u64 = 16 << 20;
/// What is not longer travels in the commit: one request instead of two, one after the other.
const INLINE_BYTES: u64 = 1 << 20;
/// So much of it in one request, or a little more.
const INLINE_BYTES_TOGETHER: u64 = 8 << 20;
/// How long a start waits for its settling.
const SETTLE_TIME: Duration = Duration::from_secs(60);
/// Objects with parts of segments that are on their way at once, of one stream and of all: one alone does not fill the wire.
const UPLOADS_PER_STREAM: usize = 4;
const UPLOADS: usize = 8;

/// The object store of a coordinator that owns it. Cheap to share by `Arc`.
#[derive(Debug)]
pub struct Remote {
    shared: Arc<Shared>,
    asks: mpsc::Sender<Ask>,
    /// Bounds what is in memory on its way.
    uploads: Semaphore,
}

/// What one stream wants to be durable.
#[derive(Debug)]
pub struct Storing {
    /// What was written to segments since the last time.
    pub unstored: Vec<Unstored>,
    /// Of the catalog.
    pub changes: Vec<Change>,
    /// Segments in which nothing lives any more, once the changes are known.
    pub removed: Vec<(PartitionId, u64)>,
}

impl Remote {
    /// Makes durable what a stream wants, all of it or nothing. Waits for as long as the store does not answer: then
    /// [`trouble`](Self::trouble) says why.
    ///
    /// # Errors
    /// [`StorageError::Fenced`] if another coordinator has taken over; [`StorageError::File`].
    ///
    /// # Cancel safety
    /// It may be durable or not then.
    pub async fn store(&self, stream: StreamId, storing: Storing) -> Result<(), StorageError> {
        let Storing { unstored, changes, removed } = storing;
        let name = |partition: PartitionId, number| SegmentName { stream: stream.0, partition: partition.0, number };
        let mut request = Request {
            changes: changes.iter().map(SavedChange::from).collect(),
            removed: removed.into_iter().map(|(partition, number)| name(partition, number)).collect(),
            ..Request::default()
        };
        let mut pieces = Vec::new();
        let mut inline = 0;
        for part in unstored {
            let segment = name(part.partition, part.segment.head().number);
            let is_inline = part.end - part.at <= INLINE_BYTES && inline < INLINE_BYTES_TOGETHER;
            if is_inline {
                inline += part.end - part.at;
            }
            let mut at = part.at;
            while at < part.end {
                let end = part.end.min(at + OBJECT_BYTES);
                pieces.push(self.piece(part.segment.clone(), segment, at..end, is_inline));
                at = end;
            }
        }
        request.pieces = futures::stream::iter(pieces).buffered(UPLOADS_PER_STREAM).try_collect().await?;
        self.ask(request).await
    }

    /// A part of a segment as a commit names it: with its bytes, or once they are an object.
    async fn piece(&self, file: Arc<Segment>, segment: SegmentName, range: Range<u64>, is_inline: bool) -> Result<Piece, StorageError> {
        let Range { start: at, end } = range;
        if is_inline {
            let bytes = read(file, range).await?;
            return Ok(Piece { segment, at, end, checksum: crc32fast::hash(&bytes), bytes: Some(bytes) });
        }
        let _permit = self.uploads.acquire().await.map_err(|_| self.stopped())?;
        let bytes = read(file, range).await?;
        self.upload(segment, at, &bytes).await?;
        Ok(Piece { segment, at, end, checksum: crc32fast::hash(&bytes), bytes: None })
    }

    /// Why it does not go on at the moment, if it does not.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<StorageError>> {
        match self.fenced_by() {
            Some(fenced) => Some(Arc::new(fenced)),
            None => self.shared.objects.trouble(),
        }
    }

    /// Who has taken over, if somebody has.
    #[must_use]
    pub fn fenced_by(&self) -> Option<StorageError> {
        self.shared.fence.lock().clone().map(StorageError::from)
    }

    /// Waits until another coordinator has taken over.
    pub async fn fenced(&self) -> StorageError {
        loop {
            self.shared.fenced.cancelled().await;
            if let Some(fenced) = self.fenced_by() {
                return fenced;
            }
        }
    }

    /// Where it is, for people.
    #[must_use]
    pub fn place(&self) -> &str {
        self.shared.objects.shown()
    }

    /// Tidies up from now on, until it is stopped. What a start has found is settled before.
    pub fn keep(self: &Arc<Self>, disk: &Arc<dyn Disk>, after: KeepAfter, tasks: &TaskTracker) {
        tasks.spawn(keeper::run(self.clone(), disk.clone(), after));
    }

    /// Commits nothing more.
    pub fn stop(&self) {
        self.shared.stopping.cancel();
    }

    /// Tells the store what a start has found to be no part of any stream: segments that are shorter on the disk now, or gone. Blocks.
    ///
    /// # Errors
    /// [`StorageError::Fenced`], [`StorageError::File`]; [`StorageError::ObjectStore`] if there is no answer in a minute.
    pub fn settle(&self, disk: &dyn Disk) -> Result<(), StorageError> {
        let mut request = Request::default();
        let known: Vec<_> = {
            let state = &self.shared.ledger.lock().state;
            state.segments().map(|(segment, _)| (segment, state.len_of(&segment).unwrap_or_default())).collect()
        };
        for (segment, len) in known {
            let file = segment_file(segment);
            match disk.open(&file).and_then(|file| file.len()) {
                Ok(found) if found < len => {
                    request.cuts.push(Piece { segment, at: found, end: found, checksum: 0, bytes: None });
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => request.removed.push(segment),
                Err(source) => return Err(StorageError::file("look at", disk, &file, source)),
            }
        }
        if request.cuts.is_empty() && request.removed.is_empty() {
            return Ok(());
        }
        let settled = async { tokio::time::timeout(SETTLE_TIME, self.ask(request)).await };
        tokio::runtime::Handle::current().block_on(settled).unwrap_or_else(|_| {
            let reason = format!("no answer within {} s", SETTLE_TIME.as_secs());
            Err(StorageError::ObjectStore { what: "commit to", object: self.place().to_owned(), reason })
        })
    }

    async fn upload(&self, segment: SegmentName, at: u64, bytes: &Bytes) -> Result<(), StorageError> {
        let term = self.shared.ledger.lock().state.owner.term;
        let name = object_name(segment, at, term);
        tokio::select! {
            biased;
            fenced = self.fenced() => Err(fenced),
            () = self.shared.stopping.cancelled() => Err(self.stopped()),
            put = self.shared.objects.put(&name, bytes) => put,
        }
    }

    async fn ask(&self, request: Request) -> Result<(), StorageError> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask { request, answer }).await.map_err(|_| self.stopped())?;
        Ok(answered.await.map_err(|_| self.stopped())??)
    }

    fn stopped(&self) -> StorageError {
        let reason = "the coordinator has stopped before there was an answer".to_owned();
        StorageError::ObjectStore { what: "commit to", object: self.place().to_owned(), reason }
    }
}

async fn read(file: Arc<Segment>, range: Range<u64>) -> Result<Bytes, StorageError> {
    let name = file.name().to_owned();
    let reading = tokio::task::spawn_blocking(move || file.raw(range.start, range.end)).await;
    reading.map_err(|error| StorageError::File { what: "read", file: name, source: error.into() })?
}

/// A segment's file on the disk.
fn segment_file(segment: SegmentName) -> String {
    segment_path(&partition_folder(StreamId(segment.stream), PartitionId(segment.partition)), segment.number)
}
