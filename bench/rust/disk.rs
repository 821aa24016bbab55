//! What this disk reaches: plain files written as a durable stream's log writes its own, and what making them durable costs alone.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Result as IoResult;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::fs::OFlags;

use crate::report::{monotonic_ns, wait_for_go};

/// As many batches as bowstring holds by default: what is written comes from as much memory, which no cache holds.
const MADE_BATCHES: usize = 64;
/// What the system asks of memory that is written past its cache.
const ALIGNMENT: usize = 4096;

/// Files one after the other, each written from its beginning.
#[derive(Debug, Args)]
pub(crate) struct Write {
    /// An empty folder.
    folder: PathBuf,
    /// Bytes of a batch: of one write.
    bytes: usize,
    /// How many batches.
    batches: usize,
    /// A file of so many bytes is followed by another.
    #[arg(long)]
    file_bytes: usize,
    /// So many bytes are made durable together.
    #[arg(long)]
    sync_bytes: usize,
    /// Past the system's cache (O_DIRECT).
    #[arg(long)]
    direct: bool,
    /// Of all files but so many of the newest the system's cache is given back.
    #[arg(long)]
    cached_files: Option<usize>,
}

/// One write after the other, each made durable.
#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// An empty folder.
    folder: PathBuf,
    /// Bytes of a write.
    bytes: usize,
    /// How many.
    writes: usize,
}

/// Memory of a batch's size that begins where the system wants it for a direct write.
struct Made {
    memory: Vec<u8>,
    start: usize,
}

impl Made {
    fn new(bytes: usize, number: usize) -> Self {
        // Not zeros: those would share one page until they are written.
        let memory = vec![u8::try_from(number % 250).unwrap_or(0) + 1; bytes + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, start }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.memory.len() - (ALIGNMENT - self.start)]
    }
}

pub(crate) fn write(write: &Write) -> Result<(), Box<dyn Error>> {
    let made: Vec<_> = (0..MADE_BATCHES).map(|number| Made::new(write.bytes, number)).collect();
    let meter = wait_for_go()?;
    let (mut file, mut at, mut unsynced, mut files) = (create(&write.folder, 0, write.direct)?, 0, 0, 1);
    let mut cached = VecDeque::new();
    for batch in made.iter().cycle().take(write.batches) {
        if at >= write.file_bytes {
            file.sync_data()?;
            cached.push_back(std::mem::replace(&mut file, create(&write.folder, files, write.direct)?));
            (at, unsynced, files) = (0, 0, files + 1);
            if let Some(old) = write.cached_files.filter(|kept| cached.len() > *kept).and_then(|_| cached.pop_front()) {
                rustix::fs::fadvise(&old, 0, None, rustix::fs::Advice::DontNeed)?;
            }
        }
        file.write_all_at(batch.bytes(), at as u64)?;
        at += write.bytes;
        unsynced += write.bytes;
        if unsynced >= write.sync_bytes {
            file.sync_data()?;
            unsynced = 0;
        }
    }
    file.sync_data()?;
    meter.report(write.batches as u64, (write.bytes * write.batches) as u64, &[]);
    Ok(())
}

pub(crate) fn sync_each(sync_each: &Sync) -> Result<(), Box<dyn Error>> {
    let made: Vec<_> = (0..MADE_BATCHES).map(|number| Made::new(sync_each.bytes, number)).collect();
    let file = create(&sync_each.folder, 0, false)?;
    let meter = wait_for_go()?;
    let mut latencies = Vec::new();
    for (number, batch) in made.iter().cycle().take(sync_each.writes).enumerate() {
        file.write_all_at(batch.bytes(), (number * sync_each.bytes) as u64)?;
        let begun_ns = monotonic_ns();
        // What the log does: the data, and what is needed to find it.
        file.sync_data()?;
        latencies.push(monotonic_ns() - begun_ns);
    }
    meter.report(sync_each.writes as u64, (sync_each.bytes * sync_each.writes) as u64, &latencies);
    Ok(())
}

/// A file whose name is durable.
fn create(folder: &Path, number: usize, direct: bool) -> IoResult<File> {
    let mut options = OpenOptions::new();
    if direct {
        options.custom_flags(i32::try_from(OFlags::DIRECT.bits()).map_err(std::io::Error::other)?);
    }
    let file = options.write(true).create_new(true).open(folder.join(number.to_string()))?;
    File::open(folder)?.sync_all()?;
    Ok(file)
}
