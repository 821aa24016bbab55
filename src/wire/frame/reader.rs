//! The frame reader: received chunks to `FlightData` messages.

use bytes::Bytes;

use super::{BODY, DESCRIPTOR, FlightHead, HEAD_BYTES_MAX, HEADER, METADATA, Rope, prefix};
use crate::wire::body::Body;
use crate::wire::error::WireError;
use crate::zoo::{self, Bug};

/// Tag and length of a field have at most ten bytes each.
const FIELD_HEAD_MAX: usize = 20;

/// Messages, parts and bodies below this are small.
const SMALL_BELOW: usize = 16 << 10;

/// Field tags and lengths have fewer bytes than this together. More beside the parts that are kept is a descriptor, or
/// of no use.
const OVERHEAD_MAX: u64 = 64;

/// What becomes of small messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Small {
    /// They are copied out of the chunk they came in: a batch of 1 KiB that is kept would otherwise hold on to a
    /// chunk of 1 MiB, which no limit counts.
    Copied,
    /// They hold on to the chunk they came in: for who keeps them no longer than what else came in it, and counts that.
    Shared,
}

/// Reads `FlightData` messages from chunks cut anywhere.
///
/// Give it what was received with [`push`](Self::push), then ask for [`head`](Self::head) and, after each head, for
/// [`body`](Self::body). After an error it is of no more use. A small message is taken in whole, body and all.
#[derive(Debug)]
pub struct FrameReader {
    rope: Rope,
    state: State,
    head: FlightHead,
    /// Bytes of the message's fields that have been taken in.
    head_bytes: u64,
    early_body: Body,
    message_bytes_max: u64,
    small: Small,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Between messages.
    Prefix,
    /// At the start of a message of so many bytes, small enough to be taken in one piece.
    Whole { len: usize },
    /// Inside a message, so many bytes before its end.
    Fields { left: usize },
    /// The head was given; the body has so many bytes, or was met before the message's last field.
    Body { len: usize, early: bool },
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

impl FrameReader {
    /// Takes messages of up to so many bytes.
    #[must_use]
    pub fn new(message_bytes_max: u64, small: Small) -> Self {
        Self {
            rope: Rope::default(),
            state: State::Prefix,
            head: FlightHead::default(),
            head_bytes: 0,
            early_body: Body::new(),
            message_bytes_max,
            small,
        }
    }

    /// Takes in what was received.
    pub fn push(&mut self, chunk: Bytes) {
        self.rope.push(chunk);
    }

    /// Whether everything received so far has been given out.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Prefix) && self.rope.len() == 0
    }

