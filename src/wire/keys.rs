//! Which lane a row is in, of a subscription that is shared by keys: the same for client and coordinator and for all of their versions,
//! whatever integers, strings or times a key is written as.
//!
//! A key's columns are hashed one after the other, by FNV-1a with 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>), each as a byte
//! that says what it is and the value's bytes, little endian: 0, null; 1, a whole number as 16 bytes, whatever its type; 2, another
//! float, as that of 64 bits; 3, another decimal, as 16 bytes without trailing zeros and a byte for its scale; 4, a string or binary
//! value, as its length in 8 bytes and itself; 5, a boolean, as a byte; 6, a date, in days; 7, a timestamp, 8, a time of day, and 9, a
//! duration, in nanoseconds, as 16 bytes. The lane is the hash, its upper half folded onto the lower one, modulo 64.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type};
use arrow_schema::{ArrowError, DataType, TimeUnit};

use crate::engine::LANES;

const DAY_MILLIS: i64 = 86_400_000;
/// Of a decimal of 128 bits.
const DIGITS_MAX: u8 = 38;

/// Whether there are keys of this type.
#[must_use]
pub fn is_key_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_key_type(values),
        DataType::Null
        | DataType::Boolean
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(..)
        | DataType::Duration(_) => true,
        other => other.is_integer() || other.is_floating(),
    }
}

/// The lane of each row. A column that the batch lacks is null.
///
/// # Errors
/// A column is of a type of which there are no keys.
pub fn lanes(batch: &RecordBatch, keys: &[Arc<str>]) -> Result<Vec<u8>, ArrowError> {
    let mut hashes = vec![Fnv::default(); batch.num_rows()];
    for key in keys {
        match batch.column_by_name(key) {
            Some(column) => add(column, &mut hashes)?,
            None => hashes.iter_mut().for_each(Fnv::null),
        }
    }
    Ok(hashes.iter().map(Fnv::lane).collect())
}

/// The rows that are in these lanes, in memory of their own.
///
/// # Errors
/// As [`lanes`].
pub fn rows_in(batch: &RecordBatch, keys: &[Arc<str>], mask: u64) -> Result<RecordBatch, ArrowError> {
    let is_in: BooleanArray = lanes(batch, keys)?.into_iter().map(|lane| Some(mask & (1 << lane) != 0)).collect();
    filter_record_batch(batch, &is_in)
}

