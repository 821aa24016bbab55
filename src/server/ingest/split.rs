//! The rows of a body. Whether each is any good is for the decoder to say; what is refused here is a body of which nobody knows where
//! its rows begin and end.

use super::answer::Refused;
use super::media::Layout;
use crate::formats::ROWS_MAX;

/// The rows, where they lie.
///
/// # Errors
/// 400 for a body that has no rows of this layout, 413 for more of them than one call decodes.
pub(super) fn rows(body: &[u8], layout: Layout) -> Result<Vec<&[u8]>, Refused> {
    let rows = match layout {
        Layout::One => vec![body],
        Layout::Lines => bounded(body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).map(Ok))?,
        Layout::Delimited => bounded(Delimited { rest: body })?,
        Layout::Document => match body.trim_ascii() {
            [] => return Err(Refused::bad("the body is empty; send a JSON object, or an array of them")),
            array @ [b'[', ..] => elements(array)?,
            object => vec![object],
        },
    };
    Ok(rows)
}

fn bounded<'a>(rows: impl Iterator<Item = Result<&'a [u8], Refused>>) -> Result<Vec<&'a [u8]>, Refused> {
    let rows = rows.take(ROWS_MAX + 1).collect::<Result<Vec<_>, _>>()?;
    if rows.len() > ROWS_MAX { Err(too_many()) } else { Ok(rows) }
}

fn too_many() -> Refused {
    Refused::too_large(format!("the body has more than {ROWS_MAX} rows; send them in several requests"))
}

/// The elements of a JSON array, which begins the text. It is only looked at for where they begin and end.
fn elements(array: &[u8]) -> Result<Vec<&[u8]>, Refused> {
    let mut rows = Vec::new();
    let (mut depth, mut start, mut is_text, mut is_escaped) = (0usize, 1, false, false);
    for (at, byte) in array.iter().copied().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth > 1 => depth -= 1,
            b']' => return last(rows, array[start..at].trim_ascii(), &array[at + 1..]),
            b'}' => break,
            b',' if depth == 1 => {
                rows.push(nonempty(array[start..at].trim_ascii())?);
                start = at + 1;
                if rows.len() > ROWS_MAX {
                    return Err(too_many());
                }
            }
            _ => {}
        }
    }
    Err(Refused::bad("the body is no JSON: its array does not end; nothing of it was taken"))
}

fn last<'a>(mut rows: Vec<&'a [u8]>, row: &'a [u8], rest: &[u8]) -> Result<Vec<&'a [u8]>, Refused> {
    if !rest.is_empty() {
        return Err(Refused::bad("the body is no JSON: there is more after its array; nothing of it was taken"));
    }
    if rows.is_empty() && row.is_empty() {
        return Ok(rows);
    }
    rows.push(nonempty(row)?);
    if rows.len() > ROWS_MAX { Err(too_many()) } else { Ok(rows) }
}

fn nonempty(row: &[u8]) -> Result<&[u8], Refused> {
    if row.is_empty() {
        Err(Refused::bad("the body is no JSON: its array has a comma without a value; nothing of it was taken"))
    } else {
        Ok(row)
    }
}

/// Rows after their lengths, as `writeDelimitedTo` of Protobuf writes them.
struct Delimited<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Delimited<'a> {
    type Item = Result<&'a [u8], Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let row = varint(self.rest).and_then(|(length, rest)| rest.split_at_checked(usize::try_from(length).ok()?));
        let Some((row, rest)) = row else {
            self.rest = &[];
            return Some(Err(Refused::bad("the body ends within a row, or a length in it is none; nothing of it was taken")));
        };
        self.rest = rest;
        Some(Ok(row))
    }
}

/// A number of at most 64 bits, 7 in each byte, the lowest first; and what comes after it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0u64;
    for (place, byte) in bytes.iter().copied().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * u32::try_from(place).ok()?;
        number |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
        if byte < 0x80 {
            return Some((number, &bytes[place + 1..]));
        }
    }
    None
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    fn found(body: &str, layout: Layout) -> Option<Vec<&str>> {
        let rows = rows(body.as_bytes(), layout).ok()?;
        Some(rows.into_iter().map(|row| std::str::from_utf8(row).unwrap()).collect())
    }

    #[test]
    fn a_document_is_one_object_or_an_array_of_rows() {
        for (body, rows) in [
            (r#" {"a": [1, 2]} "#, vec![r#"{"a": [1, 2]}"#]),
            ("[]", vec![]),
            (" [ \n ] ", vec![]),
            (r#"[{"a": 1}, {"a": {"b": [1, {"c": 2}]}}]"#, vec![r#"{"a": 1}"#, r#"{"a": {"b": [1, {"c": 2}]}}"#]),
            (r#"[{"a": "],\"}{[\\"},2]"#, vec![r#"{"a": "],\"}{[\\"}"#, "2"]),
            // Not rows, which the decoder says.
            ("nothing", vec!["nothing"]),
            (r#"[{"a": 1} {"a": 2}]"#, vec![r#"{"a": 1} {"a": 2}"#]),
        ] {
            assert_eq!(found(body, Layout::Document), Some(rows), "{body}");
        }
        for body in ["", "  ", "[", r#"[{"a": 1}"#, r#"[{"a": 1}]]"#, "[1] 2", "[1,]", "[,1]", "[}", r#"["]"#, r#"["\"]"#] {
            assert_eq!(found(body, Layout::Document), None, "{body}");
        }
    }

    #[test]
    fn lines_are_rows_but_for_empty_ones() {
        assert_eq!(found("{}\r\n\n  \n{\"a\": 1}", Layout::Lines), Some(vec!["{}", "{\"a\": 1}"]));
        assert_eq!(found("", Layout::Lines), Some(vec![]));
    }

    #[test]
    fn delimited_rows_come_after_their_lengths() {
        assert_eq!(found("\x02ab\0\x01c", Layout::Delimited), Some(vec!["ab", "", "c"]));
        let long = [[0x80u8, 0x02].as_slice(), &[b'x'; 256]].concat();
        assert_eq!(rows(&long, Layout::Delimited).unwrap(), [[b'x'; 256]]);
        let largest = [0xff; 9];
        for wrong in [b"\x02a".as_slice(), b"\x80", &largest, &[&largest[..], &[2]].concat(), &[&largest[..], &[1]].concat()] {
            assert!(rows(wrong, Layout::Delimited).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_body_of_one_row_may_be_empty() {
        assert_eq!(rows(b"", Layout::One).unwrap(), [b""]);
    }

    #[test]
    fn more_rows_than_one_call_decodes_are_refused() {
        let full = "1\n".repeat(ROWS_MAX);
        assert_eq!(rows(full.as_bytes(), Layout::Lines).unwrap().len(), ROWS_MAX);
        assert!(rows((full + "1").as_bytes(), Layout::Lines).is_err());
        let full = format!("[1{}]", ",1".repeat(ROWS_MAX - 1));
        assert_eq!(rows(full.as_bytes(), Layout::Document).unwrap().len(), ROWS_MAX);
        assert!(rows(full.replace(']', ",1]").as_bytes(), Layout::Document).is_err());
    }
}
