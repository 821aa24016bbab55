//! gRPC framing of `FlightData` by hand: five bytes of prefix, then the protobuf fields `flight_descriptor` = 1,
//! `data_header` = 2, `app_metadata` = 3 and `data_body` = 1000, of which the body is never copied.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>,
//! <https://github.com/apache/arrow/blob/main/format/Flight.proto>

use std::collections::VecDeque;
use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::body::Body;
use super::error::WireError;

/// Length of the prefix: a flag for compression and a big-endian length.
const PREFIX: usize = 5;
const DESCRIPTOR: u64 = 1;
const HEADER: u64 = 2;
const METADATA: u64 = 3;
const BODY: u64 = 1000;
/// Tag and length of a field have at most ten bytes each.
const FIELD_HEAD_MAX: usize = 20;

/// A `FlightData` but for its body.
#[derive(Debug, Clone, Default)]
pub struct FlightHead {
    /// Encoded `FlightDescriptor`, or empty.
    pub descriptor: Bytes,
    /// The IPC message's flatbuffer, or empty.
    pub header: Bytes,
    /// `app_metadata`, or empty.
    pub metadata: Bytes,
    /// Length of the body, which [`FrameReader::body`] gives once it is there.
    pub body_len: u64,
}

/// Chunks as they were received.
#[derive(Debug, Default)]
struct Rope {
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl Rope {
    fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Copies the first bytes without taking them; returns how many there were.
    fn peek(&self, into: &mut [u8]) -> usize {
        let mut filled = 0;
        for chunk in &self.chunks {
            let take = chunk.len().min(into.len() - filled);
            into[filled..filled + take].copy_from_slice(&chunk[..take]);
            filled += take;
            if filled == into.len() {
                break;
            }
        }
        filled
    }

    /// Takes the first `len` bytes, which are there, as they are.
    fn take(&mut self, len: usize) -> Body {
        let mut body = Body::new();
        let mut left = len;
        while left > 0 {
            let Some(front) = self.chunks.front_mut() else { break };
            let taken = if front.len() > left { front.split_to(left) } else { self.chunks.pop_front().unwrap_or_default() };
            left -= taken.len();
            body.push(taken);
        }
        self.len -= len - left;
        body
    }

    fn skip(&mut self, len: usize) {
        let mut left = len;
        while left > 0 {
            let Some(front) = self.chunks.front_mut() else { break };
            let step = front.len().min(left);
            front.advance(step);
            left -= step;
            if front.is_empty() {
                self.chunks.pop_front();
            }
        }
        self.len -= len - left;
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Between messages.
    Prefix,
    /// Inside a message, so many bytes before its end.
    Fields { left: usize },
    /// The head was given; the body has so many bytes, or was met before the message's last field.
    Body { len: usize, early: bool },
}

/// Reads `FlightData` messages from chunks cut anywhere.
///
/// Give it what was received with [`push`](Self::push), then ask for [`head`](Self::head) and, after each head, for
/// [`body`](Self::body). After an error it is of no more use.
#[derive(Debug)]
pub struct FrameReader {
    rope: Rope,
    state: State,
    head: FlightHead,
    early_body: Body,
    message_bytes_max: u64,
}

impl FrameReader {
    /// Takes messages of up to so many bytes.
    #[must_use]
    pub fn new(message_bytes_max: u64) -> Self {
        Self { rope: Rope::default(), state: State::Prefix, head: FlightHead::default(), early_body: Body::new(), message_bytes_max }
    }

    /// Takes in what was received.
    pub fn push(&mut self, chunk: Bytes) {
        self.rope.push(chunk);
    }

    /// Whether everything received so far has been given out.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Prefix) && self.rope.len == 0
    }

    /// The next message but for its body, as soon as all of that is there; none: push more.
    ///
    /// # Errors
    /// [`WireError::MessageTooLarge`], [`WireError::Malformed`].
    pub fn head(&mut self) -> Result<Option<FlightHead>, WireError> {
        loop {
            match self.state {
                State::Prefix => {
                    let Some(left) = prefix(&mut self.rope, self.message_bytes_max)? else { return Ok(None) };
                    self.head = FlightHead::default();
                    self.early_body = Body::new();
                    self.state = State::Fields { left };
                }
                State::Fields { left: 0 } => {
                    self.head.body_len = self.early_body.len();
                    self.state = State::Body { len: 0, early: true };
                    return Ok(Some(std::mem::take(&mut self.head)));
                }
                State::Fields { left } => match self.field(left)? {
                    Field::Missing => return Ok(None),
                    Field::Taken { left } => self.state = State::Fields { left },
                    Field::LastIsBody { len } => {
                        self.head.body_len = len as u64;
                        self.state = State::Body { len, early: false };
                        return Ok(Some(std::mem::take(&mut self.head)));
                    }
                },
                State::Body { .. } => return Err(WireError::malformed("a head was asked for before the body of the last one")),
            }
        }
    }

    /// The last head's body, once it is there whole; none: push more.
    ///
    /// # Errors
    /// [`WireError::Malformed`] without a head before.
    pub fn body(&mut self) -> Result<Option<Body>, WireError> {
        let State::Body { len, early } = self.state else { return Err(WireError::malformed("a body was asked for before its head")) };
        if early {
            self.state = State::Prefix;
            return Ok(Some(std::mem::take(&mut self.early_body)));
        }
        if self.rope.len < len {
            return Ok(None);
        }
        self.state = State::Prefix;
        Ok(Some(self.rope.take(len)))
    }

    fn field(&mut self, left: usize) -> Result<Field, WireError> {
        let mut bytes = [0; FIELD_HEAD_MAX];
        let there = self.rope.peek(&mut bytes);
        let bytes = &bytes[..there.min(left)];
        let whole_message_is_there = there >= left;
        let incomplete = || {
            if whole_message_is_there || there == FIELD_HEAD_MAX {
                Err(WireError::malformed("a protobuf field that is cut short"))
            } else {
                Ok(Field::Missing)
            }
        };
        let Some((tag, tag_len)) = varint(bytes)? else { return incomplete() };
        let Some((value, value_len)) = varint_or_fixed(tag, &bytes[tag_len..])? else { return incomplete() };
        let head_len = tag_len + value_len;
        if tag & 7 != 2 {
            self.rope.skip(head_len);
            return Ok(Field::Taken { left: left - head_len });
        }
        let len = usize::try_from(value).ok().filter(|len| head_len.checked_add(*len).is_some_and(|all| all <= left));
        let len = len.ok_or_else(|| WireError::malformed("a protobuf field that goes beyond its message"))?;
        let after = left - head_len - len;
        if tag >> 3 == BODY && after == 0 && self.early_body.is_empty() {
            self.rope.skip(head_len);
            return Ok(Field::LastIsBody { len });
        }
        if self.rope.len < head_len + len {
            return Ok(Field::Missing);
        }
        self.rope.skip(head_len);
        let content = self.rope.take(len);
        match tag >> 3 {
            DESCRIPTOR => self.head.descriptor = content.contiguous(),
            HEADER => self.head.header = content.contiguous(),
            METADATA => self.head.metadata = content.contiguous(),
            BODY => self.early_body = content,
            _ => {}
        }
        Ok(Field::Taken { left: after })
    }
}

/// What reading a field came to.
enum Field {
    /// It is not there yet.
    Missing,
    /// It was taken; so many bytes of the message are left.
    Taken { left: usize },
    /// It is the body, and the message ends with it.
    LastIsBody { len: usize },
}

/// The length of the next message, once its prefix is there.
fn prefix(rope: &mut Rope, message_bytes_max: u64) -> Result<Option<usize>, WireError> {
    let mut bytes = [0; PREFIX];
    if rope.peek(&mut bytes) < PREFIX {
        return Ok(None);
    }
    let [compressed, length @ ..] = bytes;
    if compressed != 0 {
        return Err(WireError::malformed("a compressed gRPC message; send it plain (Arrow's own body compression is welcome)"));
    }
    let length = u32::from_be_bytes(length);
    if u64::from(length) > message_bytes_max {
        return Err(WireError::MessageTooLarge { bytes: length.into(), limit: message_bytes_max });
    }
    rope.skip(PREFIX);
    Ok(Some(length as usize))
}

/// A base-128 number and its length; none if it is cut off.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, WireError> {
    let mut value: u64 = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if index == 10 {
            return Err(WireError::malformed("a protobuf number of more than ten bytes"));
        }
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 10 { Err(WireError::malformed("a protobuf number of more than ten bytes")) } else { Ok(None) }
}

