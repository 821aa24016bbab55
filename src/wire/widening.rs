//! Which types are wider than others: each value of the narrow one is one of the wide one. docs/schemas.md has the table.

use arrow_schema::{DataType, TimeUnit};

/// Whether `wide` has all values of `narrow`, and is another type. Finer units of time reach less far from 1970: what does not fit is
/// refused when it is read. Of nested types only the leaves are looked at, by whoever walks them.
#[must_use]
pub fn widens(narrow: &DataType, wide: &DataType) -> bool {
    use DataType::{Date32, Date64, Dictionary, Duration, Null, Time32, Time64, Timestamp};
    match (narrow, wide) {
        (Null, other) => *other != Null,
        (Date32, Date64) => true,
        (Time32(narrow) | Time64(narrow), Time32(wide) | Time64(wide)) | (Duration(narrow), Duration(wide)) => finer(*narrow, *wide),
        (Timestamp(narrow, zone), Timestamp(wide, other)) => zone == other && finer(*narrow, *wide),
        (Dictionary(narrow, values), Dictionary(wide, others)) => values == others && widens(narrow, wide),
        _ => widens_number(narrow, wide) || widens_decimal(narrow, wide) || widens_text(narrow, wide),
    }
}

/// Whether a value of a number type can be one of the other, at least if it is small enough. Floats are no decimals.
#[must_use]
pub fn are_numbers(one: &DataType, other: &DataType) -> bool {
    let plain = |data_type: &DataType| data_type.is_integer() || data_type.is_floating();
    let whole = |data_type: &DataType| data_type.is_integer() || decimal(data_type).is_some();
    (plain(one) && plain(other)) || (whole(one) && whole(other))
}

fn finer(than: TimeUnit, unit: TimeUnit) -> bool {
    let rank = |unit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    rank(than) < rank(unit)
}

/// By the bits of an integer, and of a float's mantissa: as many integers as that it has all of.
fn widens_number(narrow: &DataType, wide: &DataType) -> bool {
    let (Some(from), Some(to)) = (number(narrow), number(wide)) else { return false };
    match (from, to) {
        (Number::Signed(from), Number::Signed(to))
        | (Number::Unsigned(from), Number::Unsigned(to))
        | (Number::Float(from), Number::Float(to))
        | (Number::Unsigned(from), Number::Signed(to)) => from < to,
        (Number::Signed(from) | Number::Unsigned(from), Number::Float(to)) => from <= to,
        (Number::Signed(_), Number::Unsigned(_)) | (Number::Float(_), Number::Signed(_) | Number::Unsigned(_)) => false,
    }
}

enum Number {
    Signed(u8),
    Unsigned(u8),
    Float(u8),
}

fn number(data_type: &DataType) -> Option<Number> {
    Some(match data_type {
        DataType::Int8 => Number::Signed(8),
        DataType::Int16 => Number::Signed(16),
        DataType::Int32 => Number::Signed(32),
        DataType::Int64 => Number::Signed(64),
        DataType::UInt8 => Number::Unsigned(8),
        DataType::UInt16 => Number::Unsigned(16),
        DataType::UInt32 => Number::Unsigned(32),
        DataType::UInt64 => Number::Unsigned(64),
        DataType::Float16 => Number::Float(11),
        DataType::Float32 => Number::Float(24),
        DataType::Float64 => Number::Float(53),
        _ => return None,
    })
}

/// More digits before the point and behind it, in a type of the same width or a larger one.
fn widens_decimal(narrow: &DataType, wide: &DataType) -> bool {
    let (Some(from), Some(to)) = (decimal(narrow), decimal(wide)) else { return false };
    from != to && from.width <= to.width && from.scale <= to.scale && from.digits_before() <= to.digits_before()
}

#[derive(PartialEq)]
struct Decimal {
    width: u16,
    precision: u8,
    scale: i8,
}

impl Decimal {
    fn digits_before(&self) -> i16 {
        i16::from(self.precision) - i16::from(self.scale)
    }
}

