//! The items of lists, in whatever way these lie in memory: only what a list has, for the rest may be anything.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MutableArrayData, OffsetSizeTrait, make_array};
use arrow::buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType};

/// The items of all rows, one after the other, and where each row's begin; a map's are its entries. A row that is null has none.
///
/// # Errors
/// There are more than such offsets can say.
pub(super) fn items<O: OffsetSizeTrait>(array: &ArrayRef) -> Result<(OffsetBuffer<O>, ArrayRef), ArrowError> {
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            gathered(array, list.values(), between(list.value_offsets()))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            gathered(array, list.values(), between(list.value_offsets()))
        }
        DataType::FixedSizeList(_, size) => {
            let size = usize::try_from(*size).map_err(|_| ArrowError::SchemaError(format!("lists of {size} items")))?;
            gathered(array, array.as_fixed_size_list().values(), |row| row * size..(row + 1) * size)
        }
        DataType::ListView(_) => {
            let list = array.as_list_view::<i32>();
            gathered(array, list.values(), from_to(list.value_offsets(), list.value_sizes()))
        }
        DataType::LargeListView(_) => {
            let list = array.as_list_view::<i64>();
            gathered(array, list.values(), from_to(list.value_offsets(), list.value_sizes()))
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            gathered(array, &entries, between(map.value_offsets()))
        }
        other => Err(ArrowError::SchemaError(format!("{other} has no items"))),
    }
}

fn between<O: OffsetSizeTrait>(offsets: &[O]) -> impl Fn(usize) -> Range<usize> {
    |row| offsets[row].as_usize()..offsets[row + 1].as_usize()
}

fn from_to<O: OffsetSizeTrait>(offsets: &[O], sizes: &[O]) -> impl Fn(usize) -> Range<usize> {
    |row| offsets[row].as_usize()..offsets[row].as_usize() + sizes[row].as_usize()
}

fn gathered<O: OffsetSizeTrait>(
    array: &ArrayRef,
    values: &ArrayRef,
    of_row: impl Fn(usize) -> Range<usize>,
) -> Result<(OffsetBuffer<O>, ArrayRef), ArrowError> {
    let of_row = |row| if array.is_null(row) { 0..0 } else { of_row(row) };
    let rows = (0..array.len()).map(of_row).filter(|items| !items.is_empty());
    let (mut begin, mut end, mut total, mut is_one_piece) = (0, 0, 0_usize, true);
    for items in rows.clone() {
        if total == 0 {
            begin = items.start;
        } else {
            is_one_piece &= items.start == end;
        }
        end = items.end;
        total = total.saturating_add(items.len());
    }
    if O::from_usize(total).is_none() {
        return Err(ArrowError::ComputeError(format!("a batch's lists have {total} items together, of at most {}", O::MAX_OFFSET)));
    }
    let offsets = OffsetBuffer::from_lengths((0..array.len()).map(|row| of_row(row).len()));
    if is_one_piece {
        return Ok((offsets, values.slice(begin, total)));
    }
    let values = values.to_data();
    let mut copy = MutableArrayData::new(vec![&values], false, total);
    rows.clone().try_for_each(|items| copy.try_extend(0, items.start, items.end))?;
    Ok((offsets, make_array(copy.freeze())))
}
