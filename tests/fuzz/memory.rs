//! A disk in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bowstring::storage::disk::{Disk, DiskFile};
use parking_lot::Mutex;

/// Files by their paths. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<BTreeMap<String, Arc<MemoryFile>>>>);

#[derive(Debug, Default)]
struct MemoryFile(Mutex<Vec<u8>>);

impl MemoryDisk {
    pub(crate) fn with(files: &[(String, &[u8])]) -> Self {
        let disk = Self::default();
        for (path, bytes) in files {
            disk.0.lock().insert(path.clone(), Arc::new(MemoryFile(Mutex::new(bytes.to_vec()))));
        }
        disk
    }

    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        self.0.lock()[path].0.lock().clone()
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = Arc::new(MemoryFile::default());
        match self.0.lock().insert(path.to_owned(), file.clone()) {
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => Ok(file),
        }
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.0.lock().get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(file)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        Ok(self.0.lock().keys().filter_map(|name| name.strip_prefix(&format!("{path}/")).map(str::to_owned)).collect())
    }

    fn make_dir(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.0.lock();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.lock().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.0.lock().retain(|name, _| !name.starts_with(path));
        Ok(())
    }

    fn sync_dir(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn available(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&self, pieces: &[&[u8]], at: u64) -> io::Result<()> {
        let mut bytes = self.0.lock();
        let mut at = usize::try_from(at).unwrap();
        for piece in pieces {
            let end = at + piece.len();
            if bytes.len() < end {
                // A parser that is led to write far behind the end is to be found, not to be served.
                assert!(end < 64 << 20, "a file of {end} bytes");
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(piece);
            at = end;
        }
        Ok(())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let bytes = self.0.lock();
        let start = usize::try_from(at).unwrap();
        let there = start.checked_add(into.len()).and_then(|end| bytes.get(start..end));
        into.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        assert!(len < 64 << 20, "a file of {len} bytes");
        self.0.lock().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
