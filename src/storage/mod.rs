//! Where batches live: in memory, spooled to a temporary file, or in the log of a durable stream, on the disk and in an object store.

pub mod catalog;
pub mod disk;
mod error;
pub mod log;
pub mod remote;
pub mod segment;
mod spool;

use std::sync::Arc;

pub use error::StorageError;
pub use spool::{Spool, SpoolFile, SpoolOptions, SpooledBatch};

use self::log::LoggedBatch;
use crate::engine::SchemaVersion;
use crate::wire::batch::EncodedBatch;

/// A batch, wherever its bytes are. Cheap to clone.
#[derive(Debug, Clone)]
pub enum StoredBatch {
    /// In memory.
    Memory(Arc<EncodedBatch>),
    /// In a temporary file.
    Spooled(Arc<SpooledBatch>),
    /// In a durable stream's log, or on the way there.
    Logged {
        /// The batch.
        batch: Arc<LoggedBatch>,
        /// Whether it has no offset before its epoch commits.
        is_staged: bool,
    },
}

impl StoredBatch {
    /// The batch, if it is in memory.
    #[must_use]
    pub fn in_memory(&self) -> Option<Arc<EncodedBatch>> {
        match self {
            Self::Memory(batch) => Some(batch.clone()),
            Self::Spooled(_) => None,
            Self::Logged { batch, .. } => batch.cached(),
        }
    }

    /// Which version of the stream's schema it has; none if it is lost.
    #[must_use]
    pub fn schema(&self) -> Option<SchemaVersion> {
        match self {
            Self::Memory(batch) => Some(batch.schema),
            Self::Spooled(spooled) => Some(spooled.schema()),
            Self::Logged { batch, .. } => batch.schema(),
        }
    }

    /// The batch, from wherever it is. Blocks.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn read(&self) -> Result<Arc<EncodedBatch>, StorageError> {
        match self {
            Self::Memory(batch) => Ok(batch.clone()),
            Self::Spooled(spooled) => spooled.read().map(Arc::new),
            Self::Logged { batch, .. } => batch.read(),
        }
    }
}
