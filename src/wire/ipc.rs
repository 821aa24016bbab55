//! Arrow IPC messages, looked at from the header only.
//!
//! The guard: a hostile header can make a decoder allocate without bound, panic or abort. So every number in it
//! is checked against the body that came with it before anybody else sees the message: here what holds for any
//! schema, in [`StreamSchema::inspect`](super::schema::StreamSchema::inspect) what follows from the stream's.
//! Format: <https://arrow.apache.org/docs/format/Columnar.html>.

use arrow_ipc::{MessageHeader, MetadataVersion, RecordBatch};
use bytes::Bytes;
use flatbuffers::VerifierOptions;

pub use super::body::Body;
use super::compression::Decompressed;
use super::error::WireError;
use super::limits::{
    APPARENT_RATIO_MAX, DECOMPRESSED_BYTES_MAX, FLATBUFFER_DEPTH_MAX, FLATBUFFER_TABLES_MAX, HEAD_BYTES_MAX, ROWS_MAX, VALUES_MAX,
};

/// One Arrow IPC message: the flatbuffer without its length prefix, and the body.
#[derive(Clone, Debug)]
pub struct Message {
    /// The `Message` flatbuffer.
    pub header: Bytes,
    /// The body that it describes.
    pub body: Body,
}

impl Message {
    /// Bytes of header and body.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.header.len() as u64 + self.body.len()
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A schema.
    Schema,
    /// A dictionary.
    Dictionary {
        /// Which.
        id: i64,
        /// Whether it adds to the one that is there.
        delta: bool,
    },
    /// A record batch.
    Batch {
        /// Its number of rows.
        rows: u64,
        /// Whether its body has still to be looked at, once it is there.
        compressed: bool,
    },
    /// No header at all: only metadata.
    Empty,
}

/// The header, verified.
pub(crate) fn parse(header: &[u8]) -> Result<arrow_ipc::Message<'_>, WireError> {
    if header.len() as u64 > HEAD_BYTES_MAX {
        return Err(WireError::HeadTooLarge { bytes: header.len() as u64, limit: HEAD_BYTES_MAX });
    }
    let options = VerifierOptions {
        max_depth: FLATBUFFER_DEPTH_MAX,
        max_tables: FLATBUFFER_TABLES_MAX,
        max_apparent_size: 4096 + APPARENT_RATIO_MAX * header.len(),
        ignore_missing_null_terminator: false,
    };
    let message =
        arrow_ipc::root_as_message_with_opts(&options, header).map_err(|error| WireError::malformed(format!("the IPC header: {error}")))?;
    match message.version() {
        MetadataVersion::V4 | MetadataVersion::V5 => Ok(message),
        other => Err(WireError::malformed(format!("IPC metadata version {other:?}; V4 and V5 are supported"))),
    }
}

/// Checks a header against the length of the body that comes with it, and says what the message is.
/// Allocates nothing.
///
/// # Errors
/// [`WireError::Malformed`] or [`WireError::HeadTooLarge`].
pub fn inspect(header: &[u8], body_len: u64) -> Result<Kind, WireError> {
    if header.is_empty() {
        return if body_len == 0 { Ok(Kind::Empty) } else { Err(WireError::malformed("a body without a header")) };
    }
    inspect_message(&parse(header)?, body_len)
}

/// [`inspect`] for a header that is verified already.
pub(crate) fn inspect_message(message: &arrow_ipc::Message<'_>, body_len: u64) -> Result<Kind, WireError> {
    if u64::try_from(message.bodyLength()).ok() != Some(body_len) {
        return Err(WireError::malformed(format!("the header says a body of {} bytes, but {body_len} came", message.bodyLength())));
    }
    match message.header_type() {
        MessageHeader::Schema if message.header_as_schema().is_some() && body_len == 0 => Ok(Kind::Schema),
        MessageHeader::DictionaryBatch => {
            let dictionary = message.header_as_dictionary_batch().ok_or_else(|| WireError::malformed("a dictionary without its table"))?;
            check_batch(&values(message)?, body_len)?;
            Ok(Kind::Dictionary { id: dictionary.id(), delta: dictionary.isDelta() })
        }
        MessageHeader::RecordBatch => {
            let batch = values(message)?;
            Ok(Kind::Batch { rows: check_batch(&batch, body_len)?, compressed: batch.compression().is_some() })
        }
        other => Err(WireError::malformed(format!("an IPC message of type {other:?}; schema, dictionary and record batch are supported"))),
    }
}

