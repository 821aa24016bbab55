//! Memory that one principal's batches take: given out before a batch comes, given back when nobody has the batch any more.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::server::error::Error;

/// What a permit stands for.
const PERMIT_BYTES: u64 = 1 << 10;

/// So many bytes, of all batches of one principal together.
#[derive(Debug)]
pub(super) struct Memory {
    bytes: u64,
    free: Arc<Semaphore>,
}

/// What a batch takes of it.
#[derive(Debug)]
pub(in crate::server) struct Held {
    /// Held for its `Drop`.
    _permit: OwnedSemaphorePermit,
}

/// A batch's header, which holds what the batch takes.
struct HeldHeader {
    header: Bytes,
    /// Held for its `Drop`.
    _held: Held,
}

impl Memory {
    pub(super) fn new(bytes: u64) -> Self {
        let permits = usize::try_from(bytes / PERMIT_BYTES).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { bytes, free: Arc::new(Semaphore::new(permits)) }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits until there is as much, behind those who came before. More than all of it never comes.
    ///
    /// # Cancel safety
    /// Nothing is taken.
    ///
    /// # Errors
    /// `internal`: none, as long as it is there.
    pub(super) async fn take(&self, bytes: u64) -> Result<Held, Error> {
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        let closed = |error: AcquireError| Error::Task { reason: error.to_string() };
        self.free.clone().acquire_many_owned(permits).await.map(|permit| Held { _permit: permit }).map_err(closed)
    }

    /// Whether none of it is taken.
    pub(super) fn is_free(&self) -> bool {
        self.free.available_permits() as u64 >= self.bytes / PERMIT_BYTES
    }
}

impl Held {
    /// The header of a batch, which keeps it for as long as anybody has the batch.
    pub(in crate::server) fn attach(self, header: Bytes) -> Bytes {
        Bytes::from_owner(HeldHeader { header, _held: self })
    }
}

impl AsRef<[u8]> for HeldHeader {
    fn as_ref(&self) -> &[u8] {
        &self.header
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_a_batch_takes_is_held_until_the_last_copy_of_it_is_gone() {
        let memory = Memory::new(10 << 10);
        let header = memory.take(6 << 10).await.unwrap().attach(Bytes::from_static(b"header"));
        let copy = header.clone();
        drop(header);
        assert!(memory.take((4 << 10) + 1).now_or_never().is_none() && !memory.is_free());
        drop(memory.take(4 << 10).await.unwrap());
        assert_eq!(copy, "header");
        drop(copy);
        assert!(memory.is_free());
        drop(memory.take(10 << 10).await.unwrap());
    }
}
