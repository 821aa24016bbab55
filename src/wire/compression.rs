//! Compressed bodies: what each buffer claims to become, checked before anybody believes it.
//!
//! Decoders allocate what is claimed, so a few bytes could ask for all memory.

use arrow_ipc::{BodyCompression, BodyCompressionMethod, Buffer, CompressionType};

use super::body::{Body, Cursor};
use super::error::WireError;
use super::limits::{LZ4_RATIO_MAX, ZSTD_RATIO_MAX};
use crate::zoo::{self, Bug};

/// In front of each compressed buffer: its decompressed length.
const LENGTH_BYTES: u64 = 8;
/// Says that the buffer is not compressed after all.
const NOT_COMPRESSED: i64 = -1;
/// Length and the longest frame header of either codec.
const FRAME_HEAD_BYTES: usize = 8 + 18;

const LZ4_MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// Looks at the buffers of a compressed body, one after the other.
pub(super) struct Decompressed<'a> {
    codec: Codec,
    body: Cursor<'a>,
    total: u64,
    limit: u64,
}

#[derive(Clone, Copy)]
enum Codec {
    Lz4,
    Zstd,
}

impl<'a> Decompressed<'a> {
    pub(super) fn new(compression: &BodyCompression<'_>, body: &'a Body, limit: u64) -> Result<Self, WireError> {
        if compression.method() != BodyCompressionMethod::BUFFER {
            return Err(WireError::malformed(format!("compression by {:?}; BUFFER is supported", compression.method())));
        }
        let codec = match compression.codec() {
            CompressionType::LZ4_FRAME => Codec::Lz4,
            CompressionType::ZSTD => Codec::Zstd,
            other => return Err(WireError::malformed(format!("compression {other:?}; LZ4_FRAME and ZSTD are supported"))),
        };
        Ok(Self { codec, body: body.cursor(), total: 0, limit })
    }

    /// The decompressed size of a buffer, which [`inspect`](super::ipc::inspect) has seen.
    pub(super) fn size(&mut self, buffer: &Buffer) -> Result<u64, WireError> {
        let (offset, length) = (buffer.offset().unsigned_abs(), buffer.length().unsigned_abs());
        if length == 0 {
            return Ok(0);
        }
        let mut bytes = [0; FRAME_HEAD_BYTES];
        let there = usize::try_from(length).unwrap_or(usize::MAX).min(FRAME_HEAD_BYTES);
        let head = &mut bytes[..there];
        let Some((declared, frame)) = self.body.read(offset, head).then(|| head.split_first_chunk::<8>()).flatten() else {
            return Err(WireError::malformed(format!("a compressed buffer of {length} bytes has no length")));
        };
        let compressed = length - LENGTH_BYTES;
        let size = match i64::from_le_bytes(*declared) {
            NOT_COMPRESSED => compressed,
            0 => 0,
            declared => self.codec.check(u64::try_from(declared).ok(), compressed, frame).ok_or_else(|| {
                WireError::malformed(format!("a compressed buffer of {compressed} bytes that claims to become {declared} bytes"))
            })?,
        };
        self.total = self.total.saturating_add(size);
        if self.total > self.limit {
            return Err(WireError::DecompressedTooLarge { bytes: self.total, limit: self.limit });
        }
        Ok(size)
    }
}

impl Codec {
    /// The declared size, if it is possible.
    fn check(self, declared: Option<u64>, compressed: u64, frame: &[u8]) -> Option<u64> {
        let (ratio_max, own_size) = match self {
            Self::Lz4 => (LZ4_RATIO_MAX, lz4_content_size(frame)?),
            Self::Zstd => (ZSTD_RATIO_MAX, zstd_content_size(frame)?),
        };
        let ratio_max = if zoo::has(Bug::ClaimBelieved) { u64::MAX } else { ratio_max };
        declared.filter(|declared| *declared <= compressed.saturating_mul(ratio_max) && own_size.is_none_or(|own| own <= *declared))
    }
}

/// The content size that an LZ4 frame's header says, if it says one; none if it is no such frame.
/// <https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>
fn lz4_content_size(frame: &[u8]) -> Option<Option<u64>> {
    let [flags, _block, rest @ ..] = frame.strip_prefix(&LZ4_MAGIC)? else { return None };
    if flags >> 6 != 1 {
        return None;
    }
    let has_size = flags & 0b1000 != 0;
    Some(if has_size { Some(u64::from_le_bytes(*rest.first_chunk()?)) } else { None })
}

/// The same for a ZSTD frame. <https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1.1>
fn zstd_content_size(frame: &[u8]) -> Option<Option<u64>> {
    let [descriptor, rest @ ..] = frame.strip_prefix(&ZSTD_MAGIC)? else { return None };
    let single_segment = descriptor & 0b10_0000 != 0;
    let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 0b11)];
    let rest = rest.get(usize::from(!single_segment) + dictionary_bytes..)?;
    Some(match descriptor >> 6 {
        0 if single_segment => Some(u64::from(*rest.first()?)),
        0 => None,
        1 => Some(u64::from(u16::from_le_bytes(*rest.first_chunk()?)) + 256),
        2 => Some(u64::from(u32::from_le_bytes(*rest.first_chunk()?))),
        _ => Some(u64::from_le_bytes(*rest.first_chunk()?)),
    })
}
