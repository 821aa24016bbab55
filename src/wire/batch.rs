//! A batch as it passes through: the IPC message it came in, and what a reader needs with it.

use std::sync::Arc;

use bytes::Bytes;

use super::dictionary::DictionarySet;
use super::ipc::Message;
use crate::engine::SchemaVersion;

/// One Arrow record batch, encoded.
#[derive(Clone, Debug)]
pub struct EncodedBatch {
    /// The record batch message.
    pub message: Message,
    /// The dictionaries that it refers to.
    pub dictionaries: Arc<DictionarySet>,
    /// Which version of the stream's schema it has. Clients do not know it, and leave it at 0.
    pub schema: SchemaVersion,
    /// The producer's own metadata for the reader.
    pub user: Bytes,
    /// Number of rows.
    pub rows: u64,
}

impl EncodedBatch {
    /// Bytes of header and body, without dictionaries.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.message.bytes()
    }
}
