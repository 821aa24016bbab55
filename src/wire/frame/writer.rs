//! The frame writer: `FlightData` messages to chunks for the connection.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::PREFIX;
use crate::wire::body::Body;

/// Bodies' pieces below this are copied into a chunk with what stands before and after them: two system calls
/// cost more than the copy.
const PIECE_COPIED_BELOW: usize = 64 << 10;
/// Chunks of copied pieces are cut at about this size.
const CHUNK_CUT: usize = 128 << 10;
/// What a chunk of its own has at least, if the body beside it has bytes to lend: h2 closes connections that
/// send many tiny frames.
const CHUNK_MIN: usize = 1 << 10;

/// Marks a call that goes by no connection, but from one part of the process to another.
#[derive(Debug, Clone, Copy)]
pub struct WithinProcess;

/// Turns messages into chunks for the connection: small ones together, large bodies by reference.
#[derive(Debug, Default)]
pub struct FrameWriter {
    small: BytesMut,
    ready: VecDeque<Bytes>,
    /// Large pieces stay whole, however small the chunks beside them.
    is_within_process: bool,
}

impl FrameWriter {
    /// Nothing written yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same for calls within the process, where a small chunk costs nothing, and a body of one piece arrives as it is.
    #[must_use]
    pub fn within_process() -> Self {
        Self { is_within_process: true, ..Self::default() }
    }

    /// Adds a message; empty parts are left out.
    pub fn push(&mut self, descriptor: &[u8], header: &[u8], metadata: &[u8], body: &Body) {
        self.put_head(descriptor, header, metadata, body.len());
        let mut after = body.len();
        for piece in body.chunks() {
            after -= piece.len() as u64;
            if piece.len() < PIECE_COPIED_BELOW {
                self.make_room(piece.len());
                self.small.put_slice(piece);
                self.cut();
            } else {
                self.push_large(piece.clone(), after);
            }
        }
        self.cut();
    }

    /// Adds a message but for its body, of so many bytes, and makes it available: the caller hands over the body itself.
    pub fn push_head(&mut self, descriptor: &[u8], header: &[u8], metadata: &[u8], body_len: u64) {
        self.put_head(descriptor, header, metadata, body_len);
        self.flush();
    }

    fn put_head(&mut self, descriptor: &[u8], header: &[u8], metadata: &[u8], body_len: u64) {
        let field = |bytes: &[u8]| if bytes.is_empty() { 0 } else { 1 + varint_len(bytes.len() as u64) + bytes.len() };
        let head = field(descriptor) + field(header) + field(metadata) + if body_len == 0 { 0 } else { 2 + varint_len(body_len) };
        let total = head as u64 + body_len;
        self.make_room(PREFIX + head);
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
        if body_len > 0 {
            self.small.put_slice(&[0xc2, 0x3e]);
            put_varint(&mut self.small, body_len);
        }
    }

    /// Adds a piece by reference, but for what its neighbours need to be no tiny chunks. `after`: bytes of the
    /// body that follow it.
    fn push_large(&mut self, mut piece: Bytes, after: u64) {
        if self.is_within_process {
            self.flush();
            self.ready.push_back(piece);
            return;
        }
        if self.small.len() < CHUNK_MIN {
            let lent = piece.split_to(CHUNK_MIN - self.small.len());
            self.make_room(lent.len());
            self.small.put_slice(&lent);
        }
        let lent = match usize::try_from(after) {
            Ok(after) if (1..CHUNK_MIN).contains(&after) => piece.split_off(piece.len() - (CHUNK_MIN - after)),
            _ => Bytes::new(),
        };
        self.flush();
        self.ready.push_back(piece);
        if !lent.is_empty() {
            self.make_room(lent.len());
            self.small.put_slice(&lent);
        }
    }

    /// Room for `bytes` more in the chunk of copied pieces, without copying it to a larger place.
    fn make_room(&mut self, bytes: usize) {
        if self.small.capacity() - self.small.len() >= bytes {
            return;
        }
        if self.small.len() >= CHUNK_MIN {
            self.flush();
        }
        self.small.reserve(bytes.max(CHUNK_CUT + PIECE_COPIED_BELOW));
    }

    fn cut(&mut self) {
        if self.small.len() >= CHUNK_CUT {
            self.flush();
        }
    }

    /// Makes everything available, for instance because nothing more comes at present.
    pub fn flush(&mut self) {
        if !self.small.is_empty() {
            self.ready.push_back(self.small.split().freeze());
        }
    }

    /// The next chunk, if one is ready.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
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
