//! Which lane a row is in, of a subscription that is shared by keys: the same for client and coordinator, whatever integers, strings
//! or times a key is written as.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::row::{RowConverter, SortField};
use arrow_schema::{ArrowError, DataType, TimeUnit};

use crate::engine::LANES;

/// The lane of each row.
///
/// # Errors
/// A column is missing, or is of a type of which there are no keys.
pub fn lanes(batch: &RecordBatch, keys: &[Arc<str>]) -> Result<Vec<u8>, ArrowError> {
    let column = |key: &Arc<str>| {
        let column = batch.column_by_name(key).ok_or_else(|| ArrowError::SchemaError(format!("there is no key column {key:?}")))?;
        widest(column)
    };
    let columns = keys.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(&columns)?;
    Ok(rows.iter().map(|row| lane(row.as_ref())).collect())
}

/// The rows that are in these lanes, in memory of their own.
///
/// # Errors
/// As [`lanes`].
pub fn rows_in(batch: &RecordBatch, keys: &[Arc<str>], mask: u64) -> Result<RecordBatch, ArrowError> {
    let is_in: BooleanArray = lanes(batch, keys)?.into_iter().map(|lane| Some(mask & (1 << lane) != 0)).collect();
    filter_record_batch(batch, &is_in)
}

/// One representation for all that are wider or narrower forms of the same.
fn widest(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let to = match column.data_type() {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => DataType::Int64,
        DataType::Float16 | DataType::Float32 => DataType::Float64,
        DataType::Utf8 | DataType::Utf8View => DataType::LargeUtf8,
        DataType::Binary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::LargeBinary,
        DataType::Date32 => DataType::Date64,
        // The zone says how it is shown.
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Dictionary(_, values) => return widest(&cast(column, values)?),
        _ => return Ok(column.clone()),
    };
    cast(column, &to)
}

fn lane(key: &[u8]) -> u8 {
    let hash = fnv1a(key);
    // Folded, as the authors advise for fewer than 16 bits.
    u8::try_from((hash ^ (hash >> 32) ^ (hash >> 16)) % u64::from(LANES)).unwrap_or_default()
}

/// FNV-1a with 64 bits: <http://www.isthe.com/chongo/tech/comp/fnv/>.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int32Array, Int64Array, LargeStringArray, StringArray, StringViewArray};
    use arrow::datatypes::Int8Type;

    use super::*;

    fn batch(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter([("key", column)]).expect("one column")
    }

    fn lanes_of(column: ArrayRef) -> Vec<u8> {
        lanes(&batch(column), &["key".into()]).expect("it has keys")
    }

    #[test]
    fn a_key_is_in_one_lane_however_it_is_written() {
        let names: Vec<_> = (0..500).map(|number| format!("user-{number}")).collect();
        let lanes = lanes_of(Arc::new(StringArray::from(names.clone())));
        assert_eq!(lanes, lanes_of(Arc::new(LargeStringArray::from(names.clone()))));
        assert_eq!(lanes, lanes_of(Arc::new(StringViewArray::from_iter_values(names.iter()))));
        let few = &names[..100];
        let dictionary: DictionaryArray<Int8Type> = few.iter().map(String::as_str).collect();
        assert_eq!(lanes[..100], lanes_of(Arc::new(dictionary)));
        let used: std::collections::BTreeSet<_> = lanes.into_iter().collect();
        assert_eq!(used.len(), 64, "500 keys are in all of them");
        let numbers = lanes_of(Arc::new(Int32Array::from_iter_values(0..500)));
        assert_eq!(numbers, lanes_of(Arc::new(Int64Array::from_iter_values(0..500))));
    }

    #[test]
    fn each_row_is_in_one_part() {
        let whole = batch(Arc::new(Int64Array::from_iter((0..100).map(|number| (number % 7 != 0).then_some(number)))));
        let keys = ["key".into()];
        let [low, high] = [u64::from(u32::MAX), !u64::from(u32::MAX)].map(|mask| rows_in(&whole, &keys, mask).expect("it has keys"));
        assert!(low.num_rows() > 20 && high.num_rows() > 20);
        assert_eq!(low.num_rows() + high.num_rows(), 100);
        let missing = rows_in(&whole, &["other".into()], 1).expect_err("there is none");
        assert!(missing.to_string().contains("other"), "{missing}");
    }
}
