//! One message of a segment: how it is put together, and how it is checked.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;

use super::METADATA_BYTES_MAX;
use super::facts::Facts;
use super::handle::Handle;
use super::window::Window;
use crate::storage::StorageError;
use crate::wire::frame::HEAD_BYTES_MAX;
use crate::wire::ipc::{self, Body, Message};
use crate::zoo::{self, Bug};

/// Bodies start so many bytes, or a multiple, behind the start of their message: read into memory that is aligned like
/// this, a body is aligned as Arrow wants it.
const ALIGNMENT: usize = 64;
/// Continuation marker and length of the metadata.
const PREFIX: usize = 8;
const TAIL: usize = 16;
const CONTINUATION: [u8; 4] = [0xff; 4];
const MAGIC: [u8; 4] = *b"BWS1";

/// Where a message is in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageAt {
    /// Where it starts, in bytes from the start of the file.
    pub start: u64,
    /// Length of Arrow's flatbuffer.
    pub header_bytes: u32,
    /// Length of the metadata: flatbuffer, facts, zeros and tail.
    pub metadata_bytes: u32,
    /// Length of the body.
    pub body_bytes: u64,
    /// CRC-32 of flatbuffer, facts and body.
    pub crc: u32,
}

impl MessageAt {
    /// Bytes that it takes in the file.
    #[must_use]
    pub fn len(&self) -> u64 {
        (PREFIX as u64).saturating_add(self.metadata_bytes.into()).saturating_add(self.body_bytes)
    }

    /// Never: a message has a prefix.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Where the next message starts.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len())
    }
}

/// Why there is no message of ours at some place.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) why: String,
    /// Where the message ends, and what it is, if its metadata can be believed.
    pub(super) declared: Option<Box<(u64, Facts)>>,
}

impl Fault {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), declared: None }
    }
}

/// Adds to `into` all of a message but its body.
///
/// # Errors
/// What is wrong with it: it is larger than any reader of it would believe.
pub(super) fn put_head(into: &mut Vec<u8>, header: &[u8], facts: &Facts, body: &Body) -> Result<MessageAt, String> {
    let facts_bytes = facts.encoded_len();
    let metadata = (PREFIX + header.len() + facts_bytes + TAIL).next_multiple_of(ALIGNMENT) - PREFIX;
    if header.len() as u64 > HEAD_BYTES_MAX || metadata as u64 > METADATA_BYTES_MAX {
        return Err(format!("its header and metadata have {metadata} bytes, more than the {METADATA_BYTES_MAX} bytes that are allowed"));
    }
    let [metadata_bytes, header_bytes, facts_len] = [metadata, header.len(), facts_bytes].map(|len| u32::try_from(len).unwrap_or(u32::MAX));
    let start = into.len();
    into.reserve(PREFIX + metadata);
    into.extend_from_slice(&CONTINUATION);
    into.extend_from_slice(&metadata_bytes.to_le_bytes());
    into.extend_from_slice(header);
    facts.encode_raw(into);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&into[start + PREFIX..]);
    body.chunks().iter().for_each(|chunk| crc.update(chunk));
    let crc = crc.finalize();
    into.resize(start + PREFIX + metadata - TAIL, 0);
    for number in [header_bytes, facts_len, crc] {
        into.extend_from_slice(&number.to_le_bytes());
    }
    into.extend_from_slice(&MAGIC);
    Ok(MessageAt { start: facts.at, header_bytes, metadata_bytes, body_bytes: body.len(), crc })
}

/// Whether these eight bytes may begin a message of ours.
pub(super) fn is_prefix(bytes: &[u8]) -> bool {
    metadata_bytes(bytes).is_some()
}

fn metadata_bytes(prefix: &[u8]) -> Option<u32> {
    let length = prefix.strip_prefix(&CONTINUATION)?.first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    let fits =
        (TAIL as u64..=METADATA_BYTES_MAX).contains(&length.into()) && (u64::from(length) + PREFIX as u64).is_multiple_of(ALIGNMENT as u64);
    fits.then_some(length)
}

/// The metadata, taken apart.
struct Metadata<'a> {
    header: &'a [u8],
    facts: &'a [u8],
    crc: u32,
}

