//! The authority that gRPC's C library (and with it pyarrow) gives a Unix socket, made one that HTTP/2 allows.
//!
//! It names the socket's path, percent-encoded, which h2 refuses with the whole request: a host has no percent signs
//! (hyperium/h2#487, grpc/grpc#38142). So they become dots while the bytes pass: in header frames only, only in that value,
//! and without moving a byte, so that lengths and compression stay as they are. bowstring's own clients send no such
//! authority.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What an HTTP/2 client says before its first frame.
const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// The field's name as a literal, which is how the C library writes it.
const NAME: &[u8] = b"\x0a:authority";
/// What HPACK's seven bits of length hold.
const SHORT_MAX: usize = 127;

/// What is to be found in a connection's headers.
#[derive(Debug, Clone)]
pub(super) struct SocketAuthority {
    /// The field's name and the length of its value.
    before: Vec<u8>,
    value_bytes: usize,
}

impl SocketAuthority {
    pub(super) fn of(path: &Path) -> Self {
        let path = path.as_os_str().as_bytes();
        let value_bytes = path.strip_prefix(b"/").unwrap_or(path).iter().map(|byte| if is_plain(*byte) { 1 } else { 3 }).sum();
        let mut before = NAME.to_vec();
        write_length(value_bytes, &mut before);
        Self { before, value_bytes }
    }
}

/// What the C library leaves as it is.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]@".contains(&byte)
}

/// A string's length as HPACK has it.
fn write_length(length: usize, to: &mut Vec<u8>) {
    let byte = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
    if length < SHORT_MAX {
        return to.push(byte(length));
    }
    to.push(byte(SHORT_MAX));
    let mut left = length - SHORT_MAX;
    while left >= 128 {
        to.push(byte(left % 128 + 128));
        left /= 128;
    }
    to.push(byte(left));
}

/// Follows a connection's frames, and mends the authority in passing.
#[derive(Debug)]
pub(super) struct AuthorityMender {
    wanted: SocketAuthority,
    /// Bytes that are none of our business.
    skip: usize,
    head: [u8; FRAME_HEAD_BYTES],
    head_bytes: usize,
    /// Bytes left of a frame of headers.
    headers: usize,
    /// How much of `wanted.before` was just seen.
    matched: usize,
    /// Bytes left of the value.
    value: usize,
}

impl AuthorityMender {
    pub(super) fn new(wanted: SocketAuthority) -> Self {
        Self { wanted, skip: PREFACE_BYTES, head: [0; FRAME_HEAD_BYTES], head_bytes: 0, headers: 0, matched: 0, value: 0 }
    }

    /// The next bytes of the connection, however they are cut.
    pub(super) fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let passed = if self.skip > 0 {
                let passed = self.skip.min(bytes.len());
                self.skip -= passed;
                passed
            } else if self.headers > 0 {
                let passed = self.headers.min(bytes.len());
                bytes[..passed].iter_mut().for_each(|byte| self.header_byte(byte));
                self.headers -= passed;
                passed
            } else {
                self.head_part(bytes)
            };
            bytes = &mut bytes[passed..];
        }
    }

    fn head_part(&mut self, bytes: &[u8]) -> usize {
        let passed = (FRAME_HEAD_BYTES - self.head_bytes).min(bytes.len());
        self.head[self.head_bytes..self.head_bytes + passed].copy_from_slice(&bytes[..passed]);
        self.head_bytes += passed;
        if self.head_bytes == FRAME_HEAD_BYTES {
            self.head_bytes = 0;
            let [high, middle, low, kind, ..] = self.head;
            let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            match kind {
                HEADERS => {
                    (self.headers, self.matched, self.value) = (length, 0, 0);
                }
                CONTINUATION => self.headers = length,
                _ => self.skip = length,
            }
        }
        passed
    }

    fn header_byte(&mut self, byte: &mut u8) {
        if self.value > 0 {
            self.value -= 1;
            if *byte == b'%' {
                *byte = b'.';
            }
            return;
        }
        // Its first byte begins nothing else in it, so that after a mismatch it can begin no earlier than here.
        let before = &self.wanted.before;
        self.matched = if *byte == before[self.matched] { self.matched + 1 } else { usize::from(*byte == before[0]) };
        if self.matched == before.len() {
            (self.matched, self.value) = (0, self.wanted.value_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], payload].concat()
    }

    /// As grpc-c++ 1.81 sends it, its headers cut in two frames.
    fn connection(authority: &[u8]) -> Vec<u8> {
        let length = u8::try_from(authority.len()).expect("short");
        let headers = [b"\x86@\x0a:authority".as_slice(), &[length], authority, b"@\x05other\x04a%2F"].concat();
        let (first, second) = headers.split_at(20);
        let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        all.extend([frame(4, b"settings"), frame(1, first), frame(9, second), frame(0, &headers)].concat());
        all
    }

    #[test]
    fn only_the_authority_in_headers_changes_however_the_bytes_are_cut() {
        let path = Path::new("/tmp/udstest.sock");
        let (came, mut goes) = (connection(b"tmp%2Fudstest.sock"), connection(b"tmp.2Fudstest.sock"));
        // The last frame is data, which stays as it came.
        let from = came.windows(9).rposition(|head| head[3..] == [0, 0, 0, 0, 0, 1]).expect("a data frame");
        goes.truncate(from);
        goes.extend(&came[from..]);
        for size in 1..=came.len() {
            let mut bytes = came.clone();
            let mut mender = AuthorityMender::new(SocketAuthority::of(path));
            bytes.chunks_mut(size).for_each(|chunk| mender.pass(chunk));
            assert_eq!(bytes, goes, "in chunks of {size}");
        }
    }

    #[test]
    fn the_length_of_a_long_path_takes_more_bytes() {
        for (length, expected) in [(126, &[126][..]), (127, &[127, 0]), (254, &[127, 127]), (255, &[127, 128, 1]), (321, &[127, 194, 1])] {
            let mut written = Vec::new();
            write_length(length, &mut written);
            assert_eq!(written, expected, "{length}");
        }
    }
}
