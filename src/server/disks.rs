//! How much room the disks have that the coordinator writes to, as `/metrics` shows it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::coordinator::Coordinator;

/// A disk that does not say it for so long is not waited for: the other metrics are wanted then.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes that may still be written, the reserve among them; none where the disk does not say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Room {
    /// Under `data_dir`; none as well where nothing is durable.
    pub(super) data: Option<u64>,
    /// Under `spool_dir`.
    pub(super) spool: Option<u64>,
}

/// Asks the disks, one question at a time: those of a network may let it wait for ever, and each would hold a thread.
#[derive(Debug, Default)]
pub(super) struct Disks {
    asked: Arc<Mutex<()>>,
}

impl Disks {
    /// Looks at the coordinator's disks, for a second at most.
    pub(super) async fn look(&self, coordinator: &Coordinator) -> Room {
        let (data, spool) = (coordinator.store().map(|store| store.available()), coordinator.spool().clone());
        let look = async {
            let turn = self.asked.clone().lock_owned().await;
            let asked = tokio::task::spawn_blocking(move || {
                let room = Room { data: data.and_then(|available| available().ok()), spool: spool.available().ok() };
                drop(turn);
                room
            });
            asked.await.unwrap_or_default()
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap_or_default()
    }
}
