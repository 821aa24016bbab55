//! A simulated disk: in memory, from a seed, and as unkind as a real one may be.

mod faults;
mod file;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bowstring::storage::disk::{Disk, DiskFile};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub(crate) use self::faults::Crash;
use self::faults::Faults;
use self::file::File;
use self::names::{Names, Node, parent};

/// The disk itself: it outlives those that use it. What was synced survives a power loss, of the rest each sector, each length
/// and each name by itself is older or newer.
#[derive(Debug, Clone)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// The disk as one run of a coordinator sees it: dead once that has crashed.
#[derive(Debug)]
struct Mounted {
    state: Arc<Mutex<State>>,
    generation: u64,
}

#[derive(Debug)]
struct Handle {
    state: Arc<Mutex<State>>,
    generation: u64,
    file: u64,
    is_catalog: bool,
}

#[derive(Debug)]
struct State {
    random: StdRng,
    /// Grows with every crash: handles of an older one are dead.
    generation: u64,
    names: Names,
    files: BTreeMap<u64, File>,
    faults: Faults,
    /// A digest of all calls, in order.
    digest: u64,
}

impl SimDisk {
    /// An empty disk without limits.
    pub(crate) fn new(seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let state = State { random, generation: 0, names: Names::default(), files: BTreeMap::new(), faults: Faults::default(), digest: 0 };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The disk for the next run of a coordinator.
    pub(crate) fn mount(&self) -> Arc<dyn Disk> {
        let mut state = self.state.lock();
        state.faults.crashed = None;
        Arc::new(Mounted { state: self.state.clone(), generation: state.generation })
    }

    /// Crashes now. What is open is dead.
    pub(crate) fn crash(&self, crash: Crash) {
        self.state.lock().crash(crash);
    }

    /// Crashes before the `calls`-th write, cut, sync or change of names from now on: between any two of them.
    pub(crate) fn crash_at(&self, crash: Crash, calls: u64) {
        self.state.lock().faults.crash_at = Some((crash, calls));
    }

    /// The crash that has come, if one has since the last mount.
    pub(crate) fn crashed(&self) -> Option<Crash> {
        self.state.lock().faults.crashed
    }

    /// No crash and no error is to come, and there is room.
    pub(crate) fn heal(&self) {
        let mut state = self.state.lock();
        state.faults = Faults { crashed: state.faults.crashed, given: state.faults.given, ..Faults::default() };
    }

    /// All files together may have so many bytes; none: no limit.
    pub(crate) fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().faults.capacity = bytes;
    }

    /// Whether there is a limit.
    pub(crate) fn is_full(&self) -> bool {
        self.state.lock().faults.capacity.is_some()
    }

    /// The run that has it mounted ends itself.
    pub(crate) fn give_up(&self) {
        self.crash(Crash::Process);
    }

    /// Bytes of all files.
    pub(crate) fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// The `calls`-th sync from now on fails, and drops what it should have made durable.
    pub(crate) fn fail_sync(&self, calls: u64) {
        self.state.lock().faults.sync_in = Some(calls);
    }

    /// The `calls`-th write from now on fails; a part of it is written.
    pub(crate) fn fail_write(&self, calls: u64) {
        self.state.lock().faults.write_in = Some(calls);
    }

    /// The `calls`-th read from now on fails.
    pub(crate) fn fail_read(&self, calls: u64) {
        self.state.lock().faults.read_in = Some(calls);
    }

    /// What the `calls`-th read of a segment or an index from now on gives has one bit wrong. redb checks its pages only after a
    /// crash, so those are left alone.
    pub(crate) fn flip_read(&self, calls: u64) {
        self.state.lock().faults.flip_in = Some(calls);
    }

    /// Errors given so far, but for a full disk.
    pub(crate) fn errors(&self) -> u64 {
        self.state.lock().faults.given
    }

    /// Flips a bit of a file, durably.
    pub(crate) fn flip(&self, path: &str, byte: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let file = state.file_at(path)?;
        state.files.get_mut(&file).ok_or(io::ErrorKind::NotFound)?.flip(byte, bit)
    }

    /// A digest of all calls so far: two runs of a seed have the same.
    pub(crate) fn digest(&self) -> u64 {
        self.state.lock().digest
    }
}

impl State {
    fn check(&mut self, generation: u64) -> io::Result<()> {
        if generation == self.generation { Ok(()) } else { Err(io::Error::other("this run of the coordinator has crashed")) }
    }

