//! The catalog: the small state of durable streams, in an embedded ACID store (redb) on the same disk as their logs.

mod backend;
mod image;
mod opened;
mod saved;
mod saved_subscription;
mod tables;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

pub use image::{Image, SavedChange, Unreadable};
pub use saved::{Extent, Run, SavedStream};

use self::opened::{Failure, Opened};
use super::StorageError;
use super::disk::Disk;
use crate::engine::{
    Offset, PartitionId, PartitionSnapshot, ProducerId, ProducerSnapshot, StreamId, SubscriptionName, SubscriptionSnapshot,
};

/// The catalog's file in the data directory.
pub(super) const FILE: &str = "catalog.redb";
/// Its name while it is made: redb takes none that was left half made.
const NEW_FILE: &str = "catalog.redb.new";

/// One change of a stream's small state. Those that are committed together are all there after a crash, or none.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Options, schema, state and totals.
    Stream(StreamId, SavedStream),
    /// The stream is gone, with all that belongs to it.
    Delete(StreamId),
    /// Where a partition begins; extents that end before that are gone. The snapshot's batches do not count.
    Partition(StreamId, PartitionId, PartitionSnapshot<()>),
    /// Where batches of a committed epoch lie, from this offset on.
    Extent(StreamId, PartitionId, Offset, Extent),
    /// A subscription; none: it is gone.
    Subscription(StreamId, SubscriptionName, Option<SubscriptionSnapshot>),
    /// A producer; none: it is forgotten.
    Producer(StreamId, ProducerId, Option<ProducerSnapshot>),
}

impl Change {
    /// Whether nothing of an earlier change is left after this one.
    #[must_use]
    pub fn replaces(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Stream(..), Self::Stream(..)) | (Self::Delete(_), _) => true,
            (Self::Partition(_, now, _), Self::Partition(_, then, _)) => now == then,
            (Self::Subscription(_, now, _), Self::Subscription(_, then, _)) => now == then,
            (Self::Producer(_, now, _), Self::Producer(_, then, _)) => now == then,
            _ => false,
        }
    }
}

/// All that is known of a stream, but for its batches.
#[derive(Debug, Clone)]
pub struct FoundStream {
    /// Its id.
    pub id: StreamId,
    /// Options, schema, state and totals.
    pub saved: SavedStream,
    /// By number. One that never had a batch dropped is missing.
    pub partitions: Vec<(PartitionId, PartitionSnapshot<()>)>,
    /// By partition and first offset.
    pub extents: Vec<(PartitionId, Offset, Extent)>,
    /// By name.
    pub subscriptions: Vec<(SubscriptionName, SubscriptionSnapshot)>,
    /// By name.
    pub producers: Vec<(ProducerId, ProducerSnapshot)>,
}

/// That all of a data directory is in an object store as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// What tells that store from others.
    pub store: String,
    /// The start of a coordinator that has written what is here.
    pub owner: String,
    /// Where the store is, for people.
    pub place: String,
}

/// The open catalog.
#[derive(Debug)]
pub struct Catalog {
    disk: Arc<dyn Disk>,
    place: String,
    /// Not committed yet.
    pending: Mutex<Pending>,
    /// Who holds this commits for all who wait for it.
    writer: Mutex<Writer>,
}

#[derive(Debug, Default)]
struct Pending {
    changes: Vec<Change>,
    /// How many calls have brought changes.
    calls: u64,
}

#[derive(Debug)]
struct Writer {
    /// None: the disk was full, and it has to be opened again.
    opened: Option<Opened>,
    /// The changes of calls up to this number are committed, but for those that have failed.
    calls: u64,
    /// They have met a full disk, and do not know it yet.
    failed: BTreeSet<u64>,
    /// A commit has failed otherwise: what it wrote may be there or not, so nothing is built on it.
    is_broken: bool,
}

impl Catalog {
    /// The catalog of a data directory; a new one if there is none.
    ///
    /// # Errors
    /// [`StorageError::NewerFormat`] if a newer version of bowstring has written it, [`StorageError::NoRoom`],
    /// [`StorageError::Catalog`].
    pub fn open(disk: &Arc<dyn Disk>) -> Result<Self, StorageError> {
        let place = format!("{}/{FILE}", disk.place());
        let opened = open_or_create(disk).map_err(|failure| error(&place, failure))?;
        if let Some(found) = opened.transaction(tables::check_format).map_err(|failure| error(&place, failure))? {
            return Err(StorageError::NewerFormat { file: place, found, supported: tables::FORMAT });
        }
        let writer = Writer { opened: Some(opened), calls: 0, failed: BTreeSet::new(), is_broken: false };
        Ok(Self { disk: disk.clone(), place, pending: Mutex::default(), writer: Mutex::new(writer) })
    }

