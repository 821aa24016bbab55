//! Batches as DataFusion's Arrow has them, from messages and back to messages.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use datafusion_arrow_ipc::reader::{RecordBatchDecoder, read_dictionary};
use datafusion_arrow_ipc::writer::{DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use datafusion_arrow_ipc::{CompressionType, convert, root_as_message};
use datafusion_common::arrow::array::{ArrayRef, RecordBatch};
use datafusion_common::arrow::buffer::{Buffer, MutableBuffer};
use datafusion_common::arrow::datatypes::{Schema, SchemaRef};
use datafusion_common::arrow::error::ArrowError;

use crate::engine::SchemaVersion;
use crate::wire::batch::EncodedBatch;
use crate::wire::body::Body;
use crate::wire::dictionary::DictionarySet;
use crate::wire::error::WireError;
use crate::wire::ipc::{self, Kind, Message};
use crate::wire::schema::StreamSchema;

/// The schema of a message that was looked at before.
pub(super) fn schema_of(schema: &StreamSchema) -> Result<Schema, WireError> {
    let message = root_as_message(schema.header()).map_err(WireError::malformed)?;
    let table = message.header_as_schema().ok_or_else(|| WireError::malformed("the message is no schema"))?;
    caught("the schema", || Ok(convert::fb_to_schema(table)))
}

/// The message of a schema.
pub(super) fn message_of(schema: &Schema) -> Result<StreamSchema, WireError> {
    StreamSchema::parse(encoded_schema(schema, &mut DictionaryTracker::new(false)).ipc_message.into())
}

/// The same schema gives the same ids to its dictionaries each time.
fn encoded_schema(schema: &Schema, tracker: &mut DictionaryTracker) -> EncodedData {
    IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, tracker, &IpcWriteOptions::default())
}

/// Decodes batches that come one after the other, mostly with the same dictionaries.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    set: Arc<DictionarySet>,
    decoded: HashMap<i64, ArrayRef>,
}

impl Decoder {
    /// The dictionaries of the batches to come that are of this schema's columns.
    ///
    /// # Errors
    /// [`WireError::Malformed`]; it is of no more use then.
    pub(super) fn take_dictionaries(&mut self, set: &Arc<DictionarySet>, schema: &Schema, is_nested: bool) -> Result<(), WireError> {
        if Arc::ptr_eq(&self.set, set) {
            return Ok(());
        }
        if is_nested {
            *self = Self::default();
        }
        for message in set.missing_from(&self.set) {
            caught("a dictionary", || {
                let header = root_as_message(&message.header).map_err(|error| ArrowError::IpcError(error.to_string()))?;
                let table = header.header_as_dictionary_batch().ok_or_else(|| ArrowError::IpcError("no dictionary".to_owned()))?;
                #[expect(deprecated, reason = "Arrow has no other way from an id to a field")]
                let is_used = !schema.fields_with_dict_id(table.id()).is_empty();
                if is_used { read_dictionary(&aligned(&message.body), table, schema, &mut self.decoded, &header.version()) } else { Ok(()) }
            })?;
        }
        self.set = set.clone();
        Ok(())
    }

    /// A batch of this schema, every value checked that is followed without looking.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub(super) fn decode(&self, message: &Message, schema: &SchemaRef) -> Result<RecordBatch, WireError> {
        caught("the batch", || {
            let header = root_as_message(&message.header).map_err(|error| ArrowError::IpcError(error.to_string()))?;
            let table = header.header_as_record_batch().ok_or_else(|| ArrowError::IpcError("no batch".to_owned()))?;
            let (body, version) = (aligned(&message.body), header.version());
            RecordBatchDecoder::try_new(&body, table, schema.clone(), &self.decoded, &version)?.read_record_batch()
        })
    }
}

/// Arrow's decoder panics on some of what the structural checks let through.
fn caught<T>(what: &str, decode: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, WireError> {
    let refused = |why: String| WireError::malformed(format!("{what} cannot be decoded: {why}"));
    let decoded = catch_unwind(AssertUnwindSafe(decode));
    decoded.map_err(|_| refused("Arrow's decoder gave up on it".to_owned()))?.map_err(|error| refused(error.to_string()))
}

/// A copy in one piece: who shares the memory that it came in cannot change it meanwhile.
fn aligned(body: &Body) -> Buffer {
    let mut copy = MutableBuffer::with_capacity(usize::try_from(body.len()).unwrap_or(usize::MAX));
    body.chunks().iter().for_each(|chunk| copy.extend_from_slice(chunk));
    copy.into()
}

/// Encodes batches of one schema that come one after the other; dictionaries are kept while they are the same.
#[derive(Debug)]
pub(super) struct Encoder {
    tracker: DictionaryTracker,
    set: Arc<DictionarySet>,
}

impl Encoder {
    pub(super) fn new(schema: &Schema) -> Self {
        let mut tracker = DictionaryTracker::new(false);
        // The ids are given here.
        drop(encoded_schema(schema, &mut tracker));
        Self { tracker, set: DictionarySet::empty() }
    }

    /// The batch's message, compressed as `like` is.
    ///
    /// # Errors
    /// [`WireError::Malformed`]; it is of no more use then.
    pub(super) fn encode(&mut self, batch: &RecordBatch, like: &EncodedBatch) -> Result<EncodedBatch, WireError> {
        let options = IpcWriteOptions::default().try_with_compression(codec(&like.message)?).map_err(WireError::malformed)?;
        let mut context = IpcWriteContext::default();
        let encoded = IpcDataGenerator::default().encode(batch, &mut self.tracker, &options, &mut context);
        let (dictionaries, encoded) = encoded.map_err(WireError::malformed)?;
        for dictionary in dictionaries {
            let message = message(dictionary);
            match ipc::inspect(&message.header, message.body.len())? {
                Kind::Dictionary { id, delta } => self.set = self.set.with(id, delta, message)?,
                other => return Err(WireError::malformed(format!("Arrow's encoder gave {other:?} for a dictionary"))),
            }
        }
        Ok(EncodedBatch {
            message: message(encoded),
            dictionaries: self.set.clone(),
            schema: SchemaVersion(0),
            user: like.user.clone(),
            rows: batch.num_rows() as u64,
        })
    }
}

fn message(encoded: EncodedData) -> Message {
    Message { header: encoded.ipc_message.into(), body: Body::from(Bytes::from(encoded.arrow_data)) }
}

/// How a batch's message is compressed.
fn codec(message: &Message) -> Result<Option<CompressionType>, WireError> {
    let header = root_as_message(&message.header).map_err(WireError::malformed)?;
    Ok(header.header_as_record_batch().and_then(|table| table.compression()).map(|compression| compression.codec()))
}
