//! The reading end for `tests/fuzz`: what a client makes of the bytes that a coordinator passes on.

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::decode::{BatchDecoder, Decoded};
use crate::wire::body::Body;

/// Decodes the messages of one connection, as every reading client does.
#[derive(Debug, Default)]
pub struct Reader(BatchDecoder);

impl Reader {
    /// Decodes one message; a batch, if it is one.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn take(&mut self, header: &Bytes, body: &Body) -> Result<Option<RecordBatch>, String> {
        self.0.decode(header, body).map(|decoded| match decoded {
            Decoded::Batch(batch) => Some(batch),
            Decoded::Schema(_) | Decoded::Dictionary => None,
        })
    }
}
