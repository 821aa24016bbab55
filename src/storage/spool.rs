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
use super::disk::{DiskFile, is_no_room};
use crate::engine::SchemaVersion;
use crate::wire::batch::EncodedBatch;
use crate::wire::dictionary::DictionarySet;
use crate::wire::ipc::{Body, Message};

/// A writer goes on to a new file when its file has so many bytes: what a long-lived writer's readers are done
/// with is freed, though the writer still holds its newest file. At most that much per writer is kept longer
/// than needed.
const FILE_BYTES_CUT: u64 = 64 << 20;

/// Where the spool is, and what it leaves free.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    /// The folder; none: the system's folder for temporary files.
    pub dir: Option<PathBuf>,
    /// Bytes of the disk that are never used. Default 1 GiB, so that logs and other programs go on. Writers
    /// that look at the same moment may each go below it by one batch.
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

    /// Whether the disk has so many bytes beyond the reserve.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`], or [`StorageError::Io`] if the disk cannot be asked.
    pub fn check_room(&self, bytes: u64) -> Result<(), StorageError> {
        let available = self.available()?;
        if available < bytes.saturating_add(self.reserve_bytes) {
            return Err(self.full(bytes, available));
        }
        Ok(())
    }

    /// Bytes of its disk that this user may still write, the reserve among them. Blocks.
    ///
    /// # Errors
    /// [`StorageError::Io`] if the disk cannot be asked.
    pub fn available(&self) -> Result<u64, StorageError> {
        let status = rustix::fs::statvfs(&self.dir).map_err(|error| self.error("look at", error.into()))?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    fn full(&self, bytes: u64, available: u64) -> StorageError {
        StorageError::DiskFull { bytes, dir: self.dir.display().to_string(), available, reserve: self.reserve_bytes }
    }

    fn error(&self, what: &'static str, source: io::Error) -> StorageError {
        StorageError::Io { what, dir: self.dir.display().to_string(), source }
    }

    /// A disk may fill up, or a quota be used up, between the look and the write.
    fn write_error(&self, bytes: u64, source: io::Error) -> StorageError {
        match is_no_room(&source) {
            true => self.full(bytes, self.available().unwrap_or(0)),
            false => self.error("write to", source),
        }
    }
}

/// Where a writer's batches go. Clones share it.
#[derive(Debug, Clone)]
pub struct SpoolFile {
    spool: Spool,
    open: Arc<Mutex<Option<OpenFile>>>,
}

#[derive(Debug, Clone)]
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
        let EncodedBatch { message, dictionaries, schema, user, rows } = batch;
        let bytes = message.bytes() + user.len() as u64;
        self.spool.check_room(bytes)?;
        let mut open = self.open.lock();
        let OpenFile { file, end: at } = self.file_with_room(&mut open)?;
        let pieces: Vec<&[u8]> = [&message.header, &user]
            .into_iter()
            .chain(message.body.chunks())
            .map(AsRef::as_ref)
            .filter(|piece| !piece.is_empty())
            .collect();
        DiskFile::write_at(&*file, &pieces, at).map_err(|error| self.spool.write_error(bytes, error))?;
        if let Some(open) = open.as_mut() {
            open.end = at + bytes;
        }
        drop(open);
        let mut checksum = crc32fast::Hasher::new();
        pieces.iter().for_each(|piece| checksum.update(piece));
        Ok(SpooledBatch {
            file,
            dir: self.spool.dir.clone(),
            at,
            bytes,
            header_bytes: message.header.len(),
            user_bytes: user.len(),
            checksum: checksum.finalize(),
            dictionaries,
            schema,
            rows,
        })
    }

    /// The open file, or a new one if there is none yet or it is long enough.
    fn file_with_room(&self, open: &mut Option<OpenFile>) -> Result<OpenFile, StorageError> {
        if let Some(current) = open.as_ref().filter(|current| current.end < FILE_BYTES_CUT) {
            return Ok(current.clone());
        }
        let file = tempfile::tempfile_in(&self.spool.dir).map_err(|error| self.spool.error("open a file of", error))?;
        Ok(open.insert(OpenFile { file: Arc::new(file), end: 0 }).clone())
    }
}

/// A batch in a spool file.
#[derive(Debug)]
pub struct SpooledBatch {
    file: Arc<File>,
    dir: PathBuf,
    at: u64,
    /// Of header, user's metadata and body, in this order.
    bytes: u64,
    header_bytes: usize,
    user_bytes: usize,
    checksum: u32,
    dictionaries: Arc<DictionarySet>,
    schema: SchemaVersion,
    rows: u64,
}

