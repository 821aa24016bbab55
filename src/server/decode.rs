//! A stored batch as Arrow arrays. The coordinator decodes only what goes to dead letters and what somebody peeks at.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_schema::ArrowError;
use bytes::{Buf, Bytes};

use super::error::Error;
use crate::wire::batch::EncodedBatch;
use crate::wire::dictionary::DictionarySet;
use crate::wire::error::WireError;
use crate::wire::ipc::{self, Kind, Message};
use crate::wire::schema::StreamSchema;

/// Looks once more at the headers, as when the batch came, and at what it becomes; then decodes it, with every value validated. Blocks
/// for as long as that takes.
///
/// # Errors
/// `malformed_message` for bytes that make no batch of the schema; `message_too_large` if it takes more than `bytes_max` of memory, its
/// dictionaries included.
pub(super) fn guarded(schema: &StreamSchema, batch: &EncodedBatch, bytes_max: u64) -> Result<RecordBatch, Error> {
    let mut bytes = check(schema, &batch.message, bytes_max)?;
    for dictionary in batch.dictionaries.missing_from(&DictionarySet::empty()) {
        bytes = bytes.saturating_add(check(schema, &dictionary, bytes_max)?);
    }
    schema.check_dictionaries(&batch.dictionaries)?;
    if bytes > bytes_max {
        return Err(WireError::DecompressedTooLarge { bytes, limit: bytes_max }.into());
    }
    let decoded = catch_unwind(AssertUnwindSafe(|| unguarded(schema, batch)));
    let decoded = decoded.map_err(|_| ArrowError::IpcError("its bytes make no batch".to_owned())).flatten();
    decoded.map_err(|error| WireError::malformed(format!("the batch cannot be decoded: {error}")).into())
}

/// About the memory that a message takes once it is decoded.
fn check(schema: &StreamSchema, message: &Message, bytes_max: u64) -> Result<u64, WireError> {
    match schema.inspect(&message.header, message.body.len())? {
        Kind::Batch { compressed: true, .. } => schema.check_compressed(&message.header, &message.body, bytes_max)?,
        Kind::Dictionary { id, .. } => schema.check_dictionary(id, message, bytes_max)?,
        Kind::Batch { .. } | Kind::Schema | Kind::Empty => {}
    }
    let decompressed = ipc::decompressed_bytes(&ipc::parse(&message.header)?, &message.body)?;
    Ok(message.bytes().saturating_add(decompressed.unwrap_or(0)))
}

/// The batch by Arrow's own reader, which validates every value, and may panic at hostile bytes.
pub(super) fn unguarded(schema: &StreamSchema, batch: &EncodedBatch) -> Result<RecordBatch, ArrowError> {
    let mut pieces = Pieces::default();
    pieces.encapsulate(schema.header(), std::iter::empty());
    for dictionary in batch.dictionaries.missing_from(&DictionarySet::empty()) {
        pieces.put(&dictionary);
    }
    pieces.put(&batch.message);
    let mut batches = StreamReader::try_new(pieces, None)?;
    batches.next().ok_or_else(|| ArrowError::IpcError("there is no batch".to_owned()))?
}

/// Messages as Arrow's stream format has them, read where they lie:
/// <https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format>.
#[derive(Default)]
struct Pieces(VecDeque<Bytes>);

impl Pieces {
    fn put(&mut self, message: &Message) {
        self.encapsulate(&message.header, message.body.chunks().iter().cloned());
    }

    fn encapsulate(&mut self, header: &Bytes, body: impl Iterator<Item = Bytes>) {
        let padded = header.len().next_multiple_of(8);
        let length = u32::try_from(padded).unwrap_or(u32::MAX);
        self.0.push_back([u32::MAX.to_le_bytes(), length.to_le_bytes()].concat().into());
        self.0.push_back(header.clone());
        self.0.push_back(vec![0; padded - header.len()].into());
        self.0.extend(body);
    }
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.0.front().is_some_and(Bytes::is_empty) {
            self.0.pop_front();
        }
        let Some(piece) = self.0.front_mut() else { return Ok(0) };
        let length = piece.len().min(into.len());
        piece.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}