    /// All streams.
    ///
    /// # Errors
    /// [`StorageError::NoRoom`], [`StorageError::Catalog`].
    pub fn load(&self) -> Result<Vec<FoundStream>, StorageError> {
        let mut writer = self.writer.lock();
        let load = self.opened(&mut writer).and_then(|opened| opened.read(tables::load));
        load.map_err(|failure| error(&self.place, failure))
    }

    /// Which object store has all of it, if one has.
    ///
    /// # Errors
    /// [`StorageError::NoRoom`], [`StorageError::Catalog`].
    pub fn marker(&self) -> Result<Option<Marker>, StorageError> {
        let mut writer = self.writer.lock();
        let marker = self.opened(&mut writer).and_then(|opened| opened.read(tables::marker));
        marker.map_err(|failure| error(&self.place, failure))
    }

    /// From now on it has this and nothing else, all of which is in an object store. Durable on return; blocks.
    ///
    /// # Errors
    /// [`StorageError::NoRoom`], [`StorageError::Catalog`].
    pub fn replace(&self, changes: &[Change], marker: &Marker) -> Result<(), StorageError> {
        let mut writer = self.writer.lock();
        let replace = |writing: &redb::WriteTransaction| {
            tables::clear(writing)?;
            tables::apply(writing, changes)?;
            tables::mark(writing, marker)
        };
        let replaced = self.opened(&mut writer).and_then(|opened| opened.transaction(replace));
        replaced.map_err(|failure| error(&self.place, failure))
    }

    /// What is known of a producer, if anything.
    ///
    /// # Errors
    /// [`StorageError::NoRoom`], [`StorageError::Catalog`].
    pub fn producer(&self, stream: StreamId, name: &ProducerId) -> Result<Option<ProducerSnapshot>, StorageError> {
        let mut writer = self.writer.lock();
        let found = self.opened(&mut writer).and_then(|opened| opened.read(|reading| tables::producer(reading, stream, name)));
        found.map_err(|failure| error(&self.place, failure))
    }

    /// Commits changes, in order; durable on return. Calls that come while one is under way share the next commit. Blocks.
    ///
    /// # Errors
    /// [`StorageError::NoRoom`] if the disk is full: nobody knows whether the changes are there, and they are to be committed
    /// again before anything is built on them. [`StorageError::Catalog`]: from then on every commit fails, as nobody knows what
    /// the disk has.
    pub fn commit(&self, changes: Vec<Change>) -> Result<(), StorageError> {
        let call = {
            let mut pending = self.pending.lock();
            pending.changes.extend(changes);
            pending.calls += 1;
            pending.calls
        };
        let mut writer = self.writer.lock();
        if writer.is_broken {
            return Err(StorageError::Catalog { place: self.place.clone(), reason: "an earlier commit has failed".to_owned() });
        }
        if writer.failed.remove(&call) {
            return Err(error(&self.place, Failure::NoRoom { bytes: 0, source: io::ErrorKind::StorageFull.into() }));
        }
        if writer.calls >= call {
            return Ok(());
        }
        let Pending { changes, calls } = {
            let mut pending = self.pending.lock();
            Pending { changes: std::mem::take(&mut pending.changes), calls: pending.calls }
        };
        let first = std::mem::replace(&mut writer.calls, calls) + 1;
        writer.is_broken = true;
        let committed = self.opened(&mut writer).and_then(|opened| opened.transaction(|writing| tables::apply(writing, &changes)));
        if matches!(committed, Ok(()) | Err(Failure::NoRoom { .. })) {
            writer.is_broken = false;
        }
        if let Err(Failure::NoRoom { .. }) = committed {
            writer.opened = None;
            writer.failed.extend((first..=calls).filter(|other| *other != call));
        }
        committed.map_err(|failure| error(&self.place, failure))
    }

    /// The database, which is opened again if the disk was full.
    fn opened<'a>(&self, writer: &'a mut Writer) -> Result<&'a Opened, Failure> {
        if writer.opened.is_none() {
            writer.opened = Some(Opened::new(&self.disk, FILE)?);
        }
        writer.opened.as_ref().ok_or_else(|| Failure::Other(redb::Error::DatabaseClosed))
    }
}

fn open_or_create(disk: &Arc<dyn Disk>) -> Result<Opened, Failure> {
    if disk.open(FILE).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        match disk.remove(NEW_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        Opened::new(disk, NEW_FILE)?.transaction(tables::check_format)?;
        disk.rename(NEW_FILE, FILE)?;
        disk.sync_dir("")?;
    }
    Opened::checked(disk, FILE)
}

fn error(place: &str, failure: Failure) -> StorageError {
    let place = place.to_owned();
    match failure {
        Failure::NoRoom { bytes, source } => StorageError::NoRoom { bytes, file: place, source },
        Failure::Other(error) => StorageError::Catalog { place, reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
