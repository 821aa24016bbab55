//! Record batches to Arrow IPC messages, without copying large buffers, without changing batch boundaries and
//! with dictionaries kept as they are.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{DictionaryHandling, IpcWriteOptions, StreamEncoder};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use bytes::{Bytes, BytesMut};

use super::plain::{ColumnSlices, PlainEncoder};
use super::{Compression, Error};
use crate::engine::SchemaVersion;
use crate::wire::batch::EncodedBatch;
use crate::wire::body::Body;
use crate::wire::dictionary::DictionarySet;
use crate::wire::error::WireError;
use crate::wire::ipc::Message;
use crate::wire::schema::StreamSchema;

/// Bodies up to this size are copied into one chunk: one allocation costs less than one handle per buffer.
const COPY_BYTES_MAX: usize = 64 << 10;
/// Marker and length in front of every message of an IPC stream.
const PREFIX_BYTES: usize = 8;

/// Encodes the batches of one appender: they have one schema, and share dictionaries.
pub(super) struct BatchEncoder {
    schema: SchemaRef,
    wire_schema: StreamSchema,
    codec: Option<CompressionType>,
    options: IpcWriteOptions,
    encoder: StreamEncoder,
    /// For batches that are not compressed.
    plain: Option<PlainEncoder>,
    dictionaries: Arc<DictionarySet>,
}

impl BatchEncoder {
    /// With [`Compression::Auto`], batches are not compressed until [`use_codec`](Self::use_codec) says so.
    pub(super) fn new(schema: SchemaRef, compression: Compression) -> Result<Self, Error> {
        let options = IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
        let wire_schema = StreamSchema::parse(schema_header(&schema, &options)?)?;
        let encoder = new_encoder(&schema, &options)?;
        let plain = PlainEncoder::new(&schema, COPY_BYTES_MAX);
        let mut new = Self { schema, wire_schema, codec: None, options, encoder, plain, dictionaries: DictionarySet::empty() };
        new.use_codec(match compression {
            Compression::None | Compression::Auto => None,
            Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
            Compression::Zstd => Some(CompressionType::ZSTD),
        })?;
        Ok(new)
    }

    /// Compresses from here on, or no longer. Dictionaries are sent anew.
    pub(super) fn use_codec(&mut self, codec: Option<CompressionType>) -> Result<(), Error> {
        if self.codec == codec {
            return Ok(());
        }
        self.options = self.options.clone().try_with_compression(codec).map_err(|error| encode_error(&error))?;
        self.codec = codec;
        self.restart()
    }

    fn restart(&mut self) -> Result<(), Error> {
        self.encoder = new_encoder(&self.schema, &self.options)?;
        self.dictionaries = DictionarySet::empty();
        Ok(())
    }

    /// The schema message's header, as the first message of a `DoPut` carries it.
    pub(super) fn schema_header(&self) -> &Bytes {
        self.wire_schema.header()
    }

    pub(super) fn encode(&mut self, batch: &RecordBatch) -> Result<EncodedBatch, Error> {
        self.check_schema(batch.schema_ref())?;
        let plain = self.plain.as_mut().filter(|_| self.codec.is_none());
        if let Some(message) = plain.and_then(|plain| plain.encode(batch)) {
            let rows = u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
            return Ok(EncodedBatch {
                message,
                dictionaries: self.dictionaries.clone(),
                schema: SchemaVersion(0),
                user: Bytes::new(),
                rows,
            });
        }
        let buffers = match self.encoder.encode(batch) {
            Ok(buffers) => buffers,
            Err(error) => {
                // Dictionaries that the encoder believes sent may be lost with the failed batch.
                self.restart()?;
                return Err(encode_error(&error));
            }
        };
        self.collect(buffers)
    }

