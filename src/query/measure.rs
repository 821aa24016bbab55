//! How large columns are when each value of a row stands for itself: dictionaries, views and runs have one for many rows.

use datafusion_common::arrow::array::{Array, ArrayData};
use datafusion_common::arrow::datatypes::DataType;

/// Most bytes that a column's values have, each by itself.
pub(super) fn flat(column: &dyn Array) -> u64 {
    of(&column.to_data())
}

fn of(data: &ArrayData) -> u64 {
    let rows = data.len() as u64;
    let values = |index: usize| data.child_data().get(index).map_or(0, longest);
    match data.data_type() {
        DataType::Dictionary(..) => rows.saturating_mul(values(0).saturating_add(8)),
        DataType::RunEndEncoded(..) => rows.saturating_mul(values(1).saturating_add(8)),
        DataType::Utf8View | DataType::BinaryView => lengths(data).map(|length| length + 16).sum(),
        DataType::ListView(_) => sum(data.buffers().get(1).map(|sizes| sizes.typed_data::<i32>())).saturating_mul(values(0)),
        DataType::LargeListView(_) => sum(data.buffers().get(1).map(|sizes| sizes.typed_data::<i64>())).saturating_mul(values(0)),
        _ => {
            let slice = |data: &ArrayData| data.get_slice_memory_size().unwrap_or(usize::MAX) as u64;
            let own = slice(data).saturating_sub(data.child_data().iter().map(slice).fold(0, u64::saturating_add));
            data.child_data().iter().map(of).fold(own, u64::saturating_add)
        }
    }
}

/// Most bytes of one value.
fn longest(data: &ArrayData) -> u64 {
    match data.data_type() {
        DataType::Utf8 | DataType::Binary => data.buffers().first().map_or(0, |offsets| steps(offsets.typed_data::<i32>())),
        DataType::LargeUtf8 | DataType::LargeBinary => data.buffers().first().map_or(0, |offsets| steps(offsets.typed_data::<i64>())),
        DataType::Utf8View | DataType::BinaryView => lengths(data).max().unwrap_or(0) + 16,
        other => other.primitive_width().map_or_else(|| of(data), |width| width as u64),
    }
}

/// The lengths of views: their first four bytes.
fn lengths(data: &ArrayData) -> impl Iterator<Item = u64> {
    let views = data.buffers().first().map_or(&[][..], |views| views.typed_data::<u128>());
    #[expect(clippy::cast_possible_truncation, reason = "the low half of the low half")]
    let length = |view: &u128| u64::from(*view as u32);
    views.iter().map(length)
}

fn steps<T: Copy + Into<i64>>(offsets: &[T]) -> u64 {
    let step = |pair: &[T]| u64::try_from(pair[1].into() - pair[0].into()).unwrap_or(0);
    offsets.windows(2).map(step).max().unwrap_or(0)
}

fn sum<T: Copy + Into<i64>>(sizes: Option<&[T]>) -> u64 {
    sizes.unwrap_or_default().iter().map(|size| u64::try_from((*size).into()).unwrap_or(0)).sum()
}
