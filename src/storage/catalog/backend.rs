//! redb on a disk of ours.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::storage::disk::{Disk, DiskFile, is_no_room};

/// The file that redb keeps everything in.
#[derive(Debug)]
pub(super) struct Backend {
    file: Arc<dyn DiskFile>,
    trouble: Arc<Mutex<Trouble>>,
}

/// What the system has refused since the file was opened. redb itself does not tell one failure from another.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Writing: the disk was full, so many bytes were asked for.
    pub(super) no_room: Option<(u64, io::Error)>,
    /// Anything else.
    pub(super) is_other: bool,
}

impl Backend {
    /// The file of that name, a new one if there is none; and what the system will have refused.
    pub(super) fn open(disk: &Arc<dyn Disk>, path: &str) -> io::Result<(Self, Arc<Mutex<Trouble>>)> {
        let file = match disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path)?,
            opened => opened?,
        };
        let trouble = Arc::<Mutex<Trouble>>::default();
        Ok((Self { file, trouble: trouble.clone() }, trouble))
    }

    fn written(&self, bytes: u64, result: io::Result<()>) -> io::Result<()> {
        result.inspect_err(|error| match is_no_room(error) {
            true => self.trouble.lock().no_room = Some((bytes, error.kind().into())),
            false => self.trouble.lock().is_other = true,
        })
    }

    fn done<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|_| self.trouble.lock().is_other = true)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.done(self.file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.done(self.file.read_at(out, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.written(len, self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.done(self.file.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written(data.len() as u64, self.file.write_at(&[data], offset))
    }
}
