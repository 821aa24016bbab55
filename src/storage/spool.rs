//! The spool: temporary files for what does not fit in memory.
//!
//! A file has no name: it is gone when the last batch in it is dropped, also after `kill -9`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::StorageError;
use crate::wire::batch::EncodedBatch;
use crate::wire::dictionary::DictionarySet;
use crate::wire::ipc::{Body, Message};

/// Where the spool is, and what it leaves free.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    /// The folder; none: the system's folder for temporary files.
    pub dir: Option<PathBuf>,
    /// Bytes of the disk that are never used. Default 1 GiB, so that logs and other programs go on.
    pub reserve_bytes: u64,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self { dir: None, reserve_bytes: 1 << 30 }
    }
}

/// Makes spool files.
#[derive(Debug, Clone)]
pub struct Spool {
    dir: PathBuf,
    reserve_bytes: u64,
}

impl Spool {
    /// A spool in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// The system's, if the folder cannot be made.
    pub fn new(options: SpoolOptions) -> io::Result<Self> {
        let dir = options.dir.unwrap_or_else(std::env::temp_dir);
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir, reserve_bytes: options.reserve_bytes })
    }

    /// A new file; it is opened when the first batch is written.
    #[must_use]
    pub fn file(&self) -> SpoolFile {
        SpoolFile { spool: self.clone(), open: Arc::default() }
    }

    fn check_room(&self, bytes: u64) -> Result<(), StorageError> {
        let status = rustix::fs::statvfs(&self.dir).map_err(|error| self.error("look at", error.into()))?;
        let available = status.f_bavail.saturating_mul(status.f_frsize);
        if available < bytes.saturating_add(self.reserve_bytes) {
            return Err(StorageError::DiskFull { bytes, dir: self.dir.display().to_string(), available, reserve: self.reserve_bytes });
        }
        Ok(())
    }

    fn error(&self, what: &'static str, source: io::Error) -> StorageError {
        StorageError::Io { what, dir: self.dir.display().to_string(), source }
    }
}

/// A file of one writer. Clones share it.
#[derive(Debug, Clone)]
pub struct SpoolFile {
    spool: Spool,
    open: Arc<Mutex<Option<OpenFile>>>,
}

#[derive(Debug)]
struct OpenFile {
    file: Arc<File>,
    end: u64,
}

impl SpoolFile {
    /// Writes a batch at the end. Its dictionaries stay in memory. Blocks.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`], [`StorageError::Io`]; the batch is not stored then.
    pub fn write(&self, batch: EncodedBatch) -> Result<SpooledBatch, StorageError> {
        let bytes = batch.bytes();
        self.spool.check_room(bytes)?;
        let mut open = self.open.lock();
        let current = match &mut *open {
            Some(open) => open,
            none => {
                let file = tempfile::tempfile_in(&self.spool.dir).map_err(|error| self.spool.error("open", error))?;
                none.insert(OpenFile { file: Arc::new(file), end: 0 })
            }
        };
        let at = current.end;
        let mut checksum = crc32fast::Hasher::new();
        let mut place = at;
        for piece in std::iter::once(&batch.message.header).chain(batch.message.body.chunks()) {
            current.file.write_all_at(piece, place).map_err(|error| self.spool.error("write to", error))?;
            checksum.update(piece);
            place += piece.len() as u64;
        }
        current.end = place;
        Ok(SpooledBatch {
            file: current.file.clone(),
            dir: self.spool.dir.clone(),
            at,
            header_bytes: batch.message.header.len(),
            bytes,
            checksum: checksum.finalize(),
            dictionaries: batch.dictionaries,
            user: batch.user,
            rows: batch.rows,
        })
    }
}

/// A batch in a spool file.
#[derive(Debug)]
pub struct SpooledBatch {
    file: Arc<File>,
    dir: PathBuf,
    at: u64,
    header_bytes: usize,
    bytes: u64,
    checksum: u32,
    dictionaries: Arc<DictionarySet>,
    user: Bytes,
    rows: u64,
}

impl SpooledBatch {
    /// Reads it back. Blocks.
    ///
    /// # Errors
    /// [`StorageError::Io`], [`StorageError::Damaged`].
    pub fn read(&self) -> Result<EncodedBatch, StorageError> {
        let io_error = |source| StorageError::Io { what: "read", dir: self.dir.display().to_string(), source };
        let len = usize::try_from(self.bytes).map_err(|error| io_error(io::Error::other(error)))?;
        let mut bytes = BytesMut::zeroed(len);
        self.file.read_exact_at(&mut bytes, self.at).map_err(io_error)?;
        let found = crc32fast::hash(&bytes);
        if found != self.checksum {
            return Err(StorageError::Damaged { bytes: self.bytes, at: self.at, written: self.checksum, found });
        }
        let mut body = bytes.freeze();
        let header = body.split_to(self.header_bytes);
        let message = Message { header, body: Body::from(body) };
        Ok(EncodedBatch { message, dictionaries: self.dictionaries.clone(), user: self.user.clone(), rows: self.rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(body: &'static [u8]) -> EncodedBatch {
        let mut pieces = Body::new();
        let (front, back) = body.split_at(body.len() / 2);
        pieces.push(Bytes::from_static(front));
        pieces.push(Bytes::from_static(back));
        let message = Message { header: Bytes::from_static(b"header"), body: pieces };
        EncodedBatch { message, dictionaries: DictionarySet::empty(), user: Bytes::from_static(b"user"), rows: 3 }
    }

    fn spool(dir: &tempfile::TempDir, reserve_bytes: u64) -> Spool {
        Spool::new(SpoolOptions { dir: Some(dir.path().to_owned()), reserve_bytes }).expect("a folder")
    }

    #[test]
    fn what_was_spooled_is_read_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = spool(&dir, 0).file();
        let spooled = [&b"first body"[..], b"", b"second"].map(|body| file.write(batch(body)).expect("there is room"));
        for (spooled, body) in spooled.iter().zip(["first body", "", "second"]) {
            let read = spooled.read().expect("is there");
            assert_eq!((&read.message.header[..], &read.message.body.contiguous()[..]), (&b"header"[..], body.as_bytes()));
            assert_eq!((&read.user[..], read.rows), (&b"user"[..], 3));
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0, "the file has no name");
    }

    #[test]
    fn damage_is_noticed() {
        let dir = tempfile::tempdir().expect("a folder");
        let spooled = spool(&dir, 0).file().write(batch(b"body")).expect("there is room");
        spooled.file.write_all_at(b"X", 8).expect("can be written");
        assert!(matches!(spooled.read(), Err(StorageError::Damaged { bytes: 10, at: 0, .. })));
    }

    #[test]
    fn the_disks_reserve_is_not_touched() {
        let dir = tempfile::tempdir().expect("a folder");
        let refused = spool(&dir, u64::MAX / 2).file().write(batch(b"body"));
        assert_eq!(refused.expect_err("the reserve is larger than any disk").code(), Code::SpoolFull);
    }

    use crate::engine::Code;
}
