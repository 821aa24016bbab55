//! A real folder.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

use super::{Disk, DiskFile};

/// Locked while the folder is used.
const LOCK: &str = "lock";

/// Pieces in one system call; Linux takes up to 1,024.
const PIECES_AT_ONCE: usize = 256;

/// A folder of the system's.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The folder at a path, which is made if it is not there.
    ///
    /// # Errors
    /// The system's, if it cannot be made.
    pub fn open(root: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let root = root.canonicalize()?;
        // Its own name, too. Where that is somebody else's folder it may not be possible, and is not ours to do.
        if let Some(Ok(parent)) = root.parent().map(File::open) {
            let _ = parent.sync_all();
        }
        Ok(Self { root })
    }

    /// Keeps other processes from using it until what this gives is dropped; none if one uses it.
    ///
    /// # Errors
    /// The system's.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.path(LOCK))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Disk for Folder {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).create_new(true).open(self.path(path))?))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.path(path))?))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(self.path(path))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn make_dir(&self, path: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.path(path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(path))
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        std::fs::remove_dir_all(self.path(path))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        File::open(self.path(path))?.sync_all()
    }

    fn available(&self) -> io::Result<u64> {
        let status = rustix::fs::statvfs(&self.root)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    fn place(&self) -> String {
        self.root.display().to_string()
    }
}

impl DiskFile for File {
    fn write_at(&self, pieces: &[&[u8]], at: u64) -> io::Result<()> {
        let mut at = at;
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| IoSlice::new(piece)).collect();
        let mut left = slices.as_mut_slice();
        while !left.is_empty() {
            let now = left.len().min(PIECES_AT_ONCE);
            match rustix::io::pwritev(self, &left[..now], at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(into, at)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn let_go(&self) {
        // Advice that is not taken changes nothing.
        let _ = rustix::fs::fadvise(self, 0, None, rustix::fs::Advice::DontNeed);
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_made_once_written_read_and_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        let disk = Folder::open(&dir.path().join("new")).expect("is made");
        disk.make_dir("a/b").expect("is made");
        let file = disk.create("a/b/1").expect("is new");
        assert_eq!(disk.create("a/b/1").expect_err("is there").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.open("a/b/2").expect_err("is not there").kind(), io::ErrorKind::NotFound);
        let pieces: Vec<[u8; 4]> = (0..3000_u32).map(u32::to_le_bytes).collect();
        file.write_at(&pieces.iter().map(|piece| &piece[..]).collect::<Vec<_>>(), 5).expect("is written");
        file.sync().expect("is durable");
        disk.sync_dir("a/b").expect("is durable");
        let mut back = vec![0; 12_000];
        disk.open("a/b/1").expect("is there").read_at(&mut back, 5).expect("is read");
        assert!(back == pieces.concat());
        assert_eq!((file.len().expect("known"), file.is_empty().expect("known")), (12_005, false));
        assert_eq!(file.read_at(&mut back, 6).expect_err("is cut").kind(), io::ErrorKind::UnexpectedEof);
        file.set_len(2).expect("is cut");
        assert_eq!(disk.list("a/b").expect("is there"), ["1"]);
        assert!(disk.available().expect("known") > 0);
        disk.rename("a/b/1", "a/b/2").expect("has another name");
        disk.remove("a/b/2").expect("is removed");
        disk.remove_dir("a").expect("is removed");
        assert!(disk.list("").expect("is there").is_empty());
    }
}
