//! What can go wrong with files.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, is_no_room};
use crate::engine::{Code, Offset};

/// A file that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk's reserve would be touched.
    #[error(
        "no room to spool {bytes} bytes: the disk under {dir} has {available} bytes left, of which {reserve} are kept in reserve; free some, choose another spool_dir, or let consumers ack first"
    )]
    DiskFull {
        /// Bytes asked for.
        bytes: u64,
        /// The spool's folder.
        dir: String,
        /// Bytes that the disk has left.
        available: u64,
        /// Bytes that are kept free.
        reserve: u64,
    },
    /// The system refused.
    #[error("cannot {what} the spool in {dir}: {source}; check the disk and the folder's permissions")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The spool's folder.
        dir: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A file of the data directory cannot be written or read.
    #[error("cannot {what} {file}: {source}; check the disk and the folder's permissions")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        file: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The disk of the data directory is full. Nothing of what was to be written counts; it may be tried again.
    #[error("no room for {bytes} bytes in {file}: {source}; free some of the disk, or let consumers ack first")]
    NoRoom {
        /// Bytes that were to be written.
        bytes: u64,
        /// The file.
        file: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The system could not make a file durable. It says so once, and may have dropped what was written.
    #[error(
        "nobody knows how much of {file} is on the disk since it could not be made durable; check the disk, then start the coordinator again, which reads what is there"
    )]
    Unsure {
        /// The file.
        file: String,
    },
    /// The segment takes no more.
    #[error("{file} takes no more batches: {why}; begin a new segment")]
    NotWritable {
        /// The file.
        file: String,
        /// Why.
        why: &'static str,
    },
    /// The segment was written by a newer version.
    #[error(
        "{file} has format version {found}, but this version of bowstring knows {supported} and older; upgrade it, or use another data directory"
    )]
    NewerFormat {
        /// The file.
        file: String,
        /// The file's version.
        found: u32,
        /// The newest that is known here.
        supported: u32,
    },
    /// What was to be stored is no message of an Arrow stream.
    #[error("cannot store {what} in {file}: {why}; send what an Arrow Flight client sends")]
    Unfit {
        /// What it is.
        what: &'static str,
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// A segment is not what was written.
    #[error("{what} in {file} at byte {at} is damaged: {why}; check the disk, and restore the file from a copy if there is one")]
    DamagedSegment {
        /// What is damaged.
        what: String,
        /// The file.
        file: String,
        /// Where, in bytes from the file's start.
        at: u64,
        /// How it shows.
        why: String,
    },
    /// The catalog cannot be read or written.
    #[error(
        "the catalog {place} cannot be used: {reason}; nothing more is confirmed: check the disk and start the coordinator again; if that is refused, restore the file from a copy"
    )]
    Catalog {
        /// The file.
        place: String,
        /// What the store says.
        reason: String,
    },
    /// The object store does not answer, or refuses. It is tried again.
    #[error(
        "cannot {what} {object}: {reason}; check the network, the object store and its credentials: what was confirmed is there, and all else waits"
    )]
    ObjectStore {
        /// What was tried.
        what: &'static str,
        /// The object.
        object: String,
        /// What the store says.
        reason: String,
    },
    /// Another coordinator owns the streams.
    #[error(
        "coordinator {owner} has taken over {place} with commit {commit}, so this one confirms nothing any more: what it confirmed is there; stop this one, and let clients connect to the other"
    )]
    Fenced {
        /// Which start of a coordinator.
        owner: String,
        /// Its first commit that this one has met.
        commit: u64,
        /// Of the object store.
        place: String,
    },
    /// The URL of an object store cannot be used.
    #[error(
        "object_store {url} cannot be used: {why}; write s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder"
    )]
    ObjectStoreUrl {
        /// The URL, without secrets.
        url: String,
        /// Why.
        why: String,
    },
    /// The data directory has what the object store has not.
    #[error(
        "the data directory {folder} cannot be used with object_store {place}: {why}, and using it would lose them; choose an empty data_dir, or the object_store that it belongs to"
    )]
    NotInObjectStore {
        /// The data directory.
        folder: String,
        /// The object store.
        place: String,
        /// What it has.
        why: String,
    },
    /// The data directory is that of an object store.
    #[error(
        "the data directory {folder} belongs to object_store {place}, where another coordinator may go on with its streams; start with that object_store, or choose another data_dir"
    )]
    NeedsObjectStore {
        /// The data directory.
        folder: String,
        /// The object store.
        place: String,
    },
    /// The object store lets everybody write everything.
    #[error(
        "object_store {place} ignores the condition of a conditional put (If-None-Match: *), so that two coordinators could write it at once; use one that knows it"
    )]
    NoConditionalPut {
        /// Of the object store.
        place: String,
    },
    /// An object is not what was written.
    #[error("the object {object} cannot be used: {why}; restore it from a version or a copy if there is one")]
    DamagedObject {
        /// The object.
        object: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There are streams, and no catalog, or an empty one.
    #[error(
        "there are streams in {dir} but no catalog.redb that knows them: restore it from a copy, or move the folder streams away to start without them"
    )]
    CatalogGone {
        /// The data directory.
        dir: String,
    },
    /// A batch that a restart has found damaged.
    #[error("{why}")]
    Lost {
        /// What it has found.
        why: Arc<StorageError>,
    },
    /// A segment does not have what the catalog says.
    #[error(
        "segment {segment} has no batch at byte {at}, where the catalog says that one is; check the disk, and restore the file from a copy if there is one"
    )]
    Missing {
        /// The segment's number.
        segment: u64,
        /// Where it was.
        at: u64,
    },
    /// Nothing is known of an offset that others follow.
    #[error("the batch of offset {offset} is in no segment; check the disk, and restore its file from a copy if there is one")]
    Gone {
        /// The offset.
        offset: Offset,
    },
    /// What was read is not what was written.
    #[error("a spooled batch of {bytes} bytes at {at} is damaged: its checksum is {found:08x}, not {written:08x}; check the disk")]
    Damaged {
        /// Its length.
        bytes: u64,
        /// Its place in the file.
        at: u64,
        /// Checksum when it was written.
        written: u32,
        /// Checksum of what was read.
        found: u32,
    },
}