fn decimal(data_type: &DataType) -> Option<Decimal> {
    let (width, precision, scale) = match *data_type {
        DataType::Decimal32(precision, scale) => (32, precision, scale),
        DataType::Decimal64(precision, scale) => (64, precision, scale),
        DataType::Decimal128(precision, scale) => (128, precision, scale),
        DataType::Decimal256(precision, scale) => (256, precision, scale),
        _ => return None,
    };
    Some(Decimal { width, precision, scale })
}

/// Plain ones have up to 2 GiB in a batch, views that much in each value, large ones any number of bytes.
fn widens_text(narrow: &DataType, wide: &DataType) -> bool {
    use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
    matches!(
        (narrow, wide),
        (Utf8, Utf8View | LargeUtf8) | (Utf8View, LargeUtf8) | (Binary, BinaryView | LargeBinary) | (BinaryView, LargeBinary)
    )
}

#[cfg(test)]
mod tests {
    use DataType::*;

    use super::*;

    fn zoned(unit: TimeUnit, zone: &str) -> DataType {
        Timestamp(unit, Some(zone.into()))
    }

    #[test]
    fn each_row_of_the_table_goes_one_way_only() {
        let pairs = [
            (Null, Struct(arrow_schema::Fields::empty())),
            (Int8, Int16),
            (Int8, Int64),
            (Int32, Int64),
            (UInt8, UInt16),
            (UInt32, UInt64),
            (UInt8, Int16),
            (UInt32, Int64),
            (Int8, Float16),
            (UInt16, Float32),
            (Int32, Float64),
            (UInt32, Float64),
            (Float16, Float32),
            (Float32, Float64),
            (Utf8, LargeUtf8),
            (Utf8, Utf8View),
            (Utf8View, LargeUtf8),
            (Binary, LargeBinary),
            (Binary, BinaryView),
            (BinaryView, LargeBinary),
            (Date32, Date64),
            (Time32(TimeUnit::Second), Time32(TimeUnit::Millisecond)),
            (Time32(TimeUnit::Millisecond), Time64(TimeUnit::Nanosecond)),
            (Duration(TimeUnit::Second), Duration(TimeUnit::Microsecond)),
            (Timestamp(TimeUnit::Millisecond, None), Timestamp(TimeUnit::Nanosecond, None)),
            (zoned(TimeUnit::Millisecond, "UTC"), zoned(TimeUnit::Microsecond, "UTC")),
            (Decimal32(5, 2), Decimal32(9, 2)),
            (Decimal128(10, 2), Decimal128(12, 4)),
            (Decimal64(10, 2), Decimal256(10, 2)),
            (Dictionary(Box::new(Int8), Box::new(Utf8)), Dictionary(Box::new(Int32), Box::new(Utf8))),
        ];
        for (narrow, wide) in pairs {
            assert!(widens(&narrow, &wide), "{narrow} to {wide}");
            assert!(!widens(&wide, &narrow), "{wide} to {narrow}");
            assert!(!widens(&narrow, &narrow), "{narrow}");
        }
    }

    #[test]
    fn what_would_change_a_value_is_not_wider() {
        let pairs = [
            (Int64, Float64),
            (UInt64, Int64),
            (Int8, UInt64),
            (Int32, Float32),
            (Int16, Float16),
            (Boolean, Int8),
            (Utf8, Binary),
            (Date32, Timestamp(TimeUnit::Second, None)),
            (Timestamp(TimeUnit::Second, None), zoned(TimeUnit::Nanosecond, "UTC")),
            (zoned(TimeUnit::Second, "UTC"), zoned(TimeUnit::Nanosecond, "Europe/Berlin")),
            (Decimal128(10, 2), Decimal128(10, 4)),
            (Decimal128(10, 2), Decimal64(12, 2)),
            (Int32, Decimal128(38, 0)),
            (Dictionary(Box::new(Int8), Box::new(Utf8)), Utf8),
        ];
        for (one, other) in pairs {
            assert!(!widens(&one, &other) && !widens(&other, &one), "{one} and {other}");
        }
    }
}
