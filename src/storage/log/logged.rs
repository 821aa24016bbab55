//! A batch of a durable stream: on its way to the log, or there, and perhaps in memory as well.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::SchemaVersion;
use crate::storage::StorageError;
use crate::storage::segment::{Entry, Segment};
use crate::wire::batch::EncodedBatch;

/// A batch of a durable stream. Cheap to share by `Arc`.
#[derive(Debug)]
pub struct LoggedBatch {
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Unwritten(Arc<EncodedBatch>),
    Written {
        segment: Arc<Segment>,
        entry: Entry,
        cached: Option<Arc<EncodedBatch>>,
    },
    /// Found damaged at the start.
    Lost(Arc<StorageError>),
}

impl LoggedBatch {
    /// A batch that is still to be written.
    #[must_use]
    pub fn new(batch: EncodedBatch) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Unwritten(Arc::new(batch))) })
    }

    /// One that a restart has found.
    pub(super) fn found(segment: Arc<Segment>, entry: Entry) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Written { segment, entry, cached: None }) })
    }

    /// One that a restart has found to be damaged.
    pub(super) fn lost(why: StorageError) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Lost(Arc::new(why))) })
    }

    /// The batch, if it is in memory.
    #[must_use]
    pub fn cached(&self) -> Option<Arc<EncodedBatch>> {
        match &*self.state.lock() {
            State::Unwritten(batch) => Some(batch.clone()),
            State::Written { cached, .. } => cached.clone(),
            State::Lost(_) => None,
        }
    }

    /// Which version of the stream's schema it has; none if it is damaged.
    #[must_use]
    pub fn schema(&self) -> Option<SchemaVersion> {
        match &*self.state.lock() {
            State::Unwritten(batch) => Some(batch.schema),
            State::Written { segment, .. } => Some(segment.head().schema),
            State::Lost(_) => None,
        }
    }

    /// The batch, if it is still to be written.
    pub(super) fn unwritten(&self) -> Option<Arc<EncodedBatch>> {
        match &*self.state.lock() {
            State::Unwritten(batch) => Some(batch.clone()),
            State::Written { .. } | State::Lost(_) => None,
        }
    }

    /// The batch, from memory or from the disk. Blocks.
    ///
    /// # Errors
    /// [`StorageError`], also where a restart has found it to be damaged.
    pub fn read(&self) -> Result<Arc<EncodedBatch>, StorageError> {
        let (segment, entry) = match &*self.state.lock() {
            State::Unwritten(batch) => return Ok(batch.clone()),
            State::Written { cached: Some(batch), .. } => return Ok(batch.clone()),
            State::Written { segment, entry, .. } => (segment.clone(), entry.clone()),
            State::Lost(why) => return Err(StorageError::Lost { why: why.clone() }),
        };
        segment.read(&entry).map(Arc::new)
    }

    /// It is written there, and stays in memory until it is [let go of](Self::let_go).
    pub(super) fn written(&self, segment: Arc<Segment>, entry: Entry) {
        let mut state = self.state.lock();
        let cached = match &*state {
            State::Unwritten(batch) => Some(batch.clone()),
            State::Written { .. } | State::Lost(_) => None,
        };
        *state = State::Written { segment, entry, cached };
    }

    /// Its segment's number and where it begins there; none if it is not written.
    #[must_use]
    pub fn place(&self) -> Option<(u64, u64)> {
        match &*self.state.lock() {
            State::Written { segment, entry, .. } => Some((segment.head().number, entry.message.start)),
            State::Unwritten(_) | State::Lost(_) => None,
        }
    }

    /// It need not stay in memory.
    pub(super) fn let_go(&self) {
        if let State::Written { cached, .. } = &mut *self.state.lock() {
            *cached = None;
        }
    }
}
