//! Batches of plain columns (numbers, times, booleans, strings, binary), encoded and decoded without Arrow's encoder
//! and decoder: most of what those do for a small batch is its header, and that is the header of the batch before.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub(super) use decode::PlainDecoder;
pub(super) use encode::PlainEncoder;

use arrow_schema::{DataType, Schema};

/// Whether all columns are plain, and there is one.
fn is_plain(schema: &Schema) -> bool {
    let plain = |data_type: &DataType| {
        use DataType::{Binary, Boolean, LargeBinary, LargeUtf8, Utf8};
        data_type.is_primitive() || matches!(data_type, Boolean | Utf8 | LargeUtf8 | Binary | LargeBinary)
    };
    !schema.fields().is_empty() && schema.fields().iter().all(|field| plain(field.data_type()))
}