fn add(column: &ArrayRef, hashes: &mut [Fnv]) -> Result<(), ArrowError> {
    let refused = |of: &DataType| Err(ArrowError::SchemaError(format!("there are no keys of type {of}")));
    match column.data_type() {
        of if !is_key_type(of) => refused(of),
        DataType::Null => {
            hashes.iter_mut().for_each(Fnv::null);
            Ok(())
        }
        DataType::Dictionary(_, values) => add(&cast(column, values)?, hashes),
        DataType::Boolean => {
            let values = column.as_boolean();
            each(values, hashes, |hash, row| hash.add(5, &[u8::from(values.value(row))]));
            Ok(())
        }
        of if of.is_integer() => add_decimals(&cast(column, &DataType::Decimal128(DIGITS_MAX, 0))?, 0, hashes),
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => {
            add_decimals(&cast(column, &DataType::Decimal128(DIGITS_MAX, *scale))?, *scale, hashes)
        }
        of if of.is_floating() => {
            let floats = cast(column, &DataType::Float64)?;
            let values = floats.as_primitive::<Float64Type>();
            each(values, hashes, |hash, row| hash.float(values.value(row)));
            Ok(())
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => add_bytes(&cast(column, &DataType::LargeUtf8)?, hashes),
        DataType::Date32 => add_numbers(&cast(&cast(column, &DataType::Int32)?, &DataType::Int64)?, (6, 1), hashes),
        DataType::Date64 => {
            let millis = cast(column, &DataType::Int64)?;
            let values = millis.as_primitive::<Int64Type>();
            each(values, hashes, |hash, row| hash.add(6, &i128::from(values.value(row).div_euclid(DAY_MILLIS)).to_le_bytes()));
            Ok(())
        }
        DataType::Timestamp(unit, _) => add_numbers(&cast(column, &DataType::Int64)?, (7, nanos(*unit)), hashes),
        DataType::Time32(unit) => add_numbers(&cast(&cast(column, &DataType::Int32)?, &DataType::Int64)?, (8, nanos(*unit)), hashes),
        DataType::Time64(unit) => add_numbers(&cast(column, &DataType::Int64)?, (8, nanos(*unit)), hashes),
        DataType::Duration(unit) => add_numbers(&cast(column, &DataType::Int64)?, (9, nanos(*unit)), hashes),
        _ => add_bytes(&cast(column, &DataType::LargeBinary)?, hashes),
    }
}

fn nanos(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

fn each(column: &dyn Array, hashes: &mut [Fnv], mut add: impl FnMut(&mut Fnv, usize)) {
    for (row, hash) in hashes.iter_mut().enumerate() {
        if column.is_null(row) { hash.null() } else { add(hash, row) }
    }
}

fn add_numbers(column: &ArrayRef, (what, times): (u8, i128), hashes: &mut [Fnv]) -> Result<(), ArrowError> {
    let values = column.as_primitive::<Int64Type>();
    each(values, hashes, |hash, row| hash.add(what, &(i128::from(values.value(row)) * times).to_le_bytes()));
    Ok(())
}

fn add_decimals(column: &ArrayRef, scale: i8, hashes: &mut [Fnv]) -> Result<(), ArrowError> {
    let values = column.as_primitive::<Decimal128Type>();
    each(values, hashes, |hash, row| hash.decimal(values.value(row), scale));
    Ok(())
}

fn add_bytes(column: &ArrayRef, hashes: &mut [Fnv]) -> Result<(), ArrowError> {
    if let Some(values) = column.as_string_opt::<i64>() {
        each(values, hashes, |hash, row| hash.bytes(values.value(row).as_bytes()));
    } else {
        let values = column.as_binary::<i64>();
        each(values, hashes, |hash, row| hash.bytes(values.value(row)));
    }
    Ok(())
}

/// A hash under way.
#[derive(Debug, Clone, Copy)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn put(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }

    fn add(&mut self, what: u8, value: &[u8]) {
        self.put(&[what]);
        self.put(value);
    }

    fn null(&mut self) {
        self.put(&[0]);
    }

    fn bytes(&mut self, value: &[u8]) {
        self.add(4, &(value.len() as u64).to_le_bytes());
        self.put(value);
    }

    /// `value` times ten to the power of -`scale`.
    fn decimal(&mut self, mut value: i128, mut scale: i8) {
        while scale > 0 && value % 10 == 0 {
            (value, scale) = (value / 10, if value == 0 { 0 } else { scale - 1 });
        }
        while scale < 0 && value.checked_mul(10).is_some() {
            (value, scale) = (value * 10, scale + 1);
        }
        match scale {
            0 => self.add(1, &value.to_le_bytes()),
            _ => {
                self.add(3, &value.to_le_bytes());
                self.put(&scale.to_le_bytes());
            }
        }
    }

    fn float(&mut self, value: f64) {
        // Whole numbers as such, so that 5 and 5.0 are one key, and 0.0 and -0.0.
        #[expect(clippy::cast_possible_truncation, reason = "it is within")]
        if value.fract() == 0.0 && value.abs() < 1e38 {
            return self.add(1, &(value as i128).to_le_bytes());
        }
        let value = if value.is_nan() { f64::NAN } else { value };
        self.add(2, &value.to_bits().to_le_bytes());
    }

    fn lane(&self) -> u8 {
        let Self(hash) = self;
        u8::try_from((hash ^ (hash >> 32)) % u64::from(LANES)).unwrap_or_default()
    }
}

/// The hash of some bytes by themselves.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = Fnv::default();
    hash.put(bytes);
    hash.0
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Date32Array, Date64Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array, LargeStringArray,
        ListArray, StringArray, StringViewArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
    };
    use arrow::datatypes::{Int8Type, Int32Type};

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
        let used: std::collections::BTreeSet<_> = numbers.iter().collect();
        assert_eq!(used.len(), 64, "500 numbers too");
        let others: [ArrayRef; 6] = [
            Arc::new(Int64Array::from_iter_values(0..500)),
            Arc::new(UInt32Array::from_iter_values(0..500)),
            Arc::new(UInt64Array::from_iter_values(0..500)),
            Arc::new(Float64Array::from_iter_values((0..500).map(f64::from))),
            Arc::new(Decimal128Array::from_iter_values(0..500).with_precision_and_scale(38, 0).expect("fits")),
            Arc::new(Decimal128Array::from_iter_values((0..500).map(|n| n * 100)).with_precision_and_scale(38, 2).expect("fits")),
        ];
        for other in others {
            assert_eq!(numbers, lanes_of(other.clone()), "{}", other.data_type());
        }
        let millis = lanes_of(Arc::new(TimestampMillisecondArray::from_iter_values(0..500)));
        let nanos = TimestampNanosecondArray::from_iter_values((0..500).map(|n| n * 1_000_000)).with_timezone("UTC");
        assert_eq!(millis, lanes_of(Arc::new(nanos)));
        let days = lanes_of(Arc::new(Date32Array::from_iter_values(0..500)));
        assert_eq!(days, lanes_of(Arc::new(Date64Array::from_iter_values((0..500).map(|n| n * DAY_MILLIS)))));
        let floats = lanes_of(Arc::new(Float64Array::from(vec![-0.0, f64::NAN, 0.5])));
        assert_eq!(floats, lanes_of(Arc::new(Float32Array::from(vec![0.0, -f32::NAN, 0.5]))));
    }

    #[test]
    fn the_lanes_of_keys_are_what_they_were_in_every_version() {
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8, "as the authors have it");
        assert_eq!(lanes_of(Arc::new(Int64Array::from(vec![Some(0), Some(1), Some(-1), None]))), [43, 34, 57, 19]);
        assert_eq!(lanes_of(Arc::new(StringArray::from(vec!["", "a", "bowstring"]))), [48, 9, 57]);
    }

    #[test]
    fn each_row_is_in_one_part_and_a_missing_column_is_null() {
        let whole = batch(Arc::new(Int64Array::from_iter((0..100).map(|number| (number % 7 != 0).then_some(number)))));
        let keys = ["key".into()];
        let [low, high] = [u64::from(u32::MAX), !u64::from(u32::MAX)].map(|mask| rows_in(&whole, &keys, mask).expect("it has keys"));
        assert!(low.num_rows() > 20 && high.num_rows() > 20);
        assert_eq!(low.num_rows() + high.num_rows(), 100);
        let nulls = lanes_of(Arc::new(Int64Array::new_null(100)));
        assert_eq!(lanes(&whole, &["other".into()]).expect("all null"), nulls);
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
        let refused = lanes(&batch(Arc::new(lists)), &["key".into()]).expect_err("a list is no key");
        assert!(refused.to_string().contains("List"), "{refused}");
    }
}
