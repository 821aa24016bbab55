//! Arrow IPC messages to record batches: the arrays point into the body, which is aligned memory or is copied to some.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::MessageHeader;
use arrow_ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;

use super::plain::{PlainDecoder, SmallBatch, aligned};
use super::project::Shape;
use crate::wire::body::Body;
use crate::wire::ipc::{self, Kind};

/// Of the memory that arrays lie in, as Arrow recommends.
const ALIGNMENT: usize = 64;

/// Bodies of at least this size lie in memory of their own, or in as much of a receive buffer as the coordinator keeps for
/// them; smaller ones share it with what came with them, and would hold on to that.
pub(super) const OWN_BYTES_MIN: u64 = 64 << 10;

/// Plain batches up to this size are decoded when they are taken, many at once if many are wanted: each for itself costs more
/// than its bytes.
const SMALL_BYTES_MAX: u64 = 16 << 10;

/// What a message turned out to be.
#[derive(Debug)]
pub(super) enum Decoded {
    Schema(SchemaRef),
    Dictionary,
    Batch(RecordBatch),
}

/// Decodes the messages of one connection: dictionaries hold until they are replaced.
#[derive(Debug, Default)]
pub(super) struct BatchDecoder {
    schema: Option<SchemaRef>,
    /// What is done with batches of this schema.
    pub(super) shape: Shape,
    dictionaries: HashMap<i64, ArrayRef>,
    /// Of the batch before.
    plain: Option<Arc<PlainDecoder>>,
}

impl BatchDecoder {
    /// A decoder that hands out `schema` itself where the coordinator sends the same again after a reconnect.
    pub(super) fn new(schema: Option<SchemaRef>) -> Self {
        Self { schema, shape: Shape::default(), dictionaries: HashMap::new(), plain: None }
    }

    /// Decodes one message, after the header guard has seen it: its lengths are the sender's claims.
    ///
    /// # Errors
    /// What is wrong with the message. The bytes can be anything at all: Arrow's panics are caught.
    pub(super) fn decode(&mut self, header: &Bytes, body: &Body) -> Result<Decoded, String> {
        if let (Some(plain), Some(schema)) = (&self.plain, &self.schema)
            && plain.is_for(header, body.len())
        {
            return caught(AssertUnwindSafe(|| {
                plain.decode(&aligned_body(body), schema).map(Decoded::Batch).map_err(|error| error.to_string())
            }));
        }
        let message = ipc::parse(header).map_err(|error| error.to_string())?;
        if ipc::inspect_message(&message, body.len()).map_err(|error| error.to_string())? != Kind::Schema {
            ipc::check_compressed(&message, body).map_err(|error| error.to_string())?;
        }
        caught(AssertUnwindSafe(|| self.decode_checked(&message, header, body)))
    }

    /// The batch of a message, if it is small and plain, left to be decoded later: most have the header of the one before.
    pub(super) fn small(&self, header: &Bytes, body: &Body) -> Option<SmallBatch> {
        let (decoder, schema) = (self.plain.as_ref()?, self.schema.as_ref()?);
        let is_small = body.len() <= SMALL_BYTES_MAX && decoder.is_for(header, body.len());
        is_small.then(|| SmallBatch {
            decoder: decoder.clone(),
            schema: schema.clone(),
            body: body.contiguous(),
            shape: self.shape.clone(),
        })
    }

    /// Whether the last batch was decoded as a plain one.
    pub(super) fn is_plain(&self) -> bool {
        self.plain.is_some()
    }

    fn decode_checked(&mut self, message: &arrow_ipc::Message<'_>, header: &Bytes, body: &Body) -> Result<Decoded, String> {
        match message.header_type() {
            MessageHeader::Schema => {
                let table = message.header_as_schema().ok_or("a schema message without a schema")?;
                let schema = arrow_ipc::convert::try_fb_to_schema(table).map_err(|error| error.to_string())?;
                Ok(Decoded::Schema(self.set_schema(schema)))
            }
            MessageHeader::DictionaryBatch => {
                let table = message.header_as_dictionary_batch().ok_or("a dictionary message without a dictionary")?;
                let schema = self.schema.as_ref().ok_or("a dictionary before the schema")?;
                read_dictionary(&aligned_body(body), table, schema, &mut self.dictionaries, &message.version())
                    .map_err(|error| error.to_string())?;
                Ok(Decoded::Dictionary)
            }
            MessageHeader::RecordBatch => {
                let table = message.header_as_record_batch().ok_or("a batch message without a batch")?;
                let schema = self.schema.clone().ok_or("a batch before the schema")?;
                self.plain = PlainDecoder::new(header, body.len(), &table, &schema).map(Arc::new);
                if let Some(plain) = &self.plain {
                    return plain.decode(&aligned_body(body), &schema).map(Decoded::Batch).map_err(|error| error.to_string());
                }
                RecordBatchDecoder::try_new(&aligned_body(body), table, schema, &self.dictionaries, &message.version())
                    .and_then(RecordBatchDecoder::read_record_batch)
                    .map(Decoded::Batch)
                    .map_err(|error| error.to_string())
            }
            other => Err(format!("a message of kind {other:?}")),
        }
    }

    fn set_schema(&mut self, schema: Schema) -> SchemaRef {
        self.plain = None;
        // They come again with each schema, and may be of other types.
        self.dictionaries.clear();
        match &self.schema {
            Some(known) if **known == schema => known.clone(),
            _ => self.schema.insert(Arc::new(schema)).clone(),
        }
    }
}

/// Arrow's decoder panics on some of what no guard finds.
pub(super) fn caught<T>(decode: impl FnOnce() -> Result<T, String> + UnwindSafe) -> Result<T, String> {
    catch_unwind(decode).unwrap_or_else(|_| Err("the decoder panicked on it".to_owned()))
}

/// The body in aligned memory: where it is, unless it shares that with others or is not aligned.
fn aligned_body(body: &Body) -> Buffer {
    let is_its_own = body.is_placed() || body.len() >= OWN_BYTES_MIN;
    match body.chunks() {
        [all] if is_its_own && all.as_ptr().align_offset(ALIGNMENT) == 0 => Buffer::from(all.clone()),
        _ => aligned_copy(body),
    }
}

/// The body in memory aligned to 64 bytes, so that no array has to be copied again.
pub(super) fn aligned_copy(body: &Body) -> Buffer {
    aligned(body.chunks().iter().map(|chunk| &chunk[..]))
}
