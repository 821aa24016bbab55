//! The open database, and what stops it.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction};

use super::backend::{Backend, Trouble};
use crate::storage::disk::Disk;

/// What redb may keep in memory: the rest is read again. Ten thousand streams take a few megabytes.
const CACHE_BYTES: usize = 32 << 20;

/// A copy is made in pieces of so many bytes.
const COPY_BYTES: usize = 1 << 20;

/// redb on a file that is open. After a failure it does nothing more: it has to be opened again, which finds what the last commit
/// that succeeded has left, or all of the one that failed.
#[derive(Debug)]
pub(super) struct Opened {
    database: Database,
    trouble: Arc<Mutex<Trouble>>,
}

/// Why redb stopped.
#[derive(Debug)]
pub(super) enum Failure {
    /// The disk was full, and nothing else was wrong.
    NoRoom { bytes: u64, source: io::Error },
    /// Nobody knows what the disk has.
    Other(redb::Error),
}

impl Opened {
    /// The file of that name, a new one if there is none.
    pub(super) fn new(disk: &Arc<dyn Disk>, path: &str) -> Result<Self, Failure> {
        let (backend, trouble) = Backend::open(disk, path)?;
        match Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend) {
            Ok(database) => Ok(Self { database, trouble }),
            Err(error) => Err(Failure::of(&trouble, error.into())),
        }
    }

    /// The same for a file that is there, once every page of it was found to be what was written. redb looks only after a crash. This is
    /// done on a copy in memory, since redb repairs what it finds damaged, by going back to what was there before.
    pub(super) fn checked(disk: &Arc<dyn Disk>, path: &str) -> Result<Self, Failure> {
        let file = disk.open(path)?;
        let copy = InMemoryBackend::new();
        let mut piece = vec![0; COPY_BYTES];
        let len = file.len()?;
        copy.set_len(len)?;
        for at in (0..len).step_by(COPY_BYTES) {
            let piece = &mut piece[..usize::try_from(len - at).map_or(COPY_BYTES, |left| left.min(COPY_BYTES))];
            file.read_at(piece, at)?;
            copy.write(at, piece)?;
        }
        // redb also panics over some of what it finds.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| is_sound(copy))) {
            Ok(Ok(true)) => Self::new(disk, path),
            Ok(Ok(false)) => Err(Failure::Other(redb::Error::Corrupted("pages are not what was written".to_owned()))),
            Ok(Err(error)) => Err(Failure::Other(error)),
            Err(_) => Err(Failure::Other(redb::Error::Corrupted("its structure is not what was written".to_owned()))),
        }
    }

    /// Does something, all of it or nothing; durable on return.
    pub(super) fn transaction<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, Failure> {
        let done = || {
            let writing = self.database.begin_write()?;
            let result = work(&writing)?;
            writing.commit()?;
            Ok(result)
        };
        done().map_err(|error| Failure::of(&self.trouble, error))
    }

    /// Reads what is committed.
    pub(super) fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, Failure> {
        let done = || work(&self.database.begin_read()?);
        done().map_err(|error| Failure::of(&self.trouble, error))
    }
}

fn is_sound(copy: InMemoryBackend) -> Result<bool, redb::Error> {
    Ok(Database::builder().create_with_backend(copy)?.check_integrity()?)
}

impl Failure {
    fn of(trouble: &Mutex<Trouble>, error: redb::Error) -> Self {
        match std::mem::take(&mut *trouble.lock()) {
            Trouble { no_room: Some((bytes, source)), is_other: false } => Self::NoRoom { bytes, source },
            _ => Self::Other(error),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.into())
    }
}
