//! The catalog: the small state of durable streams, in an embedded ACID store (redb) on the same disk as their logs.

mod backend;
mod saved;
mod tables;

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{Database, ReadableDatabase};

pub use saved::{Extent, Run, SavedStream};

use self::backend::Backend;
use super::StorageError;
use super::disk::Disk;
use crate::engine::{
    Offset, PartitionId, PartitionSnapshot, ProducerId, ProducerSnapshot, StreamId, SubscriptionName, SubscriptionSnapshot,
};

/// The catalog's file in the data directory.
pub(super) const FILE: &str = "catalog.redb";
/// Its name while it is made: redb takes none that was left half made.
const NEW_FILE: &str = "catalog.redb.new";
/// What redb may keep in memory: the rest is read again. Ten thousand streams take a few megabytes.
const CACHE_BYTES: usize = 32 << 20;

/// One change of a stream's small state. Those that are committed together are all there after a crash, or none.
#[derive(Debug, Clone)]
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

/// The open catalog.
#[derive(Debug)]
pub struct Catalog {
    database: Database,
    place: String,
    /// Not committed yet.
    pending: Mutex<Pending>,
    /// Who holds this commits for all who wait for it.
    committed: Mutex<Committed>,
}

#[derive(Debug, Default)]
struct Pending {
    changes: Vec<Change>,
    /// How many calls have brought changes.
    calls: u64,
}

#[derive(Debug, Default)]
struct Committed {
    /// The changes of so many calls are durable.
    calls: u64,
    /// A commit has failed: what it wrote may be there or not, so nothing is built on it.
    is_broken: bool,
}

impl Catalog {
    /// The catalog of a data directory; a new one if there is none.
    ///
    /// # Errors
    /// [`StorageError::NewerFormat`] if a newer version of bowstring has written it, [`StorageError::Catalog`].
    pub fn open(disk: &Arc<dyn Disk>) -> Result<Self, StorageError> {
        let place = format!("{}/{FILE}", disk.place());
        let error = |error: redb::Error| StorageError::Catalog { place: place.clone(), reason: error.to_string() };
        let open = |path: &str| -> Result<Database, redb::Error> {
            Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(Backend::open(disk, path)?)?)
        };
        let create = || -> Result<(), redb::Error> {
            match disk.remove(NEW_FILE) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
            transaction(&open(NEW_FILE)?, tables::check_format)?;
            disk.rename(NEW_FILE, FILE)?;
            Ok(disk.sync_dir("")?)
        };
        if disk.open(FILE).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            create().map_err(error)?;
        }
        let catalog =
            Self { database: open(FILE).map_err(error)?, place: place.clone(), pending: Mutex::default(), committed: Mutex::default() };
        match transaction(&catalog.database, tables::check_format).map_err(error)? {
            None => Ok(catalog),
            Some(found) => Err(StorageError::NewerFormat { file: place, found, supported: tables::FORMAT }),
        }
    }

    /// All streams.
    ///
    /// # Errors
    /// [`StorageError::Catalog`].
    pub fn load(&self) -> Result<Vec<FoundStream>, StorageError> {
        let load = || {
            let reading = self.database.begin_read()?;
            tables::load(&reading)
        };
        load().map_err(|error: redb::Error| self.error(&error))
    }

    /// Commits changes, in order; durable on return. Calls that come while one is under way share the next commit. Blocks.
    ///
    /// # Errors
    /// [`StorageError::Catalog`]. From then on every commit fails: nobody knows what is durable of this one.
    pub fn commit(&self, changes: Vec<Change>) -> Result<(), StorageError> {
        let call = {
            let mut pending = self.pending.lock();
            pending.changes.extend(changes);
            pending.calls += 1;
            pending.calls
        };
        let mut committed = self.committed.lock();
        if committed.is_broken {
            return Err(StorageError::Catalog { place: self.place.clone(), reason: "an earlier commit has failed".to_owned() });
        }
        if committed.calls >= call {
            return Ok(());
        }
        let Pending { changes, calls } = {
            let mut pending = self.pending.lock();
            Pending { changes: std::mem::take(&mut pending.changes), calls: pending.calls }
        };
        committed.is_broken = true;
        transaction(&self.database, |writing| tables::apply(writing, &changes)).map_err(|error| self.error(&error))?;
        *committed = Committed { calls, is_broken: false };
        Ok(())
    }

    fn error(&self, error: &redb::Error) -> StorageError {
        StorageError::Catalog { place: self.place.clone(), reason: error.to_string() }
    }
}

fn transaction<T>(database: &Database, work: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    let writing = database.begin_write()?;
    let result = work(&writing)?;
    writing.commit()?;
    Ok(result)
}

#[cfg(test)]
mod tests;
