//! The open database, and what stops it.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::backend::{Backend, Trouble};
use crate::storage::disk::Disk;

/// What redb may keep in memory: the rest is read again. Ten thousand streams take a few megabytes.
const CACHE_BYTES: usize = 32 << 20;

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
