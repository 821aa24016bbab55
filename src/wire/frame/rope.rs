//! The rope: chunks as they were received.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::wire::body::Body;

/// Pieces below this are copied when they are taken, and so are those that are less than a `KEPT_SHARE`th of the
/// chunk they came in: they would hold on to all of the chunk, or of the receive buffer behind it, which no limit
/// counts.
const PIECE_COPIED_BELOW: usize = 16 << 10;
const KEPT_SHARE: usize = 8;
/// Copied pieces of one body are put together up to this size.
const COPIED_TOGETHER: usize = 64 << 10;
/// Chunks below this are put together once so many came in a row: a chunk costs more than a byte.
const TINY: usize = 1 << 10;
const TINY_RUN: usize = 256;

/// Bytes in the chunks they came in; taking from the front copies only what is small.
#[derive(Debug, Default)]
pub(super) struct Rope {
    chunks: VecDeque<Chunk>,
    len: usize,
    /// How many tiny chunks came last, one after the other.
    tiny: usize,
}

/// What is left of a chunk, and how large it was.
#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    whole: usize,
}

impl Chunk {
    fn new(bytes: Bytes) -> Self {
        Self { whole: bytes.len(), bytes }
    }
}

impl Rope {
    pub(super) fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.len += chunk.len();
        self.tiny = if chunk.len() < TINY { self.tiny + 1 } else { 0 };
        self.chunks.push_back(Chunk::new(chunk));
        if self.tiny == TINY_RUN {
            self.join_tiny();
        }
    }

    /// Makes one chunk of the tiny ones that came last, as far as they are still here.
    fn join_tiny(&mut self) {
        self.tiny = 0;
        let run = self.chunks.split_off(self.chunks.len().saturating_sub(TINY_RUN));
        let mut joined = BytesMut::with_capacity(run.iter().map(|chunk| chunk.bytes.len()).sum());
        run.iter().for_each(|chunk| joined.extend_from_slice(&chunk.bytes));
        if !joined.is_empty() {
            self.chunks.push_back(Chunk::new(joined.freeze()));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Copies the first bytes without taking them; returns how many there were.
    pub(super) fn peek(&self, into: &mut [u8]) -> usize {
        let mut filled = 0;
        for Chunk { bytes: chunk, .. } in &self.chunks {
            let take = chunk.len().min(into.len() - filled);
            into[filled..filled + take].copy_from_slice(&chunk[..take]);
            filled += take;
            if filled == into.len() {
                break;
            }
        }
        filled
    }

    /// Takes the first `len` bytes, which are there, as the chunks they are in, but for small pieces of them.
    pub(super) fn take(&mut self, len: usize) -> Body {
        let mut body = Body::new();
        let mut copied = BytesMut::new();
        let mut left = len;
        while left > 0 {
            let Some(front) = self.chunks.front_mut() else { break };
            let whole = front.whole;
            let piece = front.bytes.split_to(front.bytes.len().min(left));
            if front.bytes.is_empty() {
                self.chunks.pop_front();
            }
            left -= piece.len();
            let is_copied = piece.len() < PIECE_COPIED_BELOW || piece.len() < whole / KEPT_SHARE;
            if is_copied {
                copied.extend_from_slice(&piece);
            }
            if !is_copied || copied.len() >= COPIED_TOGETHER {
                body.push(copied.split().freeze());
            }
            if !is_copied {
                body.push(piece);
            }
        }
        body.push(copied.freeze());
        self.len -= len - left;
        body
    }

    /// Takes the first `len` bytes, which are there, in one piece: copied only where they lie in several chunks.
    pub(super) fn take_shared(&mut self, len: usize) -> Bytes {
        match self.chunks.front_mut() {
            Some(front) if front.bytes.len() >= len => {
                self.len -= len;
                let taken = front.bytes.split_to(len);
                if front.bytes.is_empty() {
                    self.chunks.pop_front();
                }
                taken
            }
            _ => self.take_copy(len),
        }
    }

    /// Takes the first `len` bytes, which are there, as memory of their own: it holds nothing of the chunks.
    pub(super) fn take_copy(&mut self, len: usize) -> Bytes {
        let mut copy = BytesMut::with_capacity(len);
        self.take_pieces(len, |piece| copy.extend_from_slice(piece));
        copy.freeze()
    }

    pub(super) fn skip(&mut self, len: usize) {
        self.take_pieces(len, |_| {});
    }

    /// Takes the first `len` bytes, or what there is of them, piece by piece; how many are not there yet.
    pub(super) fn take_pieces(&mut self, len: usize, mut take: impl FnMut(&[u8])) -> usize {
        let mut left = len;
        while left > 0 {
            let Some(front) = self.chunks.front_mut() else { break };
            let step = front.bytes.len().min(left);
            take(&front.bytes[..step]);
            front.bytes.advance(step);
            left -= step;
            if front.bytes.is_empty() {
                self.chunks.pop_front();
            }
        }
        self.len -= len - left;
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(chunks: &[Bytes]) -> Rope {
        let mut rope = Rope::default();
        chunks.iter().for_each(|chunk| rope.push(chunk.clone()));
        rope
    }

    /// A chunk, how much of it is skipped and taken, and whether what was taken holds on to it.
    #[test]
    fn a_small_part_of_a_chunk_does_not_hold_on_to_all_of_it() {
        for (chunk, skipped, taken, holds) in [
            (1 << 20, 0, 1 << 20, true),
            (1 << 20, 1000, 1 << 17, true),
            (1 << 20, 1000, (1 << 17) - 1, false),
            (1 << 17, 0, 1 << 14, true),
            (1 << 14, 0, 1 << 14, true),
            (1 << 14, 0, (1 << 14) - 1, false),
        ] {
            let chunk = Bytes::from(vec![7; chunk]);
            let mut rope = rope(std::slice::from_ref(&chunk));
            rope.skip(skipped);
            let body = rope.take(taken);
            drop(rope);
            assert_eq!((body.len(), chunk.is_unique()), (taken as u64, !holds), "{taken} of {}", chunk.len());
        }
    }

    #[test]
    fn tiny_chunks_are_put_together_and_keep_their_order() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        let mut rope = rope(&bytes.chunks(1).map(Bytes::copy_from_slice).collect::<Vec<_>>());
        assert!(rope.chunks.len() < bytes.len() / TINY_RUN + TINY_RUN, "{} chunks", rope.chunks.len());
        rope.skip(10);
        let body = rope.take(99_000);
        assert!(body.contiguous() == bytes[10..99_010] && body.chunks().len() < 4);
        assert_eq!((rope.len(), &rope.take(990).contiguous()[..]), (990, &bytes[99_010..]));
    }
}
