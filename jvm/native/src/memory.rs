//! Memory that Java owns: the one place that looks at it.

use arrow::buffer::{Buffer, MutableBuffer};
use bowstring::client::Error;
use jni::sys::jlong;

/// Arrow asks for buffers that begin at multiples of this.
const ALIGNMENT: usize = 64;

/// Copies buffers that Java owns into one piece of memory of our own, each beginning at a multiple of 64.
///
/// `places` has an address and a number of bytes for each.
///
/// # Errors
/// `invalid_argument` for numbers that are no places.
///
/// # Safety
/// Each place can be read, and nobody writes to it meanwhile.
pub(crate) unsafe fn copied(places: &[jlong]) -> Result<Vec<Buffer>, Error> {
    let sizes = places.chunks_exact(2).map(|place| usize::try_from(place[1]));
    let sizes: Vec<usize> = sizes.collect::<Result<_, _>>().map_err(|_| none("a negative size"))?;
    let total = sizes.iter().map(|size| size.next_multiple_of(ALIGNMENT)).sum();
    let mut memory = MutableBuffer::with_capacity(total);
    for (place, &size) in places.chunks_exact(2).zip(&sizes) {
        memory.resize(memory.len().next_multiple_of(ALIGNMENT), 0);
        if size == 0 {
            continue;
        }
        let address = usize::try_from(place[0]).ok().filter(|address| *address != 0).ok_or_else(|| none("no address"))?;
        // SAFETY: the caller says that so many bytes can be read there.
        memory.extend_from_slice(unsafe { std::slice::from_raw_parts(address as *const u8, size) });
    }
    let memory: Buffer = memory.into();
    let mut start = 0;
    let slices = sizes.iter().map(|&size| {
        let slice = memory.slice_with_length(start, size);
        start += size.next_multiple_of(ALIGNMENT);
        slice
    });
    Ok(slices.collect())
}

fn none(what: &str) -> Error {
    Error::InvalidArgument { what: format!("a buffer of a batch has {what}; this is a defect of the connector") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_copied_and_aligned() {
        let (one, two) = (vec![1_u8; 70], vec![2_u8; 3]);
        let place = |bytes: &[u8]| [bytes.as_ptr() as jlong, jlong::try_from(bytes.len()).expect("small")];
        let places = [place(&one), [0, 0], place(&two)].concat();
        // SAFETY: both live.
        let found = unsafe { copied(&places) }.expect("three places");
        assert_eq!(found.iter().map(Buffer::as_slice).collect::<Vec<_>>(), [&one[..], &[], &two[..]]);
        assert!(found.iter().all(|buffer| buffer.is_empty() || buffer.as_ptr().align_offset(ALIGNMENT) == 0));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for places in [[0, 8], [-1, 8], [8, -1]] {
            // SAFETY: none of them is looked at.
            assert!(unsafe { copied(&places) }.is_err(), "{places:?}");
        }
    }
}
