//! Batches of plain columns (numbers, times, booleans, strings, binary), encoded and decoded without Arrow's encoder
//! and decoder: most of what those do for a small batch is its header, and that is the header of the batch before.

mod decode;
mod encode;
mod join;
#[cfg(test)]
mod join_tests;
mod slices;
#[cfg(test)]
mod slices_tests;
#[cfg(test)]
mod tests;

use arrow_buffer::{Buffer, MutableBuffer};
use arrow_schema::{DataType, Schema};

pub(super) use decode::PlainDecoder;
pub(super) use encode::PlainEncoder;
pub(super) use join::{SmallBatch, join};
pub use slices::ColumnSlices;

/// How the values of a plain column lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainLayout {
    /// A bit each.
    Bits,
    /// So many bytes each.
    Fixed(usize),
    /// Any number of bytes each, and so many bytes for each offset.
    Variable(usize),
}

impl PlainLayout {
    /// None if columns of this type are not plain.
    #[must_use]
    pub fn of(data_type: &DataType) -> Option<Self> {
        use DataType::{Binary, Boolean, LargeBinary, LargeUtf8, Utf8};
        match data_type {
            Boolean => Some(Self::Bits),
            Utf8 | Binary => Some(Self::Variable(4)),
            LargeUtf8 | LargeBinary => Some(Self::Variable(8)),
            other => other.primitive_width().filter(|_| other.is_primitive()).map(Self::Fixed),
        }
    }

    /// Of each column; none if one is not plain, or there is none.
    #[must_use]
    pub fn of_schema(schema: &Schema) -> Option<Vec<Self>> {
        let columns: Option<Vec<_>> = schema.fields().iter().map(|field| Self::of(field.data_type())).collect();
        columns.filter(|columns| !columns.is_empty())
    }
}

/// The chunks together, in memory aligned to 64 bytes, so that no array has to be copied again.
pub(super) fn aligned<'a>(chunks: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>) -> Buffer {
    let chunks = chunks.into_iter();
    let mut copy = MutableBuffer::with_capacity(chunks.clone().map(<[u8]>::len).sum());
    for chunk in chunks {
        copy.extend_from_slice(chunk);
    }
    copy.into()
}
