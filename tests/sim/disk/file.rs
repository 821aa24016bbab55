//! What a simulated file holds: as it is read, and as it may be after the power has failed.

use std::collections::BTreeMap;
use std::io;

use rand::Rng;
use rand::rngs::StdRng;

/// A disk writes this much as a whole.
const SECTOR: usize = 512;

type Sector = [u8; SECTOR];

/// A file.
#[derive(Debug, Default)]
pub(super) struct File {
    bytes: Vec<u8>,
    /// What is on the disk for sure.
    synced: Vec<u8>,
    /// Of each sector, what was written since, in order.
    sectors: BTreeMap<usize, Vec<Sector>>,
    /// Lengths since, in order.
    lengths: Vec<usize>,
}

impl File {
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn read(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let found = self.bytes.get(at..at.saturating_add(into.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(found);
        Ok(())
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let at = usize::try_from(at).expect("a small file");
        let end = at + bytes.len();
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
            self.lengths.push(end);
        }
        self.bytes[at..end].copy_from_slice(bytes);
        self.note(at / SECTOR..end.div_ceil(SECTOR));
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let len = usize::try_from(len).expect("a small file");
        let before = self.bytes.len();
        self.bytes.resize(len, 0);
        self.lengths.push(len);
        // What is cut off reads as zeros, should it become longer again.
        if len < before {
            self.note(len / SECTOR..before.div_ceil(SECTOR));
        }
    }

    pub(super) fn sync(&mut self) {
        self.synced.clone_from(&self.bytes);
        self.sectors.clear();
        self.lengths.clear();
    }

    /// Of what was to be made durable each sector is, or is dropped and passes for clean.
    pub(super) fn fail_sync(&mut self, random: &mut StdRng) {
        let len = self.bytes.len();
        self.bytes = self.after_power_loss(random);
        self.bytes.resize(len, 0);
        self.sync();
    }

    pub(super) fn lose_power(&mut self, random: &mut StdRng) {
        self.bytes = self.after_power_loss(random);
        self.sync();
    }

    pub(super) fn flip(&mut self, byte: u64, bit: u8) -> io::Result<()> {
        let at = usize::try_from(byte).map_err(io::Error::other)?;
        for bytes in [&mut self.bytes, &mut self.synced] {
            *bytes.get_mut(at).ok_or(io::ErrorKind::UnexpectedEof)? ^= 1 << (bit % 8);
        }
        Ok(())
    }

    /// Some bits are others, durably.
    pub(super) fn rot(&mut self, random: &mut StdRng) {
        for _ in 0..random.random_range(1..=3) {
            let byte = random.random_range(0..=self.len());
            // One beyond the end is none.
            let _ = self.flip(byte, random.random_range(0..8));
        }
    }

    /// Each sector by itself as old or new as it has been since the last sync.
    fn after_power_loss(&self, random: &mut StdRng) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        let len = match random.random_range(0..=self.lengths.len()) {
            0 => self.synced.len(),
            newer => self.lengths[newer - 1],
        };
        // Mostly all of it comes through, or none, or anything.
        let chance = [0.0, 0.5, 0.9, 1.0][random.random_range(0..4)];
        for (number, versions) in &self.sectors {
            if !random.random_bool(chance) {
                continue;
            }
            let newest = versions.len() - 1;
            let version = if random.random_bool(0.7) { newest } else { random.random_range(0..=newest) };
            let (start, end) = (number * SECTOR, (number + 1) * SECTOR);
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[start..end].copy_from_slice(&versions[version]);
        }
        bytes.resize(len, 0);
        bytes
    }

    fn note(&mut self, sectors: std::ops::Range<usize>) {
        for number in sectors {
            let mut sector = [0; SECTOR];
            let start = (number * SECTOR).min(self.bytes.len());
            let found = &self.bytes[start..((number + 1) * SECTOR).min(self.bytes.len())];
            sector[..found.len()].copy_from_slice(found);
            self.sectors.entry(number).or_default().push(sector);
        }
    }
}