    /// Before a call that changes something.
    fn change(&mut self, generation: u64, what: u8, at: u64, len: u64) -> io::Result<()> {
        self.check(generation)?;
        for part in [u64::from(what), at, len] {
            self.digest = (self.digest ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
        }
        if let Some(crash) = self.faults.crashes_now() {
            self.crash(crash);
            return self.check(generation);
        }
        Ok(())
    }

    fn crash(&mut self, crash: Crash) {
        self.generation += 1;
        self.faults.crash_at = None;
        self.faults.crashed = Some(crash);
        if crash == Crash::Power {
            let Self { names, files, random, .. } = self;
            names.lose_power(random);
            let kept = names.files();
            files.retain(|number, _| kept.contains(number));
            files.values_mut().for_each(|file| file.lose_power(random));
            // Indexes are there to save time: anything may be in them.
            for number in names.files_that_end_with(".index") {
                if let Some(file) = files.get_mut(&number).filter(|_| random.random_bool(0.2)) {
                    file.rot(random);
                }
            }
        }
    }

    fn used(&self) -> u64 {
        self.names.files().iter().filter_map(|number| self.files.get(number)).map(File::len).sum()
    }

    fn file_at(&self, path: &str) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Mounted {
    fn handle(&self, path: &str, file: u64) -> Arc<dyn DiskFile> {
        let is_catalog = path.starts_with("catalog");
        Arc::new(Handle { state: self.state.clone(), generation: self.generation, file, is_catalog })
    }
}

impl Disk for Mounted {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.change(self.generation, b'c', 0, 0)?;
        if state.names.get(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.names.check_folder(parent(path))?;
        let file = state.names.new_file();
        state.files.insert(file, File::default());
        state.names.put(path, Node::File(file));
        Ok(self.handle(path, file))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.check(self.generation)?;
        Ok(self.handle(path, state.file_at(path)?))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut state = self.state.lock();
        state.check(self.generation)?;
        state.names.list(path)
    }

    fn make_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(self.generation, b'm', 0, 0)?;
        state.names.make_folders(path);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(self.generation, b'n', 0, 0)?;
        state.names.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(self.generation, b'r', 0, 0)?;
        state.file_at(path)?;
        state.names.remove(path);
        Ok(())
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(self.generation, b'd', 0, 0)?;
        state.names.check_folder(path)?;
        state.names.remove_folder(path);
        Ok(())
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(self.generation, b'y', 0, 0)?;
        state.names.check_folder(path)?;
        state.faults.sync()?;
        state.names.sync(path);
        Ok(())
    }

    fn available(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        state.check(self.generation)?;
        Ok(state.faults.capacity.map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(state.used())))
    }

    fn place(&self) -> String {
        "sim".to_owned()
    }
}

impl DiskFile for Handle {
    fn write_at(&self, pieces: &[&[u8]], at: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let bytes = pieces.concat();
        state.change(self.generation, b'w', at, bytes.len() as u64)?;
        let used = state.used();
        let State { faults, files, random, .. } = &mut *state;
        let file = files.get_mut(&self.file).ok_or(io::ErrorKind::NotFound)?;
        let growth = (at + bytes.len() as u64).saturating_sub(file.len());
        let (written, result) = faults.write(bytes.len(), growth, used, random);
        file.write(at, &bytes[..written]);
        result
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check(self.generation)?;
        state.faults.read()?;
        let State { faults, files, random, .. } = &mut *state;
        files.get(&self.file).ok_or(io::ErrorKind::NotFound)?.read(into, at)?;
        if !self.is_catalog {
            faults.flip(into, random);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        state.check(self.generation)?;
        Ok(state.files.get(&self.file).ok_or(io::ErrorKind::NotFound)?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(self.generation, b'l', 0, len)?;
        let used = state.used();
        let State { faults, files, .. } = &mut *state;
        let file = files.get_mut(&self.file).ok_or(io::ErrorKind::NotFound)?;
        faults.grow(len.saturating_sub(file.len()), used)?;
        file.set_len(len);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(self.generation, b's', 0, 0)?;
        let State { faults, files, random, .. } = &mut *state;
        let file = files.get_mut(&self.file).ok_or(io::ErrorKind::NotFound)?;
        match faults.sync() {
            Ok(()) => file.sync(),
            Err(error) => {
                file.fail_sync(random);
                return Err(error);
            }
        }
        Ok(())
    }
}