/// The arrays of a record batch or dictionary.
pub(super) fn values<'a>(message: &arrow_ipc::Message<'a>) -> Result<RecordBatch<'a>, WireError> {
    let batch = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data()),
        _ => None,
    };
    batch.ok_or_else(|| WireError::malformed("the message has no arrays"))
}

/// Checks row counts, nodes and buffers; returns the number of rows.
fn check_batch(batch: &RecordBatch<'_>, body_len: u64) -> Result<u64, WireError> {
    let rows = batch.length();
    if !(0..=ROWS_MAX).contains(&rows) {
        return Err(WireError::malformed(format!("a batch of {rows} rows; 0 to {ROWS_MAX} are supported")));
    }
    for node in batch.nodes().iter().flatten() {
        if !(0..=VALUES_MAX).contains(&node.length()) || !(0..=node.length()).contains(&node.null_count()) {
            return Err(WireError::malformed(format!("an array of {} values, {} of them null", node.length(), node.null_count())));
        }
    }
    let mut free_from = 0;
    for buffer in batch.buffers().iter().flatten() {
        free_from = check_buffer(buffer.offset(), buffer.length(), free_from, body_len)?;
    }
    if batch.variadicBufferCounts().iter().flatten().any(|count| count < 0) {
        return Err(WireError::malformed("a negative count of variadic buffers"));
    }
    u64::try_from(rows).map_err(WireError::malformed)
}

/// Buffers lie in the body, aligned, one behind the other; returns where the next may begin.
fn check_buffer(offset: i64, length: i64, free_from: u64, body_len: u64) -> Result<u64, WireError> {
    let range = u64::try_from(offset).ok().zip(u64::try_from(length).ok());
    let end = range.and_then(|(offset, length)| offset.checked_add(length)).filter(|end| *end <= body_len);
    let Some((start, end)) = range.map(|(offset, _)| offset).zip(end) else {
        return Err(WireError::malformed(format!("a buffer of {length} bytes at {offset}, but the body has {body_len} bytes")));
    };
    if length == 0 {
        return Ok(free_from);
    }
    if start % 8 != 0 || start < free_from {
        return Err(WireError::malformed(format!(
            "a buffer at {start}, where the one before ends at {free_from}: buffers are aligned to 8 bytes and do not overlap"
        )));
    }
    Ok(end)
}

/// Checks what a compressed body claims to become; does nothing if it is not compressed.
///
/// # Errors
/// [`WireError::Malformed`], [`WireError::DecompressedTooLarge`].
pub fn check_compressed(message: &arrow_ipc::Message<'_>, body: &Body) -> Result<(), WireError> {
    decompressed_bytes(message, body).map(drop)
}

/// What a compressed body claims to become, all in all; none if it is not compressed.
///
/// # Errors
/// As [`check_compressed`].
pub fn decompressed_bytes(message: &arrow_ipc::Message<'_>, body: &Body) -> Result<Option<u64>, WireError> {
    let batch = values(message)?;
    let Some(compression) = batch.compression() else { return Ok(None) };
    let mut decompressed = Decompressed::new(&compression, body, DECOMPRESSED_BYTES_MAX)?;
    let sizes = batch.buffers().into_iter().flatten().map(|buffer| decompressed.size(buffer));
    sizes.sum::<Result<u64, _>>().map(Some)
}