/// The value after a tag: a number or a length as varint, or bytes of a fixed length, which are skipped.
fn varint_or_fixed(tag: u64, bytes: &[u8]) -> Result<Option<(u64, usize)>, WireError> {
    let fixed = |len: usize| if bytes.len() < len { None } else { Some((0, len)) };
    match tag & 7 {
        0 | 2 => varint(bytes),
        1 => Ok(fixed(8)),
        5 => Ok(fixed(4)),
        other => Err(WireError::malformed(format!("protobuf wire type {other}"))),
    }
}

/// Bodies' pieces below this are copied into a chunk with what stands before and after them: two system calls
/// cost more than the copy.
const PIECE_COPIED_BELOW: usize = 64 << 10;
/// Chunks of copied pieces are cut at about this size.
const CHUNK_CUT: usize = 128 << 10;
/// What a chunk of its own has at least, if more can be borrowed from the body that follows: h2 closes
/// connections that send many tiny frames.
const CHUNK_MIN: usize = 1 << 10;

/// Turns messages into chunks for the connection: small ones together, large bodies by reference.
#[derive(Debug, Default)]
pub struct FrameWriter {
    small: BytesMut,
    ready: VecDeque<Bytes>,
    ready_bytes: usize,
}

impl FrameWriter {
    /// Nothing written yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message; empty parts are left out.
    pub fn push(&mut self, descriptor: &[u8], header: &[u8], metadata: &[u8], body: &Body) {
        let field = |bytes: &[u8]| if bytes.is_empty() { 0 } else { 1 + varint_len(bytes.len() as u64) + bytes.len() };
        let head = field(descriptor) + field(header) + field(metadata) + if body.is_empty() { 0 } else { 2 + varint_len(body.len()) };
        let total = head as u64 + body.len();
        if self.small.capacity() - self.small.len() < PREFIX + head {
            self.small.reserve(CHUNK_CUT.max(PREFIX + head));
        }
        self.small.put_u8(0);
        // Larger messages are refused before they come here; the peer would refuse this one too.
        self.small.put_u32(u32::try_from(total).unwrap_or(u32::MAX));
        for (tag, bytes) in [(0x0a, descriptor), (0x12, header), (0x1a, metadata)] {
            if !bytes.is_empty() {
                self.small.put_u8(tag);
                put_varint(&mut self.small, bytes.len() as u64);
                self.small.put_slice(bytes);
            }
        }
        if !body.is_empty() {
            self.small.put_slice(&[0xc2, 0x3e]);
            put_varint(&mut self.small, body.len());
        }
        body.chunks().iter().for_each(|chunk| self.push_piece(chunk));
        self.cut();
    }