impl<'a> Metadata<'a> {
    fn parse(metadata: &'a [u8]) -> Result<Self, Fault> {
        let (content, tail) = metadata.split_at_checked(metadata.len().saturating_sub(TAIL)).unwrap_or_default();
        let mut numbers = [0; 3];
        for (number, bytes) in numbers.iter_mut().zip(tail.chunks_exact(4)) {
            *number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let [header_bytes, facts_bytes, crc] = numbers;
        if !tail.ends_with(&MAGIC) {
            return Err(Fault::new("its metadata does not end as ours does"));
        }
        let split = content.split_at_checked(header_bytes as usize);
        let split = split.and_then(|(header, rest)| Some((header, rest.split_at_checked(facts_bytes as usize)?)));
        match split {
            Some((header, (facts, zeros))) if zeros.len() < ALIGNMENT && zeros.iter().all(|byte| *byte == 0) => {
                Ok(Self { header, facts, crc })
            }
            _ => Err(Fault::new("the lengths in its metadata do not fit")),
        }
    }
}

/// Reads and checks the message at `start`, wherever that came from. The body is not kept.
///
/// # Errors
/// The outer ones: what cannot be read. The inner ones: what is there is no message.
pub(super) fn check(window: &mut Window<'_>, start: u64) -> Result<Result<(MessageAt, Facts), Fault>, StorageError> {
    let Some(prefix) = window.get(start, PREFIX as u64)? else { return Ok(Err(Fault::new("the file ends before it does"))) };
    let Some(metadata_bytes) = metadata_bytes(prefix) else { return Ok(Err(Fault::new("no message begins there"))) };
    let metadata_start = start + PREFIX as u64;
    let Some(metadata) = window.get(metadata_start, metadata_bytes.into())? else {
        return Ok(Err(Fault::new("the file ends before its metadata does")));
    };
    let (message, facts, crc) = match parse(metadata, start, metadata_bytes) {
        Ok(parsed) => parsed,
        Err(fault) => return Ok(Err(fault)),
    };
    let fault = |why: String| Ok(Err(Fault { why, declared: Some(Box::new((message.end(), facts.clone()))) }));
    let Some(crc) = window.update_crc(crc, message.end() - message.body_bytes, message.body_bytes)? else {
        return fault(format!("the file ends before its body of {} bytes does", message.body_bytes));
    };
    let found = crc.finalize();
    if found != message.crc && !zoo::has(Bug::ChecksumIgnored) {
        return fault(format!("its checksum is {found:08x}, not {:08x}", message.crc));
    }
    Ok(Ok((message, facts)))
}

fn parse(metadata: &[u8], start: u64, metadata_bytes: u32) -> Result<(MessageAt, Facts, crc32fast::Hasher), Fault> {
    let Metadata { header, facts, crc } = Metadata::parse(metadata)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(facts);
    let facts = Facts::decode(facts).map_err(|error| Fault::new(format!("its facts cannot be read: {error}")))?;
    if facts.at != start {
        return Err(Fault::new(format!("it says of itself that it is at {}", facts.at)));
    }
    let body = ipc::parse(header).map(|message| message.bodyLength());
    let body = body.map_err(|error| Fault::new(error.to_string()))?;
    let body_bytes = u64::try_from(body).map_err(|_| Fault::new(format!("it says that its body has {body} bytes")))?;
    let header_bytes = u32::try_from(header.len()).unwrap_or(u32::MAX);
    Ok((MessageAt { start, header_bytes, metadata_bytes, body_bytes, crc }, facts, hasher))
}

/// Reads a message that is known to be there, in one piece, and checks it. Header and body are slices of that piece, the
/// body aligned to 64 bytes.
///
/// # Errors
/// [`StorageError::File`], [`StorageError::DamagedSegment`].
pub(super) fn read(handle: &Handle, message: &MessageAt, what: impl Fn() -> String) -> Result<(Message, Facts), StorageError> {
    let damaged = |why: String| handle.damaged(what(), message.start, why);
    // An index may say anything: what is not in the file needs no memory.
    let file_len = handle.len()?;
    if message.end() > file_len {
        return Err(damaged(format!("the file ends at byte {file_len}, before it does")));
    }
    let len = usize::try_from(message.len()).map_err(|_| damaged("it is larger than memory".to_owned()))?;
    let mut bytes = BytesMut::zeroed(len + ALIGNMENT - 1);
    bytes.advance(bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT - 1));
    bytes.truncate(len);
    handle.read_at(&mut bytes, message.start)?;
    let whole = bytes.freeze();
    take_apart(&whole, message).map_err(|fault| damaged(fault.why))
}

fn take_apart(whole: &Bytes, message: &MessageAt) -> Result<(Message, Facts), Fault> {
    if metadata_bytes(whole) != Some(message.metadata_bytes) {
        return Err(Fault::new("no message of its length begins there"));
    }
    let (metadata, body) = whole[PREFIX..].split_at(message.metadata_bytes as usize);
    let Metadata { header, facts, crc } = Metadata::parse(metadata)?;
    let mut hasher = crc32fast::Hasher::new();
    [header, facts, body].iter().for_each(|part| hasher.update(part));
    let found = hasher.finalize();
    if found != message.crc || crc != message.crc || header.len() as u64 != u64::from(message.header_bytes) {
        return Err(Fault::new(format!("its checksum is {found:08x}, not {:08x}", message.crc)));
    }
    let facts = Facts::decode(whole.slice_ref(facts)).map_err(|error| Fault::new(format!("its facts cannot be read: {error}")))?;
    Ok((Message { header: whole.slice_ref(header), body: Body::from(whole.slice_ref(body)) }, facts))
}
