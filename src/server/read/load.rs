//! Batches' bytes, from wherever they are.

use super::super::error::Error;
use super::{Loaded, Reading, Work};

impl Reading {
    /// The batches' bytes: those on the disk are read together, on a thread that may block.
    pub(super) async fn load(&self, work: &[Work]) -> Result<Vec<Loaded>, Error> {
        let in_memory: Vec<_> = work.iter().map(|work| work.batch.data.in_memory()).collect();
        if in_memory.iter().all(Option::is_some) {
            return Ok(in_memory.into_iter().flatten().map(Ok).collect());
        }
        let stored: Vec<_> = work.iter().map(|work| work.batch.data.clone()).collect();
        let read = move || in_memory.into_iter().zip(stored).map(|(batch, stored)| batch.map_or_else(|| stored.read(), Ok)).collect();
        if self.coordinator.store().is_some_and(|store| !store.is_real()) {
            return Ok(read());
        }
        tokio::task::spawn_blocking(read).await.map_err(|error| Error::Task { reason: error.to_string() })
    }
}
