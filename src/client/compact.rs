//! Rows of a batch in memory of their own: a view of a few rows would hold on to all of the batch.

use std::ops::Range;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, MutableArrayData, RecordBatch, RecordBatchOptions, make_array};
use arrow_schema::{ArrowError, DataType};

/// Bytes of a batch's buffers, of one that is no view of a larger one. Values of dictionaries do not count: batches share them.
pub(super) fn memory_bytes(batch: &RecordBatch) -> u64 {
    batch.columns().iter().map(|column| bytes_of(&column.to_data())).sum()
}

fn bytes_of(data: &ArrayData) -> u64 {
    let buffers = data.buffers().iter().map(|buffer| buffer.len() as u64).sum::<u64>();
    let nulls = data.nulls().map_or(0, |nulls| nulls.buffer().len() as u64);
    let children = match data.data_type() {
        DataType::Dictionary(..) => 0,
        _ => data.child_data().iter().map(bytes_of).sum(),
    };
    buffers + nulls + children
}

/// These rows, in memory of their own but for the values of dictionaries.
///
/// # Errors
/// Arrow cannot copy them.
pub(super) fn compacted(batch: &RecordBatch, rows: Range<usize>) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| copied(column, &rows)).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

fn copied(column: &ArrayRef, rows: &Range<usize>) -> Result<ArrayRef, ArrowError> {
    let data = column.to_data();
    let mut copy = MutableArrayData::new(vec![&data], false, rows.len());
    copy.try_extend(0, rows.start, rows.end)?;
    Ok(make_array(without_unused(copy.freeze())?))
}

/// What was copied but for views, which still point into all of the batch's strings.
pub(crate) fn without_unused(data: ArrayData) -> Result<ArrayData, ArrowError> {
    match data.data_type() {
        DataType::Utf8View => Ok(make_array(data).as_string_view().gc().into_data()),
        DataType::BinaryView => Ok(make_array(data).as_binary_view().gc().into_data()),
        _ if has_views(&data) => {
            let children = data.child_data().iter().cloned().map(without_unused).collect::<Result<Vec<_>, _>>()?;
            data.into_builder().child_data(children).build()
        }
        _ => Ok(data),
    }
}

/// Within its children.
fn has_views(data: &ArrayData) -> bool {
    let is_view = |data: &ArrayData| matches!(data.data_type(), DataType::Utf8View | DataType::BinaryView) || has_views(data);
    !matches!(data.data_type(), DataType::Dictionary(..)) && data.child_data().iter().any(is_view)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        DictionaryArray, Int32Array, Int64Array, ListArray, NullArray, StringArray, StringViewArray, StructArray, UnionArray,
    };
    use arrow::buffer::{OffsetBuffer, ScalarBuffer};
    use arrow::datatypes::Int32Type;
    use arrow_schema::{Field, Schema, UnionFields};

    use super::*;

    const ROWS: usize = 10_000;
    const NUMBERS: Range<i64> = 0..10_000;

    fn text(row: usize) -> String {
        format!("a text that is too long to lie in a view itself: {row}")
    }

    /// Every way in which arrays lie in memory.
    fn batch() -> RecordBatch {
        let views: ArrayRef = Arc::new(StringViewArray::from_iter((0..ROWS).map(|row| (row % 7 != 0).then(|| text(row)))));
        let item = Arc::new(Field::new("item", DataType::Utf8View, true));
        let nested = ListArray::new(item, OffsetBuffer::from_lengths(std::iter::repeat_n(1, ROWS)), views.clone(), None);
        let fields = vec![Field::new("views", DataType::Utf8View, true)];
        let keys = Int32Array::from_iter_values([0, 1, 2].into_iter().cycle().take(ROWS));
        let dictionary = DictionaryArray::<Int32Type>::new(keys, Arc::new(StringArray::from(vec!["a", "b", "c"])));
        let union_fields = UnionFields::try_new([0, 1], [Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8, true)]);
        let union = UnionArray::try_new(
            union_fields.expect("two fields"),
            ScalarBuffer::from_iter([0, 1].into_iter().cycle().take(ROWS)),
            None,
            vec![Arc::new(Int64Array::from_iter_values(NUMBERS)), Arc::new(StringArray::from_iter_values((0..ROWS).map(text))) as ArrayRef],
        );
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from_iter(NUMBERS.map(|row| (row % 5 != 0).then_some(row))))),
            ("s", Arc::new(StringArray::from_iter_values((0..ROWS).map(text)))),
            ("bits", Arc::new((0..ROWS).map(|row| Some(row % 3 == 0)).collect::<arrow::array::BooleanArray>())),
            ("v", views.clone()),
            ("list", Arc::new(nested)),
            ("struct", Arc::new(StructArray::new(fields.into(), vec![views], None))),
            ("dictionary", Arc::new(dictionary)),
            ("nothing", Arc::new(NullArray::new(ROWS))),
            ("union", Arc::new(union.expect("as many types as rows"))),
        ];
        RecordBatch::try_from_iter(columns).expect("as many rows in each")
    }

    #[test]
    fn a_slice_has_the_rows_and_a_share_of_the_bytes() {
        let batch = batch();
        for rows in [0..1, 17..19, ROWS - 1..ROWS, 5..5, 0..ROWS] {
            let slice = compacted(&batch, rows.clone()).expect("is copied");
            assert_eq!(slice, batch.slice(rows.start, rows.len()));
            for (column, name) in slice.columns().iter().zip(batch.schema().fields()) {
                let bytes: usize = buffers(&column.to_data());
                assert!(bytes <= 1_024 + rows.len() * 1_024, "{bytes} bytes for {} rows of {}", rows.len(), name.name());
            }
        }
    }

    /// All memory that an array holds on to, but for a dictionary's values.
    fn buffers(data: &ArrayData) -> usize {
        let own: usize = data.buffers().iter().map(|buffer| buffer.capacity()).sum();
        let nulls = data.nulls().map_or(0, |nulls| nulls.buffer().capacity());
        let is_dictionary = matches!(data.data_type(), DataType::Dictionary(..));
        own + nulls + if is_dictionary { 0 } else { data.child_data().iter().map(buffers).sum() }
    }

    #[test]
    fn bytes_in_memory_are_those_of_the_buffers() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let strings: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n("1234", 100)));
        let batch = RecordBatch::try_from_iter([("n", numbers), ("s", strings)]).expect("as many rows");
        assert_eq!(memory_bytes(&batch), 800 + 101 * 4 + 400);
        let options = RecordBatchOptions::new().with_row_count(Some(7));
        let none = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("no columns");
        assert_eq!(memory_bytes(&none), 0);
        assert_eq!(compacted(&none, 2..5).expect("is copied").num_rows(), 3);
    }
}
