//! The rope: chunks as they were received.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::wire::body::Body;

/// Bytes in the chunks they came in; taking from the front copies only what is small.
#[derive(Debug, Default)]
pub(super) struct Rope {
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl Rope {
    pub(super) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Copies the first bytes without taking them; returns how many there were.
    pub(super) fn peek(&self, into: &mut [u8]) -> usize {
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

    /// Takes the first `len` bytes, which are there, as the chunks they are in.
    pub(super) fn take(&mut self, len: usize) -> Body {
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

    /// Takes the first `len` bytes, which are there, as memory of their own: it holds nothing of the chunks.
    pub(super) fn take_copy(&mut self, len: usize) -> Bytes {
        let mut copy = BytesMut::with_capacity(len);
        let mut left = len;
        while left > 0 {
            let Some(front) = self.chunks.front_mut() else { break };
            let step = front.len().min(left);
            copy.extend_from_slice(&front[..step]);
            left -= step;
            self.skip(step);
        }
        copy.freeze()
    }

    pub(super) fn skip(&mut self, len: usize) {
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
