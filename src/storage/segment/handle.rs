//! An open file that knows its name, for errors that say where.

use std::io;
use std::sync::Arc;

use crate::storage::StorageError;
use crate::storage::disk::{Disk, DiskFile};

/// A file and what people call it.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    file: Arc<dyn DiskFile>,
    name: String,
}

impl Handle {
    pub(super) fn create(disk: &dyn Disk, path: &str) -> Result<Self, StorageError> {
        let name = shown(disk, path);
        let file = disk.create(path).map_err(|source| StorageError::system("create", name.clone(), 0, source))?;
        Ok(Self { file, name })
    }

    pub(super) fn open(disk: &dyn Disk, path: &str) -> Result<Self, StorageError> {
        let name = shown(disk, path);
        let file = disk.open(path).map_err(|source| StorageError::system("open", name.clone(), 0, source))?;
        Ok(Self { file, name })
    }

    /// Opens the file, or makes it.
    pub(super) fn open_or_create(disk: &dyn Disk, path: &str) -> Result<Self, StorageError> {
        match Self::open(disk, path) {
            Err(StorageError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Self::create(disk, path),
            opened => opened,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn len(&self) -> Result<u64, StorageError> {
        self.file.len().map_err(|source| StorageError::system("look at", self.name.clone(), 0, source))
    }

    pub(super) fn read_at(&self, into: &mut [u8], at: u64) -> Result<(), StorageError> {
        self.file.read_at(into, at).map_err(|source| StorageError::system("read", self.name.clone(), 0, source))
    }

    pub(super) fn write_at(&self, pieces: &[&[u8]], at: u64) -> Result<(), StorageError> {
        self.file.write_at(pieces, at).map_err(|source| {
            let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
            StorageError::system("write to", self.name.clone(), bytes, source)
        })
    }

    pub(super) fn set_len(&self, len: u64) -> Result<(), StorageError> {
        self.file.set_len(len).map_err(|source| StorageError::system("cut", self.name.clone(), 0, source))
    }

    pub(super) fn let_go(&self) {
        self.file.let_go();
    }

    pub(super) fn sync(&self) -> Result<(), StorageError> {
        // Not even a full disk is worth another try: the system may have dropped what was written.
        self.file.sync().map_err(|source| StorageError::File { what: "make durable", file: self.name.clone(), source })
    }

    pub(super) fn damaged(&self, what: String, at: u64, why: String) -> StorageError {
        StorageError::DamagedSegment { what, file: self.name.clone(), at, why }
    }

    pub(super) fn unfit(&self, what: &'static str, why: String) -> StorageError {
        StorageError::Unfit { what, file: self.name.clone(), why }
    }
}

/// A path as people see it.
pub(super) fn shown(disk: &dyn Disk, path: &str) -> String {
    format!("{}/{path}", disk.place())
}
