//! The hash of a row's key: the same in every process, run and version, for streams are full of rows that went by it.
//!
//! Each of a key's columns is a number of 64 bits. Whole numbers, dates and times are that number, whatever their width, negative ones as
//! two's complement; booleans 0 and 1; floats the bits of their 64-bit form, where -0.0 is 0.0 and NaNs are quiet; text and bytes their
//! CRC-32, with their Adler-32 as the upper half; decimals the same of their text, as Java's `BigDecimal` writes it; a null a number of its
//! own. A column's number is mixed by the finalizer of splitmix64, and several columns as `mix(31 * former + mix(column))`.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayAccessor, ArrayIter, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Float16Type, Float32Type, Float64Type, Int64Type, UInt64Type,
};
use arrow_schema::{ArrowError, DataType};

/// What a null counts as: any fixed number does, so that all nulls meet in one partition.
const NULL: u64 = 0x9E37_79B9_7F4A_7C15;
/// The bits that make a double a NaN, and a quiet one.
const QUIET_NAN: u64 = 0x7FF8 << 48;

/// Whether there are keys of this type.
pub(super) fn is_key_type(of: &DataType) -> bool {
    match of {
        DataType::Dictionary(_, values) => !matches!(**values, DataType::Dictionary(..)) && is_key_type(values),
        DataType::Interval(_) => false,
        DataType::Boolean
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => true,
        of => of.is_numeric() || of.is_temporal(),
    }
}

/// A hash of each row's key, of columns with [`is_key_type`].
pub(super) fn hash(columns: &[&ArrayRef]) -> Result<Vec<u64>, ArrowError> {
    let Some((first, others)) = columns.split_first() else { return Ok(Vec::new()) };
    let mut hashes = numbers(first)?;
    hashes.iter_mut().for_each(|hash| *hash = mix(*hash));
    for column in others {
        for (hash, number) in hashes.iter_mut().zip(numbers(column)?) {
            *hash = mix(hash.wrapping_mul(31).wrapping_add(mix(number)));
        }
    }
    Ok(hashes)
}

/// The finalizer of splitmix64: every input bit changes every output bit.
fn mix(mut bits: u64) -> u64 {
    for (shift, factor) in [(30, 0xBF58_476D_1CE4_E5B9), (27, 0x94D0_49BB_1331_11EB)] {
        bits = (bits ^ (bits >> shift)).wrapping_mul(factor);
    }
    bits ^ (bits >> 31)
}

fn numbers(column: &ArrayRef) -> Result<Vec<u64>, ArrowError> {
    Ok(match column.data_type() {
        DataType::Boolean => each(column.as_boolean(), u64::from),
        DataType::UInt64 => each(column.as_primitive::<UInt64Type>(), |value| value),
        DataType::Date32 | DataType::Time32(_) => numbers(&cast(column, &DataType::Int32)?)?,
        DataType::Float16 => each(column.as_primitive::<Float16Type>(), |value| double(value.into(), value.to_bits().into(), 16, 10)),
        DataType::Float32 => each(column.as_primitive::<Float32Type>(), |value| double(value.into(), value.to_bits().into(), 32, 23)),
        DataType::Float64 => each(column.as_primitive::<Float64Type>(), |value| double(value, value.to_bits(), 64, 52)),
        DataType::Utf8 => each(column.as_string::<i32>(), |value| checksums(value.as_bytes())),
        DataType::LargeUtf8 => each(column.as_string::<i64>(), |value| checksums(value.as_bytes())),
        DataType::Utf8View => each(column.as_string_view(), |value| checksums(value.as_bytes())),
        DataType::Binary => each(column.as_binary::<i32>(), checksums),
        DataType::LargeBinary => each(column.as_binary::<i64>(), checksums),
        DataType::BinaryView => each(column.as_binary_view(), checksums),
        DataType::FixedSizeBinary(_) => each(column.as_fixed_size_binary(), checksums),
        DataType::Decimal32(_, scale) => decimals::<Decimal32Type>(column, *scale, |text, value| write!(text, "{value}")),
        DataType::Decimal64(_, scale) => decimals::<Decimal64Type>(column, *scale, |text, value| write!(text, "{value}")),
        DataType::Decimal128(_, scale) => decimals::<Decimal128Type>(column, *scale, |text, value| write!(text, "{value}")),
        DataType::Decimal256(_, scale) => decimals::<Decimal256Type>(column, *scale, |text, value| match value.to_i128() {
            Some(value) => write!(text, "{value}"),
            None => write!(text, "{value}"),
        }),
        DataType::Dictionary(_, of) => {
            let dictionary = column.as_any_dictionary();
            if dictionary.values().len() > column.len() || dictionary.values().is_empty() {
                return numbers(&cast(column, of)?);
            }
            let values = numbers(dictionary.values())?;
            let number = |(row, key): (usize, usize)| if column.is_null(row) { NULL } else { values[key] };
            dictionary.normalized_keys().into_iter().enumerate().map(number).collect()
        }
        _ => each(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>(), i64::cast_unsigned),
    })
}

fn each<A: ArrayAccessor>(column: A, number: impl Fn(A::Item) -> u64) -> Vec<u64> {
    ArrayIter::new(column).map(|value| value.map_or(NULL, &number)).collect()
}

