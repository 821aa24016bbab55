//! The memory and the threads that all requests with rows share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Refused;
use crate::engine::Code;
use crate::server::error::Error;

/// What bodies, and what is made of them, take at once: a body of the largest size, decoded, about twice.
pub(super) const BYTES_MAX: u64 = 512 << 20;
/// What a permit stands for.
const PERMIT_BYTES: u64 = 1 << 10;

/// The room.
#[derive(Debug)]
pub(super) struct Room {
    memory: Arc<Semaphore>,
    /// As many decode at a time as there are cores: more would only take them from those who serve.
    threads: Arc<Semaphore>,
}

impl Room {
    pub(super) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let permits = usize::try_from(BYTES_MAX / PERMIT_BYTES).unwrap_or(Semaphore::MAX_PERMITS);
        Self { memory: Arc::new(Semaphore::new(permits)), threads: Arc::new(Semaphore::new(threads)) }
    }

    /// Room for nothing yet.
    pub(super) fn claim(&self) -> Claim {
        Claim { memory: self.memory.clone(), held: None }
    }

    /// Waits for a turn to decode.
    pub(super) async fn thread(&self) -> Result<OwnedSemaphorePermit, Error> {
        self.threads.clone().acquire_owned().await.map_err(|error| Error::Task { reason: error.to_string() })
    }
}

/// One request's memory, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    memory: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Claim {
    /// From now on it is for so many bytes. Nobody waits for memory with memory in hand: that could be for ever.
    ///
    /// # Errors
    /// 503 if others have what is wanted; then it has what it had.
    pub(super) fn resize(&mut self, bytes: u64) -> Result<(), Refused> {
        let wanted = usize::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(usize::MAX);
        let has = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if wanted <= has {
            drop(self.held.as_mut().and_then(|held| held.split(has - wanted)));
            return Ok(());
        }
        let missing = u32::try_from(wanted - has).unwrap_or(u32::MAX);
        let full = |_| {
            let text = "too many rows are being taken by HTTP at once; nothing of these was taken, send them again in a while";
            Refused::for_now(Code::BufferFull, text)
        };
        let more = self.memory.clone().try_acquire_many_owned(missing).map_err(full)?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn claims_grow_and_shrink_within_the_room_and_give_back_what_they_had() {
        let room = Room::new();
        let (mut first, mut second) = (room.claim(), room.claim());
        first.resize(BYTES_MAX - (1 << 20)).unwrap();
        second.resize(1).unwrap();
        assert!(second.resize((1 << 20) + 1).is_err());
        second.resize(1 << 20).unwrap();
        assert!(first.resize(BYTES_MAX).is_err());
        first.resize(1 << 20).unwrap();
        second.resize(BYTES_MAX - (1 << 20)).unwrap();
        drop(second);
        first.resize(BYTES_MAX).unwrap();
        assert!(room.claim().resize(u64::MAX).is_err());
        first.resize(0).unwrap();
        room.claim().resize(BYTES_MAX).unwrap();
    }
}