    fn push_piece(&mut self, piece: &Bytes) {
        if piece.len() < PIECE_COPIED_BELOW {
            self.small.put_slice(piece);
            return self.cut();
        }
        let mut piece = piece.clone();
        if self.small.len() < CHUNK_MIN {
            self.small.put_slice(&piece.split_to(CHUNK_MIN - self.small.len()));
        }
        self.flush();
        self.ready_bytes += piece.len();
        self.ready.push_back(piece);
    }

    fn cut(&mut self) {
        if self.small.len() >= CHUNK_CUT {
            self.flush();
        }
    }

    /// Makes everything available, for instance because nothing more comes at present.
    pub fn flush(&mut self) {
        if !self.small.is_empty() {
            let chunk = self.small.split().freeze();
            self.ready_bytes += chunk.len();
            self.ready.push_back(chunk);
        }
    }

    /// The next chunk, if one is ready.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        let chunk = self.ready.pop_front()?;
        self.ready_bytes -= chunk.len();
        Some(chunk)
    }

    /// Bytes that wait to be taken.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.ready_bytes + self.small.len()
    }
}

fn varint_len(mut value: u64) -> usize {
    let mut len = 1;
    while value >= 0x80 {
        value >>= 7;
        len += 1;
    }
    len
}

fn put_varint(into: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        into.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.put_u8((value & 0x7f) as u8);
}

/// Any other message with its prefix.
#[must_use]
pub fn frame_proto(message: &impl prost::Message) -> Bytes {
    let len = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX + len);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    message.encode_raw(&mut framed);
    framed.freeze()
}

/// Reads small framed messages of another type.
#[derive(Debug)]
pub struct ProtoReader<M> {
    rope: Rope,
    pending: Option<usize>,
    message_bytes_max: u64,
    message: PhantomData<fn() -> M>,
}

impl<M: prost::Message + Default> ProtoReader<M> {
    /// Takes messages of up to so many bytes.
    #[must_use]
    pub fn new(message_bytes_max: u64) -> Self {
        Self { rope: Rope::default(), pending: None, message_bytes_max, message: PhantomData }
    }

    /// Takes in what was received.
    pub fn push(&mut self, chunk: Bytes) {
        self.rope.push(chunk);
    }

    /// The next message; none: push more.
    ///
    /// # Errors
    /// [`WireError::MessageTooLarge`], [`WireError::Malformed`].
    #[expect(clippy::should_implement_trait, reason = "an iterator's end is final, this one's is not")]
    pub fn next(&mut self) -> Result<Option<M>, WireError> {
        let len = match self.pending {
            Some(len) => len,
            None => match prefix(&mut self.rope, self.message_bytes_max)? {
                Some(len) => *self.pending.insert(len),
                None => return Ok(None),
            },
        };
        if self.rope.len < len {
            return Ok(None);
        }
        self.pending = None;
        M::decode(self.rope.take(len).contiguous()).map(Some).map_err(|error| WireError::malformed(error.to_string()))
    }
}