    /// Encodes a batch whose columns are not in arrays. None if it has to be in arrays: it is not small, not plain, to be
    /// compressed, or no batch of this schema.
    pub(super) fn encode_slices(&mut self, rows: usize, columns: &[ColumnSlices<'_>]) -> Option<EncodedBatch> {
        let message = self.plain.as_mut().filter(|_| self.codec.is_none())?.encode_slices(rows, columns)?;
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        Some(EncodedBatch { message, dictionaries: self.dictionaries.clone(), schema: SchemaVersion(0), user: Bytes::new(), rows })
    }

    fn check_schema(&mut self, schema: &SchemaRef) -> Result<(), Error> {
        if Arc::ptr_eq(schema, &self.schema) || schema.fields() == self.schema.fields() {
            return Ok(());
        }
        let other = StreamSchema::parse(schema_header(schema, &self.options)?)?;
        match self.wire_schema.accepts(&other) {
            Ok(_) => Ok(()),
            Err(WireError::SchemaMismatch { difference }) => Err(Error::SchemaMismatch { difference }),
            Err(error) => Err(Error::SchemaMismatch { difference: error.to_string() }),
        }
    }

    /// Sorts the encoder's buffers into dictionaries and the batch.
    fn collect(&mut self, buffers: Vec<Buffer>) -> Result<EncodedBatch, Error> {
        let mut buffers = buffers.into_iter();
        let mut encoded = None;
        while let Some((content, message)) = next_message(&mut buffers)? {
            match content {
                Content::Schema => {}
                Content::Dictionary { id, delta } => self.dictionaries = self.dictionaries.with(id, delta, message)?,
                Content::Batch { rows } => encoded = Some((message, rows)),
            }
        }
        let (message, rows) = encoded.ok_or_else(|| own_defect("no batch"))?;
        Ok(EncodedBatch { message, dictionaries: self.dictionaries.clone(), schema: SchemaVersion(0), user: Bytes::new(), rows })
    }
}

/// What a message of the encoder's is.
enum Content {
    Schema,
    Dictionary { id: i64, delta: bool },
    Batch { rows: u64 },
}

fn new_encoder(schema: &Schema, options: &IpcWriteOptions) -> Result<StreamEncoder, Error> {
    StreamEncoder::try_new_with_options(schema, options.clone()).map_err(|error| encode_error(&error))
}

/// The schema message exactly as the encoder writes it, so that the dictionaries' ids are the same.
pub(super) fn schema_header(schema: &Schema, options: &IpcWriteOptions) -> Result<Bytes, Error> {
    let buffers = new_encoder(schema, options)?.finish().map_err(|error| encode_error(&error))?;
    match next_message(&mut buffers.into_iter())? {
        Some((Content::Schema, message)) => Ok(message.header),
        _ => Err(own_defect("no schema")),
    }
}

/// Takes the next message off the buffers of an IPC stream: prefix, header, body.
fn next_message(buffers: &mut impl Iterator<Item = Buffer>) -> Result<Option<(Content, Message)>, Error> {
    let Some(prefix) = take(buffers, PREFIX_BYTES) else {
        return Ok(None);
    };
    let prefix = joined(&prefix);
    let length = prefix.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let Some(length) = length.and_then(|length| usize::try_from(length).ok()).filter(|length| *length > 0) else {
        return Ok(None);
    };
    let header = joined(&take(buffers, length).ok_or_else(|| own_defect("a header is cut short"))?);
    let (content, body_bytes) = look_at(&header)?;
    let pieces = take(buffers, body_bytes).ok_or_else(|| own_defect("a body is cut short"))?;
    Ok(Some((content, Message { header, body: body(pieces, body_bytes) })))
}

/// What a header says of its message, and its body's length.
fn look_at(header: &[u8]) -> Result<(Content, usize), Error> {
    let message = arrow_ipc::root_as_message(header).map_err(|error| own_defect(&error.to_string()))?;
    let body_bytes = usize::try_from(message.bodyLength()).map_err(|_| own_defect("a body of negative length"))?;
    if message.header_as_schema().is_some() {
        return Ok((Content::Schema, body_bytes));
    }
    if let Some(batch) = message.header_as_dictionary_batch() {
        return Ok((Content::Dictionary { id: batch.id(), delta: batch.isDelta() }, body_bytes));
    }
    let batch = message.header_as_record_batch().ok_or_else(|| own_defect("a message of another kind"))?;
    Ok((Content::Batch { rows: u64::try_from(batch.length()).unwrap_or(0) }, body_bytes))
}

/// Buffers of exactly `length` bytes together; none if they end before, or a buffer straddles the end.
fn take(buffers: &mut impl Iterator<Item = Buffer>, length: usize) -> Option<Vec<Buffer>> {
    let mut pieces = Vec::new();
    let mut bytes = 0;
    while bytes < length {
        let buffer = buffers.next()?;
        bytes += buffer.len();
        pieces.push(buffer);
    }
    (bytes == length).then_some(pieces)
}

fn joined(pieces: &[Buffer]) -> Bytes {
    match pieces {
        [piece] => Bytes::from_owner(piece.clone()),
        pieces => pieces
            .iter()
            .fold(BytesMut::new(), |mut joined, piece| {
                joined.extend_from_slice(piece);
                joined
            })
            .freeze(),
    }
}

fn body(pieces: Vec<Buffer>, length: usize) -> Body {
    let mut body = Body::new();
    if length <= COPY_BYTES_MAX {
        let mut copy = BytesMut::with_capacity(length);
        for piece in &pieces {
            copy.extend_from_slice(piece);
        }
        body.push(copy.freeze());
        return body;
    }
    for piece in pieces {
        body.push(Bytes::from_owner(piece));
    }
    body
}

fn encode_error(error: &ArrowError) -> Error {
    Error::Encode { reason: error.to_string() }
}

/// Arrow's encoder wrote what this file does not understand: a new version of it did something new.
fn own_defect(what: &str) -> Error {
    Error::Encode { reason: format!("the encoder's output is not understood ({what})") }
}
