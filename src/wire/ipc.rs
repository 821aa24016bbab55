//! Arrow IPC messages, looked at from the header only.
//!
//! The guard: a hostile header can make a decoder allocate without bound, panic or abort (the measurements
//! are in the project's benchmarks). So every number in it is checked against the body that came with it
//! before anybody else sees the message. Format: <https://arrow.apache.org/docs/format/Columnar.html>.

use arrow_ipc::{BodyCompression, CompressionType, MessageHeader, MetadataVersion, RecordBatch};
use bytes::Bytes;
use flatbuffers::VerifierOptions;

pub use super::body::Body;
use super::error::WireError;

/// Largest header: a schema of a hundred thousand columns fits.
const HEADER_BYTES_MAX: usize = 64 << 20;
/// Most rows of a batch: what Arrow's Java and Spark can hold, and what bounds a batch of null columns, which
/// has no bytes at all.
const ROWS_MAX: i64 = i32::MAX as i64;
/// Most values of one array inside a batch, for instance of a list's items.
const VALUES_MAX: i64 = 1 << 40;
/// Most bytes that a compressed body may claim to become: as much as the largest message.
const DECOMPRESSED_BYTES_MAX: u64 = 1 << 30;
/// LZ4 cannot compress better than this.
const LZ4_RATIO_MAX: u64 = 256;
/// ZSTD can, in theory; what real data gives stays far below.
const ZSTD_RATIO_MAX: u64 = 1 << 16;

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
    },
    /// No header at all: only metadata.
    Empty,
}

/// The header, verified.
pub(super) fn parse(header: &[u8]) -> Result<arrow_ipc::Message<'_>, WireError> {
    if header.len() > HEADER_BYTES_MAX {
        return Err(WireError::MessageTooLarge { bytes: header.len() as u64, limit: HEADER_BYTES_MAX as u64 });
    }
    let options = VerifierOptions {
        max_depth: 128,
        max_tables: 1_000_000,
        max_apparent_size: 4 * HEADER_BYTES_MAX,
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
/// [`WireError::Malformed`] or [`WireError::MessageTooLarge`].
pub fn inspect(header: &[u8], body_len: u64) -> Result<Kind, WireError> {
    if header.is_empty() {
        return if body_len == 0 { Ok(Kind::Empty) } else { Err(WireError::malformed("a body without a header")) };
    }
    let message = parse(header)?;
    if u64::try_from(message.bodyLength()).ok() != Some(body_len) {
        return Err(WireError::malformed(format!("the header says a body of {} bytes, but {body_len} came", message.bodyLength())));
    }
    match message.header_type() {
        MessageHeader::Schema if message.header_as_schema().is_some() => Ok(Kind::Schema),
        MessageHeader::DictionaryBatch => {
            let dictionary = message.header_as_dictionary_batch().ok_or_else(|| WireError::malformed("a dictionary without its table"))?;
            let values = dictionary.data().ok_or_else(|| WireError::malformed("a dictionary without values"))?;
            check_batch(&values, body_len)?;
            Ok(Kind::Dictionary { id: dictionary.id(), delta: dictionary.isDelta() })
        }
        MessageHeader::RecordBatch => {
            let batch = message.header_as_record_batch().ok_or_else(|| WireError::malformed("a record batch without its table"))?;
            Ok(Kind::Batch { rows: check_batch(&batch, body_len)? })
        }
        other => Err(WireError::malformed(format!("an IPC message of type {other:?}; schema, dictionary and record batch are supported"))),
    }
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
    for buffer in batch.buffers().iter().flatten() {
        let range = u64::try_from(buffer.offset()).ok().zip(u64::try_from(buffer.length()).ok());
        let end = range.and_then(|(offset, length)| offset.checked_add(length));
        if end.is_none_or(|end| end > body_len) {
            let (offset, length) = (buffer.offset(), buffer.length());
            return Err(WireError::malformed(format!("a buffer of {length} bytes at {offset}, but the body has {body_len} bytes")));
        }
    }
    if batch.variadicBufferCounts().iter().flatten().any(|count| count < 0) {
        return Err(WireError::malformed("a negative count of variadic buffers"));
    }
    u64::try_from(rows).map_err(WireError::malformed)
}

/// Checks what a compressed body claims to become; does nothing if it is not compressed.
///
/// # Errors
/// [`WireError::Malformed`].
pub fn check_compressed(header: &[u8], body: &Body) -> Result<(), WireError> {
    let message = parse(header)?;
    let batch = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data()),
        _ => None,
    };
    let Some((batch, compression)) = batch.and_then(|batch| Some((batch, batch.compression()?))) else { return Ok(()) };
    let ratio_max = ratio_max(&compression)?;
    let mut total: u64 = 0;
    for buffer in batch.buffers().iter().flatten().filter(|buffer| buffer.length() > 0) {
        let (offset, length) = (buffer.offset().unsigned_abs(), buffer.length().unsigned_abs());
        let declared = body.array_at::<8>(offset).filter(|_| length >= 8).map(i64::from_le_bytes);
        let declared = declared.ok_or_else(|| WireError::malformed(format!("a compressed buffer of {length} bytes has no length")))?;
        // -1: this buffer is not compressed.
        let size = if declared == -1 {
            length - 8
        } else {
            u64::try_from(declared).map_err(|_| WireError::malformed(format!("a decompressed length of {declared} bytes")))?
        };
        if size > (length - 8).saturating_mul(ratio_max) {
            return Err(WireError::malformed(format!("a buffer of {length} bytes claims to become {size} bytes")));
        }
        total = total.saturating_add(size);
        if total > DECOMPRESSED_BYTES_MAX {
            return Err(WireError::MessageTooLarge { bytes: total, limit: DECOMPRESSED_BYTES_MAX });
        }
    }
    Ok(())
}

fn ratio_max(compression: &BodyCompression<'_>) -> Result<u64, WireError> {
    match compression.codec() {
        CompressionType::LZ4_FRAME => Ok(LZ4_RATIO_MAX),
        CompressionType::ZSTD => Ok(ZSTD_RATIO_MAX),
        other => Err(WireError::malformed(format!("compression {other:?}; LZ4_FRAME and ZSTD are supported"))),
    }
}
