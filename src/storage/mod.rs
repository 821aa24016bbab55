//! Where batches live: in memory, or spooled to a temporary file.

mod error;
mod spool;

use std::sync::Arc;

pub use error::StorageError;
pub use spool::{Spool, SpoolFile, SpoolOptions, SpooledBatch};

use crate::wire::batch::EncodedBatch;

/// A batch, wherever its bytes are. Cheap to clone.
#[derive(Debug, Clone)]
pub enum StoredBatch {
    /// In memory.
    Memory(Arc<EncodedBatch>),
    /// In a temporary file.
    Spooled(Arc<SpooledBatch>),
}