impl StorageError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::DiskFull { .. } => Code::SpoolFull,
            Self::Unfit { .. } => Code::MalformedMessage,
            Self::Io { .. }
            | Self::File { .. }
            | Self::NoRoom { .. }
            | Self::Unsure { .. }
            | Self::NotWritable { .. }
            | Self::NewerFormat { .. }
            | Self::DamagedSegment { .. }
            | Self::Catalog { .. }
            | Self::ObjectStore { .. }
            | Self::Fenced { .. }
            | Self::ObjectStoreUrl { .. }
            | Self::NotInObjectStore { .. }
            | Self::NeedsObjectStore { .. }
            | Self::NoConditionalPut { .. }
            | Self::DamagedObject { .. }
            | Self::CatalogGone { .. }
            | Self::Lost { .. }
            | Self::Missing { .. }
            | Self::Gone { .. }
            | Self::Damaged { .. } => Code::Storage,
        }
    }

    /// Of a file or folder of a disk.
    pub(super) fn file(what: &'static str, disk: &dyn Disk, path: &str, source: io::Error) -> Self {
        Self::system(what, format!("{}/{path}", disk.place()), 0, source)
    }

    /// Of a folder that could not be made durable. Not even a full disk is worth another try then.
    pub(super) fn unsynced(disk: &dyn Disk, path: &str, source: io::Error) -> Self {
        Self::File { what: "make durable", file: format!("{}/{path}", disk.place()), source }
    }

    /// A full disk is told from a broken one: it is worth another try. `bytes` were to be written.
    pub(super) fn system(what: &'static str, file: String, bytes: u64, source: io::Error) -> Self {
        match is_no_room(&source) {
            true => Self::NoRoom { bytes, file, source },
            false => Self::File { what, file, source },
        }
    }

    /// Whether it passes once the disk has room again.
    #[must_use]
    pub fn is_no_room(&self) -> bool {
        matches!(self, Self::NoRoom { .. })
    }
}