impl SpooledBatch {
    /// Which version of the stream's schema it has.
    #[must_use]
    pub fn schema(&self) -> SchemaVersion {
        self.schema
    }

    /// Reads it back. Blocks.
    ///
    /// # Errors
    /// [`StorageError::Io`], [`StorageError::Damaged`].
    pub fn read(&self) -> Result<EncodedBatch, StorageError> {
        let io_error = |source| StorageError::Io { what: "read from", dir: self.dir.display().to_string(), source };
        let len = usize::try_from(self.bytes).map_err(|error| io_error(io::Error::other(error)))?;
        let mut bytes = BytesMut::zeroed(len);
        self.file.read_exact_at(&mut bytes, self.at).map_err(io_error)?;
        let found = crc32fast::hash(&bytes);
        if found != self.checksum {
            return Err(StorageError::Damaged { bytes: self.bytes, at: self.at, written: self.checksum, found });
        }
        let mut body = bytes.freeze();
        let header = body.split_to(self.header_bytes);
        let user: Bytes = body.split_to(self.user_bytes);
        let message = Message { header, body: Body::from(body) };
        Ok(EncodedBatch { message, dictionaries: self.dictionaries.clone(), schema: self.schema, user, rows: self.rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Code;

    fn batch(body: &[u8]) -> EncodedBatch {
        let mut pieces = Body::new();
        let (front, back) = body.split_at(body.len() / 2);
        pieces.push(Bytes::copy_from_slice(front));
        pieces.push(Bytes::copy_from_slice(back));
        let message = Message { header: Bytes::from_static(b"header"), body: pieces };
        let user = Bytes::from_static(b"user");
        EncodedBatch { message, dictionaries: DictionarySet::empty(), schema: SchemaVersion(2), user, rows: 3 }
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
            assert_eq!((&read.user[..], read.rows, read.schema), (&b"user"[..], 3, SchemaVersion(2)));
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0, "the file has no name");
    }

    #[test]
    fn a_body_of_thousands_of_pieces_is_written_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut whole = batch(b"");
        (0..3000u32).for_each(|piece| whole.message.body.push(Bytes::copy_from_slice(&piece.to_le_bytes())));
        let read = spool(&dir, 0).file().write(whole.clone()).expect("there is room").read().expect("is there");
        assert_eq!(read.message.body.contiguous(), whole.message.body.contiguous());
    }

    #[test]
    fn damage_is_noticed() {
        let dir = tempfile::tempdir().expect("a folder");
        let spooled = spool(&dir, 0).file().write(batch(b"body")).expect("there is room");
        spooled.file.write_all_at(b"X", 11).expect("can be written");
        let error = spooled.read().expect_err("is damaged");
        assert!(matches!(error, StorageError::Damaged { bytes: 14, at: 0, .. }), "{error}");
        assert_eq!(error.code(), Code::Storage);
        spooled.file.set_len(10).expect("can be cut");
        assert!(matches!(spooled.read(), Err(StorageError::Io { .. })));
    }

    #[test]
    fn the_disks_reserve_is_not_touched() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = spool(&dir, u64::MAX / 2).file().write(batch(b"body")).expect_err("the reserve is larger than any disk");
        assert_eq!(error.code(), Code::SpoolFull);
        let text = error.to_string();
        assert!(text.contains("in reserve") && text.contains("choose another spool_dir"), "{text}");
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let spool = spool(&dir, 0);
        assert_eq!(spool.write_error(1, io::ErrorKind::StorageFull.into()).code(), Code::SpoolFull);
        assert_eq!(spool.write_error(1, io::ErrorKind::PermissionDenied.into()).code(), Code::Storage);
    }

    #[test]
    fn a_long_file_is_followed_by_another_and_freed_with_its_last_batch() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = spool(&dir, 0).file();
        let body = vec![7; 24 << 20];
        let spooled: Vec<_> = (0..4).map(|_| file.write(batch(&body)).expect("there is room")).collect();
        assert!((1..3).all(|later| Arc::ptr_eq(&spooled[0].file, &spooled[later].file)), "72 MiB, begun below 64 MiB");
        assert!(!Arc::ptr_eq(&spooled[0].file, &spooled[3].file));
        let first = Arc::downgrade(&spooled[0].file);
        let mut spooled = spooled.into_iter();
        spooled.by_ref().take(2).for_each(drop);
        assert!(first.upgrade().is_some(), "its third batch still is there");
        drop(spooled.next());
        assert!(first.upgrade().is_none());
        assert_eq!(spooled.next().expect("the fourth").read().expect("is there").message.body.len(), 24 << 20);
    }
}
