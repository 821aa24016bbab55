//! What a simulated disk is to do wrong next.

use std::io;

use rand::Rng;
use rand::rngs::StdRng;

/// How a run of the coordinator ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process is killed: all that was written is there.
    Process,
    /// The power fails: what was synced is there.
    Power,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) capacity: Option<u64>,
    pub(super) crash_at: Option<(Crash, u64)>,
    pub(super) crashed: Option<Crash>,
    pub(super) sync_in: Option<u64>,
    pub(super) write_in: Option<u64>,
    pub(super) read_in: Option<u64>,
    pub(super) flip_in: Option<u64>,
    /// Errors given so far, but for a full disk.
    pub(super) given: u64,
}

impl Faults {
    pub(super) fn crashes_now(&mut self) -> Option<Crash> {
        let (crash, calls) = self.crash_at.as_mut()?;
        *calls = calls.saturating_sub(1);
        (*calls == 0).then_some(*crash)
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !counts_down(&mut self.sync_in) {
            return Ok(());
        }
        let broken = self.broken();
        // A file system that finds room only when it has to says so here: what was written is as lost.
        Err(if self.given.is_multiple_of(2) { io::ErrorKind::StorageFull.into() } else { broken })
    }

    pub(super) fn read(&mut self) -> io::Result<()> {
        if counts_down(&mut self.read_in) { Err(self.broken()) } else { Ok(()) }
    }

    /// Flips a bit of what was read, if it is its turn.
    pub(super) fn flip(&mut self, read: &mut [u8], random: &mut StdRng) {
        if !read.is_empty() && counts_down(&mut self.flip_in) {
            self.given += 1;
            read[random.random_range(0..read.len())] ^= 1 << random.random_range(0..8);
        }
    }

    /// EIO.
    fn broken(&mut self) -> io::Error {
        self.given += 1;
        io::Error::from_raw_os_error(5)
    }

    pub(super) fn grow(&self, growth: u64, used: u64) -> io::Result<()> {
        let room = self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used));
        if growth <= room { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    /// How much of a write is done, and what it says.
    pub(super) fn write(&mut self, len: usize, growth: u64, used: u64, random: &mut StdRng) -> (usize, io::Result<()>) {
        let error = match counts_down(&mut self.write_in) {
            true => self.broken(),
            false => match self.grow(growth, used) {
                Ok(()) => return (len, Ok(())),
                Err(error) => error,
            },
        };
        let room = self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used));
        let within = len - usize::try_from(growth.saturating_sub(room)).unwrap_or(len).min(len);
        (random.random_range(0..=within), Err(error))
    }
}

fn counts_down(calls: &mut Option<u64>) -> bool {
    let Some(left) = calls else { return false };
    *left = left.saturating_sub(1);
    let is_now = *left == 0;
    if is_now {
        *calls = None;
    }
    is_now
}
