//! Where the offsets of texts, bytes and lists begin and end: what of their values a look at two numbers can tell.
//!
//! Arrow's offsets say where each value lies in another buffer, and most readers believe them. The last one says how much of
//! that buffer there has to be, so that a buffer that was cut, or put in another's place, is found at the price of reading
//! two numbers per array. What lies between first and last is looked at by full validation alone ([`super::validate`]).

use super::body::Body;
use super::error::WireError;

/// The ends of a batch's offsets, as its header has them: filled by the guard, checked once the body is there.
#[derive(Debug, Clone, Default)]
pub struct OffsetEnds {
    ends: Vec<Ends>,
}

/// Of one array that has values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// Its number in the order of the message.
    pub(super) array: usize,
    /// Where in the body its first and its last offset lie.
    pub(super) first_at: u64,
    pub(super) last_at: u64,
    /// Whether they have eight bytes, and not four.
    pub(super) is_large: bool,
    /// How far they may reach: the length of the data, or of the child.
    pub(super) limit: u64,
}

impl OffsetEnds {
    /// Forgets them; the memory is used again.
    pub(super) fn clear(&mut self) {
        self.ends.clear();
    }

    pub(super) fn push(&mut self, ends: Ends) {
        self.ends.push(ends);
    }

    /// Whether the offsets begin at zero or later, and end where there is still data.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn check(&self, body: &Body) -> Result<(), WireError> {
        let mut body = body.cursor();
        for Ends { array, first_at, last_at, is_large, limit } in &self.ends {
            let mut read = |at: u64| {
                let mut bytes = [0; 8];
                let width = if *is_large { 8 } else { 4 };
                body.read(at, &mut bytes[..width]).then(|| {
                    let number = i64::from_le_bytes(bytes);
                    // Four bytes have their sign in the middle of the eight.
                    if *is_large { number } else { number << 32 >> 32 }
                })
            };
            let (first, last) = (read(*first_at), read(*last_at));
            let fits = first.zip(last).is_some_and(|(first, last)| first >= 0 && first <= last && last.unsigned_abs() <= *limit);
            if !fits {
                let shown = |end: Option<i64>| end.map_or_else(|| "nowhere".to_owned(), |end| end.to_string());
                return Err(WireError::malformed(format!(
                    "array {array} of the batch has offsets from {} to {}, but {limit} bytes or values to point at",
                    shown(first),
                    shown(last)
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn both_ends_count_and_the_limit_itself_is_allowed() {
        let check = |first: i64, last: i64, is_large: bool, limit: u64| {
            let bytes = |offset: i64| offset.to_le_bytes()[..if is_large { 8 } else { 4 }].to_vec();
            let mut body = Body::new();
            [vec![9; 8], bytes(first), bytes(last)].into_iter().for_each(|piece| body.push(Bytes::from(piece)));
            let last_at = 8 + if is_large { 8 } else { 4 };
            let mut ends = OffsetEnds::default();
            ends.push(Ends { array: 3, first_at: 8, last_at, is_large, limit });
            ends.check(&body).map_err(|error| error.to_string())
        };
        for is_large in [false, true] {
            for (first, last, limit, fits) in [
                (0, 7, 7, true),
                (0, 8, 7, false),
                (7, 7, 7, true),
                (3, 2, 7, false),
                (-1, 2, 7, false),
                (-5, -1, 7, false),
                (0, 0, 0, true),
            ] {
                let checked = check(first, last, is_large, limit);
                assert_eq!(checked.is_ok(), fits, "{first} to {last} of {limit}: {checked:?}");
            }
        }
        let error = check(0, 8, false, 7).expect_err("beyond the end");
        assert!(error.contains("array 3") && error.contains("from 0 to 8") && error.contains("but 7 "), "{error}");
    }

    #[test]
    fn offsets_that_are_not_there_are_no_offsets() {
        let mut ends = OffsetEnds::default();
        ends.push(Ends { array: 0, first_at: 0, last_at: 8, is_large: false, limit: 1 });
        assert!(ends.check(&Body::from(Bytes::from_static(&[0; 8]))).is_err());
        ends.clear();
        assert!(ends.check(&Body::new()).is_ok());
    }
}
