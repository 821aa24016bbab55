//! What a stream's dictionaries take of the memory. They are counted apart from its batches, because many batches share
//! one, and a spooled batch's dictionaries stay in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::error::Error;

/// A stream's account of dictionary bytes, limited by its `max_buffered_bytes`.
#[derive(Debug)]
pub(super) struct DictionaryRoom {
    used: Arc<AtomicU64>,
    limit: u64,
}

/// A dictionary's share, given back when the last that holds the dictionary lets go of it.
#[derive(Debug)]
pub(super) struct Charge {
    used: Arc<AtomicU64>,
    bytes: u64,
}

/// A dictionary's header, with its share of the account.
struct Charged {
    header: Bytes,
    /// Held for its `Drop`.
    _charge: Arc<Charge>,
}

impl DictionaryRoom {
    pub(super) fn new(limit: u64) -> Self {
        Self { used: Arc::default(), limit }
    }

    /// Room for a dictionary whose body is still to come. Refused at once if there is none: what holds the room are
    /// batches, and they go when they are acked.
    pub(super) fn charge(&self, bytes: u64) -> Result<Charge, Error> {
        let limit = self.limit;
        if bytes > limit {
            return Err(Error::Engine(crate::engine::Error::BatchTooLarge { bytes, limit }));
        }
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
        match self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, add) {
            Ok(_) => Ok(Charge { used: self.used.clone(), bytes }),
            Err(used) => Err(Error::DictionariesFull { bytes, used, limit }),
        }
    }
}

impl Charge {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Both in one. They are of the same account.
    pub(super) fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// The header, which keeps the charge for as long as anybody has it.
    pub(super) fn attach(self: &Arc<Self>, header: Bytes) -> Bytes {
        Bytes::from_owner(Charged { header, _charge: self.clone() })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.header
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use crate::engine::Code;

    #[test]
    fn room_is_held_until_the_last_copy_is_gone() {
        let room = DictionaryRoom::new(10);
        let charge = Arc::new(room.charge(6).unwrap());
        let header = charge.attach(Bytes::from_static(b"header"));
        drop(charge);
        let copy = header.clone();
        drop(header);
        assert_eq!(copy, "header");
        assert_eq!(room.charge(5).unwrap_err().code(), Code::BufferFull);
        drop(room.charge(4).unwrap());
        drop(copy);
        drop(room.charge(10).unwrap());
        assert_eq!(room.charge(11).unwrap_err().code(), Code::BatchTooLarge);
    }
}
