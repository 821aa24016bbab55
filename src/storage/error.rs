//! What can go wrong with files.

use crate::engine::Code;

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
        source: std::io::Error,
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
            Self::Io { .. } | Self::Damaged { .. } => Code::Storage,
        }
    }
}