/// The bits of `value`, which may come from a narrower float: its own `bits` with a sign before and `mantissa` behind. A NaN's bits are
/// moved by hand, for how a processor does it is no promise of Rust's.
fn double(value: f64, bits: u64, width: u32, mantissa: u32) -> u64 {
    if value.is_nan() {
        let (sign, payload) = (bits >> (width - 1), bits & ((1 << mantissa) - 1));
        return sign << 63 | QUIET_NAN | payload << (52 - mantissa);
    }
    // Else -0.0 and 0.0 were two keys.
    if value == 0.0 { 0 } else { value.to_bits() }
}

fn checksums(bytes: &[u8]) -> u64 {
    u64::from(crc32fast::hash(bytes)) | u64::from(adler2::adler32_slice(bytes)) << 32
}

fn decimals<T: DecimalType>(column: &ArrayRef, scale: i8, write: impl Fn(&mut String, T::Native) -> std::fmt::Result) -> Vec<u64> {
    let (mut digits, mut text) = (String::new(), String::new());
    let mut number = |value: T::Native| {
        digits.clear();
        text.clear();
        // Writing to a string does not fail.
        let _ = write(&mut digits, value).and_then(|()| write_decimal(&mut text, &digits, scale));
        checksums(text.as_bytes())
    };
    column.as_primitive::<T>().iter().map(|value| value.map_or(NULL, &mut number)).collect()
}

/// With an exponent where Java's `BigDecimal` writes one.
fn write_decimal(text: &mut String, value: &str, scale: i8) -> std::fmt::Result {
    let (sign, digits) = value.strip_prefix('-').map_or(("", value), |digits| ("-", digits));
    text.push_str(sign);
    // Of at most 77 digits.
    let exponent = i16::try_from(digits.len()).unwrap_or(i16::MAX) - 1 - i16::from(scale);
    if scale < 0 || exponent < -6 {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        return write!(text, "{first}{point}{rest}E{exponent:+}");
    }
    let behind = usize::from(scale.unsigned_abs());
    match digits.len().checked_sub(behind) {
        _ if behind == 0 => text.push_str(digits),
        Some(before) if before > 0 => write!(text, "{}.{}", &digits[..before], &digits[before..])?,
        _ => write!(text, "0.{digits:0>behind$}")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow_ipc::reader::StreamReader;

    use super::*;
    use crate::spark::routing::Routing;

    /// Keys of every type, and in the columns that are named by a routing what they hash to. Made with pyarrow by the sink that wrote
    /// the first streams: this file never changes, and types that come later get one of their own.
    const KEYS: &[u8] = include_bytes!("../../tests/golden/routing.arrow");

    fn keys() -> RecordBatch {
        StreamReader::try_new(KEYS, None).expect("a stream").next().expect("one batch").expect("a batch")
    }

    #[test]
    fn a_key_has_the_hash_that_it_has_always_had() {
        let (keys, mut checked) = (keys(), 0);
        for field in keys.schema().fields() {
            let Ok(Routing::Hash(names)) = field.name().parse() else { continue };
            let columns: Vec<_> = names.iter().map(|name| keys.column_by_name(name).expect("a column")).collect();
            assert!(columns.iter().all(|column| is_key_type(column.data_type())));
            let expected = keys.column_by_name(field.name()).expect("a column").as_primitive::<UInt64Type>();
            let found = hash(&columns).expect("hashes");
            for (row, (found, expected)) in found.iter().zip(expected.values()).enumerate() {
                let value = |column: &&ArrayRef| arrow::util::display::array_value_to_string(column, row).expect("a value");
                assert_eq!(found, expected, "{} of {:?}", field.name(), columns.iter().map(value).collect::<Vec<_>>());
            }
            let rows: Vec<_> = columns.iter().map(|column| column.slice(7, 20)).collect();
            assert_eq!(hash(&rows.iter().collect::<Vec<_>>()).expect("hashes"), found[7..27], "a slice of {}", field.name());
            checked += 1;
        }
        assert_eq!(checked, 54);
    }

    #[test]
    fn decimals_are_written_as_java_writes_them() {
        let text = |value: &str, scale| {
            let mut text = String::new();
            write_decimal(&mut text, value, scale).map(|()| text)
        };
        let table = [
            ("123", 0, "123"),
            ("-123", 1, "-12.3"),
            ("123", 3, "0.123"),
            ("-123", 5, "-0.00123"),
            ("123", 8, "0.00000123"),
            ("-123", 9, "-1.23E-7"),
            ("0", 6, "0.000000"),
            ("0", 7, "0E-7"),
            ("0", -1, "0E+1"),
            ("-123", -2, "-1.23E+4"),
        ];
        for (value, scale, expected) in table {
            assert_eq!(text(value, scale).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_dictionary_has_the_hashes_of_its_values() {
        let text: ArrayRef = std::sync::Arc::new(arrow::array::StringArray::from(vec![Some("a"), None, Some("b"), Some("a")]));
        let packed = cast(&text, &DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8))).expect("casts");
        for (plain, packed) in
            [(text.clone(), packed.clone()), (text.slice(1, 1), packed.slice(1, 1)), (text.slice(0, 0), packed.slice(0, 0))]
        {
            assert_eq!(hash(&[&packed]).expect("hashes"), hash(&[&plain]).expect("hashes"));
        }
        let nulls = arrow::array::new_null_array(packed.data_type(), 2);
        assert_eq!(hash(&[&nulls]).expect("hashes"), [mix(NULL); 2]);
    }
}
