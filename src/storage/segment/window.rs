//! A window on a file: what is read again and again, a bit further on each time, is read from the disk once.

use super::handle::Handle;
use crate::storage::StorageError;

/// Read at a time. Bodies are checked in pieces of this size, so that a large one needs no memory.
const WINDOW_BYTES: u64 = 256 << 10;

/// The bytes around the place that is being looked at.
#[derive(Debug)]
pub(super) struct Window<'a> {
    handle: &'a Handle,
    /// Length of the file; what others append meanwhile is not seen.
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn new(handle: &'a Handle, len: u64) -> Self {
        Self { handle, len, start: 0, bytes: Vec::new() }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// So many bytes at `at`; none if the file ends before.
    pub(super) fn get(&mut self, at: u64, bytes: u64) -> Result<Option<&[u8]>, StorageError> {
        let Some(end) = at.checked_add(bytes).filter(|end| *end <= self.len) else { return Ok(None) };
        if at < self.start || end > self.start + self.bytes.len() as u64 {
            let ahead = bytes.max(WINDOW_BYTES).min(self.len - at);
            self.bytes.clear();
            // Within the file, and metadata at most: fits.
            self.bytes.resize(usize::try_from(ahead).unwrap_or(0), 0);
            self.start = at;
            if let Err(error) = self.handle.read_at(&mut self.bytes, at) {
                self.bytes.clear();
                return Err(error);
            }
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(from..).and_then(|rest| rest.get(..usize::try_from(bytes).ok()?)))
    }

    /// Up to 256 KiB at `at`; empty at the end.
    pub(super) fn some(&mut self, at: u64) -> Result<&[u8], StorageError> {
        let there = self.len.saturating_sub(at).min(WINDOW_BYTES);
        Ok(self.get(at, there)?.unwrap_or_default())
    }

    /// The checksum with so many bytes at `at`; none if the file ends before.
    pub(super) fn update_crc(
        &mut self,
        mut crc: crc32fast::Hasher,
        at: u64,
        bytes: u64,
    ) -> Result<Option<crc32fast::Hasher>, StorageError> {
        let Some(end) = at.checked_add(bytes).filter(|end| *end <= self.len) else { return Ok(None) };
        let mut at = at;
        while at < end {
            let step = (end - at).min(WINDOW_BYTES);
            let Some(piece) = self.get(at, step)? else { return Ok(None) };
            crc.update(piece);
            at += step;
        }
        Ok(Some(crc))
    }
}
