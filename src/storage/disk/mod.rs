//! The disk: what storage asks of files and folders, so that a simulation can stand in for them.

mod folder;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

pub use folder::Folder;

/// Whether an error says that the disk is full, rather than broken: then it is worth another try.
pub(super) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// A folder with files. Paths are relative to it, with `/` between their parts.
///
/// What is written is lost when the power fails, whole or in parts, until [`DiskFile::sync`]; a file that was made, moved or
/// removed may be there or not until [`sync_dir`](Self::sync_dir) of its folder. All calls block.
pub trait Disk: Debug + Send + Sync {
    /// A new file, open for reading and writing.
    ///
    /// # Errors
    /// The system's; `AlreadyExists` if there is one of this name.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// A file that is there, open for reading and writing.
    ///
    /// # Errors
    /// The system's; `NotFound` if there is none.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// The names in a folder, sorted.
    ///
    /// # Errors
    /// The system's; `NotFound` if there is no such folder.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;

    /// Makes a folder, and those above it. One that is there is left as it is.
    ///
    /// # Errors
    /// The system's.
    fn make_dir(&self, path: &str) -> io::Result<()>;

    /// Gives a file another name, in place of one that has it.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Who has it open can go on reading.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Removes a folder with all that is in it.
    ///
    /// # Errors
    /// The system's.
    fn remove_dir(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_dir(&self, path: &str) -> io::Result<()>;

    /// Bytes that can still be written.
    ///
    /// # Errors
    /// The system's.
    fn available(&self) -> io::Result<u64>;

    /// Where it is, for people.
    fn place(&self) -> String;
}

/// An open file. All calls block.
pub trait DiskFile: Debug + Send + Sync {
    /// Writes pieces one behind the other from `at` on, beyond the end if need be.
    ///
    /// # Errors
    /// The system's; some of the pieces may be written then.
    fn write_at(&self, pieces: &[&[u8]], at: u64) -> io::Result<()>;

    /// Fills `into` with what is at `at`.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` if the file ends before.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()>;

    /// Its length.
    ///
    /// # Errors
    /// The system's.
    fn len(&self) -> io::Result<u64>;

    /// Whether it is empty.
    ///
    /// # Errors
    /// The system's.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts it, or makes it longer by zeros.
    ///
    /// # Errors
    /// The system's.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Says that nobody is expected to read it soon: the system may use the memory that it keeps of it for something else.
    fn let_go(&self) {}

    /// Makes what was written durable. After an error nobody knows what is: the system may have dropped it, and says so
    /// once only.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self) -> io::Result<()>;
}
