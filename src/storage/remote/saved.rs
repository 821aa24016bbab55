//! What objects are: protobuf behind a checksum. Tags are forever.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use super::state::Stretch;
use crate::storage::catalog::SavedChange;

/// The format of commits and catalogs. It grows when an older bowstring would misread what a newer one writes.
pub(super) const FORMAT: u32 = 1;

/// What such an object begins with, before its checksum.
const MAGIC: [u8; 4] = *b"BWO1";
const HEAD_BYTES: usize = MAGIC.len() + 4;

/// All that has become durable together, of any streams. Its number is the object's name.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Commit {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    #[prost(uint64, tag = "2")]
    pub(super) number: u64,
    /// The number of the commit with which its owner took over.
    #[prost(uint64, tag = "3")]
    pub(super) term: u64,
    /// The owner: one start of a coordinator.
    #[prost(string, tag = "4")]
    pub(super) owner: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) pieces: Vec<Piece>,
    #[prost(message, repeated, tag = "6")]
    pub(super) changes: Vec<SavedChange>,
    /// Segments in which nothing lives any more.
    #[prost(message, repeated, tag = "7")]
    pub(super) removed: Vec<SegmentName>,
    /// What lay in commits, and is an object of its own now.
    #[prost(message, repeated, tag = "8")]
    pub(super) folded: Vec<Piece>,
    /// Segments whose rest behind `at` a start has found to be no part of anything.
    #[prost(message, repeated, tag = "9")]
    pub(super) cuts: Vec<Piece>,
    #[prost(message, optional, tag = "10")]
    pub(super) takeover: Option<Takeover>,
}

impl Commit {
    /// The bytes of a part of a segment, as they were stored; none if they are not there.
    pub(super) fn part(&self, segment: SegmentName, stretch: &Stretch) -> Option<Bytes> {
        let piece = self.pieces.iter().find(|piece| piece.segment == segment && piece.at == stretch.at)?;
        stretch.of(piece.bytes.as_ref()?)
    }
}

/// A coordinator has started.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Takeover {
    /// What tells this store from others, made by the first one.
    #[prost(string, tag = "1")]
    pub(super) store: String,
    /// The machine, for people.
    #[prost(string, tag = "2")]
    pub(super) host: String,
}

/// A segment, wherever it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Message)]
pub(super) struct SegmentName {
    /// Whose it is.
    #[prost(fixed64, tag = "1")]
    pub stream: u64,
    /// Its partition.
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// Its number in the partition.
    #[prost(uint64, tag = "3")]
    pub number: u64,
}

/// What of a segment is between two places.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Piece {
    #[prost(message, required, tag = "1")]
    pub(super) segment: SegmentName,
    #[prost(uint64, tag = "2")]
    pub(super) at: u64,
    #[prost(uint64, tag = "3")]
    pub(super) end: u64,
    #[prost(fixed32, tag = "4")]
    pub(super) checksum: u32,
    /// None: it is an object of its own.
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub(super) bytes: Option<Bytes>,
}

/// All that the commits up to one of them add up to.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Snapshot {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    #[prost(uint64, tag = "2")]
    pub(super) number: u64,
    #[prost(string, tag = "3")]
    pub(super) store: String,
    #[prost(string, tag = "4")]
    pub(super) owner: String,
    #[prost(string, tag = "5")]
    pub(super) host: String,
    /// The numbers of all takeovers: these commits stay for ever, so that nobody can write them again.
    #[prost(uint64, repeated, tag = "6")]
    pub(super) terms: Vec<u64>,
    #[prost(message, repeated, tag = "7")]
    pub(super) changes: Vec<SavedChange>,
    #[prost(message, repeated, tag = "8")]
    pub(super) stretches: Vec<SavedStretch>,
}

/// Where a part of a segment lies.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SavedStretch {
    #[prost(message, required, tag = "1")]
    pub(super) segment: SegmentName,
    #[prost(uint64, tag = "2")]
    pub(super) at: u64,
    #[prost(uint64, tag = "3")]
    pub(super) end: u64,
    /// None: a part of it was cut.
    #[prost(fixed32, optional, tag = "4")]
    pub(super) checksum: Option<u32>,
    /// The term in which its object was written.
    #[prost(uint64, optional, tag = "5")]
    pub(super) term: Option<u64>,
    /// The commit that has it.
    #[prost(uint64, optional, tag = "6")]
    pub(super) commit: Option<u64>,
}

/// Why an object cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unusable {
    Damaged(&'static str),
    Newer(u32),
}

pub(super) fn encode(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD_BYTES + message.encoded_len());
    bytes.put_slice(&MAGIC);
    bytes.put_u32_le(0);
    message.encode(&mut bytes).expect("memory takes all of it");
    let checksum = crc32fast::hash(&bytes[HEAD_BYTES..]);
    bytes[MAGIC.len()..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
    bytes.freeze()
}

pub(super) fn decode<T: Message + Default>(mut bytes: Bytes, format: impl Fn(&T) -> u32) -> Result<T, Unusable> {
    if bytes.len() < HEAD_BYTES || bytes.split_to(MAGIC.len())[..] != MAGIC {
        return Err(Unusable::Damaged("it does not begin as it should"));
    }
    if bytes.get_u32_le() != crc32fast::hash(&bytes) {
        return Err(Unusable::Damaged("its checksum is another"));
    }
    let message = T::decode(bytes).map_err(|_| Unusable::Damaged("it cannot be read"))?;
    match format(&message) {
        found if found > FORMAT => Err(Unusable::Newer(found)),
        _ => Ok(message),
    }
}