    /// The next message but for its body, as soon as all of that is there; none: push more. Fields come in any
    /// order; of a field that comes twice, the last one counts.
    ///
    /// # Errors
    /// [`WireError::MessageTooLarge`], [`WireError::HeadTooLarge`], [`WireError::Malformed`].
    pub fn head(&mut self) -> Result<Option<FlightHead>, WireError> {
        loop {
            match self.state {
                State::Prefix => {
                    let Some(left) = prefix(&mut self.rope, self.message_bytes_max)? else { return Ok(None) };
                    self.head = FlightHead::default();
                    self.head_bytes = 0;
                    self.early_body = Body::new();
                    self.state = if left < SMALL_BELOW { State::Whole { len: left } } else { State::Fields { left } };
                }
                State::Whole { len } => {
                    if self.rope.len() < len {
                        return Ok(None);
                    }
                    let message = self.take_small(len);
                    self.fields(&message)?;
                    self.state = State::Fields { left: 0 };
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
                        self.early_body = Body::new();
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
        if self.rope.len() < len {
            return Ok(None);
        }
        self.state = State::Prefix;
        Ok(Some(self.take(len)))
    }

    /// Takes what is there of the last head's body, piece by piece, and says whether that was the end of it; if not, push
    /// more and go on. In place of [`body`](Self::body), for who puts the pieces where they belong as they come.
    ///
    /// # Errors
    /// [`WireError::Malformed`] without a head before.
    pub fn body_pieces(&mut self, mut take: impl FnMut(&[u8])) -> Result<bool, WireError> {
        let State::Body { len, early } = self.state else { return Err(WireError::malformed("a body was asked for before its head")) };
        let left = if early {
            std::mem::take(&mut self.early_body).chunks().iter().for_each(|chunk| take(chunk));
            0
        } else {
            self.rope.take_pieces(len, take)
        };
        self.state = if left == 0 { State::Prefix } else { State::Body { len: left, early: false } };
        Ok(left == 0)
    }

    fn field(&mut self, left: usize) -> Result<Field, WireError> {
        let mut bytes = [0; FIELD_HEAD_MAX];
        let there = self.rope.peek(&mut bytes).min(left);
        let Some(head) = FieldHead::parse(&bytes[..there])? else {
            let no_more_comes = there == left || there == FIELD_HEAD_MAX;
            return if no_more_comes { Err(WireError::malformed("a protobuf field that is cut short")) } else { Ok(Field::Missing) };
        };
        let whole = head.bytes.saturating_add(head.content);
        if whole > left {
            return Err(WireError::malformed("a protobuf field that goes beyond its message"));
        }
        if head.number == BODY && whole == left {
            self.rope.skip(head.bytes);
            return Ok(Field::LastIsBody { len: head.content });
        }
        let head_bytes = self.head_bytes.saturating_add(whole as u64);
        if head_bytes > HEAD_BYTES_MAX {
            return Err(WireError::HeadTooLarge { bytes: head_bytes, limit: HEAD_BYTES_MAX });
        }
        if self.rope.len() < whole {
            return Ok(Field::Missing);
        }
        self.head_bytes = head_bytes;
        self.rope.skip(head.bytes);
        let content = self.take(head.content);
        match head.number {
            BODY => self.early_body = content,
            number => self.set(number, content.contiguous()),
        }
        Ok(Field::Taken { left: left - whole })
    }

    /// All fields of a message that is there whole.
    fn fields(&mut self, message: &Bytes) -> Result<(), WireError> {
        let mut at = 0;
        while at < message.len() {
            let Some(head) = FieldHead::parse(&message[at..])? else {
                return Err(WireError::malformed("a protobuf field that is cut short"));
            };
            let start = at + head.bytes;
            let end = start.saturating_add(head.content);
            if end > message.len() && !zoo::has(Bug::FieldBeyondMessage) {
                return Err(WireError::malformed("a protobuf field that goes beyond its message"));
            }
            let content = message.slice(start..end);
            match head.number {
                BODY => self.early_body = Body::from(content),
                number => self.set(number, content),
            }
            at = end;
        }
        if self.small == Small::Copied && message.len() as u64 > self.kept_bytes() + OVERHEAD_MAX {
            self.own_parts();
        }
        Ok(())
    }

    /// Bytes of the parts that are kept, and counted by whoever keeps them.
    fn kept_bytes(&self) -> u64 {
        (self.head.header.len() + self.head.metadata.len()) as u64 + self.early_body.len()
    }

    /// The parts as copies: what else is in their message is not held with them.
    fn own_parts(&mut self) {
        for part in [&mut self.head.descriptor, &mut self.head.header, &mut self.head.metadata] {
            *part = Bytes::copy_from_slice(part);
        }
        self.early_body = Body::from(Bytes::copy_from_slice(&self.early_body.contiguous()));
    }

    fn set(&mut self, number: u32, content: Bytes) {
        match number {
            DESCRIPTOR => self.head.descriptor = content,
            HEADER => self.head.header = content,
            METADATA => self.head.metadata = content,
            // Of a newer version of Flight.
            _ => {}
        }
    }

    fn take(&mut self, len: usize) -> Body {
        if len < SMALL_BELOW { Body::from(self.take_small(len)) } else { self.rope.take(len) }
    }

    fn take_small(&mut self, len: usize) -> Bytes {
        match self.small {
            Small::Copied => self.rope.take_copy(len),
            Small::Shared => self.rope.take_shared(len),
        }
    }
}

/// What stands before a field's content.
struct FieldHead {
    number: u32,
    /// Its own length.
    bytes: usize,
    /// Length of the content; numbers count as head.
    content: usize,
}

impl FieldHead {
    /// Reads it from the front of `bytes`; none if it is cut off.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        let Some((tag, tag_bytes)) = varint(bytes)? else { return Ok(None) };
        let tag = u32::try_from(tag).map_err(|_| WireError::malformed(format!("protobuf tag {tag}")))?;
        let (number, wire_type) = (tag >> 3, tag & 7);
        if number == 0 || matches!(number, DESCRIPTOR | HEADER | METADATA | BODY) && wire_type != 2 {
            return Err(WireError::malformed(format!("protobuf field {number} of wire type {wire_type}")));
        }
        let rest = &bytes[tag_bytes..];
        let value = match wire_type {
            0 | 2 => varint(rest)?,
            1 => (rest.len() >= 8).then_some((0, 8)),
            5 => (rest.len() >= 4).then_some((0, 4)),
            other => return Err(WireError::malformed(format!("protobuf wire type {other}"))),
        };
        let Some((value, value_bytes)) = value else { return Ok(None) };
        let content = if wire_type == 2 { usize::try_from(value).unwrap_or(usize::MAX) } else { 0 };
        Ok(Some(Self { number, bytes: tag_bytes + value_bytes, content }))
    }
}

/// A base-128 number and its length; none if it is cut off.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, WireError> {
    let mut value: u64 = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        // The tenth byte has one bit of the 64.
        if index == 9 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 10 { Err(WireError::malformed("a protobuf number of more than 64 bits")) } else { Ok(None) }
}
