//! The first lines of a text input, read once to infer its schema and once more as data.

use std::io::{self, BufRead, Chain, Cursor, Read};

/// Most bytes that are looked at to infer a schema: what is beyond counts only as data.
const PEEK_BYTES_MAX: u64 = 64 << 20;

/// A reader that begins anew with what was looked at.
pub(super) type Again<R> = Chain<Cursor<Vec<u8>>, R>;

/// The first `lines` lines of `reader`, and a reader that begins with them again.
pub(super) fn peek<R: BufRead>(mut reader: R, lines: usize) -> io::Result<(Vec<u8>, Again<R>)> {
    let mut head = Vec::new();
    let mut window = reader.by_ref().take(PEEK_BYTES_MAX);
    for _ in 0..lines {
        if window.read_until(b'\n', &mut head)? == 0 {
            break;
        }
    }
    let cut = window.limit() == 0 && !head.ends_with(b"\n");
    let whole_lines = if cut { head.iter().rposition(|byte| *byte == b'\n').map_or(head.len(), |end| end + 1) } else { head.len() };
    let inferable = head[..whole_lines].to_vec();
    Ok((inferable, Cursor::new(head).chain(reader)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn what_was_looked_at_is_read_again() {
        let (head, mut rest) = peek(&b"a\nb\nc"[..], 2).unwrap();
        assert_eq!(head, b"a\nb\n");
        let mut all = String::new();
        rest.read_to_string(&mut all).unwrap();
        assert_eq!(all, "a\nb\nc");
        assert_eq!(peek(&b"a"[..], 9).unwrap().0, b"a");
    }
}
