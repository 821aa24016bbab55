//! A value as a binary format has it, and what a column takes of it: nothing is cut, nothing wraps.

use arrow::datatypes::i256;
use arrow_schema::{DataType, TimeUnit};

use super::decimal::{Decimal, Misfit};

/// One value that is no list, no map and no record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar<'a> {
    Bool(bool),
    Int(i64),
    UInt(u64),
    Single(f32),
    Double(f64),
    /// A number as it is written: "12", "-1.5e3".
    Number(&'a str),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Its name and its number.
    Enum(&'a str, i32),
    /// Big-endian two's complement, and the scale.
    Decimal(&'a [u8], i64),
    /// Since 1970.
    Days(i64),
    Ticks(i64, TimeUnit, Clock),
    Nanos(i128, Clock),
}

/// What a time is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// A point in time.
    Instant,
    /// What a clock on some wall showed.
    Local,
    OfDay,
    Span,
}

/// What values of one place in a writer's schema are: known before any row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Bool,
    Int,
    Float,
    Text,
    Bytes,
    Enum,
    Decimal,
    Days,
    /// With the number that is written, or, as Protobuf's, without one.
    Time(Clock, bool),
}

impl Class {
    /// Whether a column of this type takes such values, if they are in its range.
    pub(super) fn fits(self, to: &DataType, lenient: bool) -> bool {
        use DataType::{Date32, Date64, Duration, Int32, Int64, Time32, Time64, Timestamp};
        let is_text = matches!(to, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let is_bytes = to.is_binary() || matches!(to, DataType::FixedSizeBinary(_));
        match self {
            Self::Bool => *to == DataType::Boolean || lenient && is_text,
            Self::Int => to.is_numeric() || to.is_temporal() || lenient && is_text,
            Self::Float => to.is_integer() || to.is_floating() || lenient && is_text,
            Self::Text => is_text || lenient && (is_bytes || to.is_numeric()),
            Self::Bytes => is_bytes || lenient && is_text,
            Self::Enum => is_text || to.is_integer(),
            Self::Decimal => {
                matches!(to, DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..))
            }
            Self::Days => matches!(to, Date32 | Date64 | Int32 | Int64),
            Self::Time(_, true) if *to == Int64 => true,
            Self::Time(Clock::Instant, _) => matches!(to, Timestamp(..)),
            Self::Time(Clock::Local, _) => matches!(to, Timestamp(_, None)),
            Self::Time(Clock::OfDay, has_number) => matches!(to, Time32(_) | Time64(_)) || has_number && *to == Int32,
            Self::Time(Clock::Span, _) => matches!(to, Duration(_)),
        }
    }
}

impl Scalar<'_> {
    /// For a column of integers or times, its number.
    pub(super) fn integer(self, to: &DataType, lenient: bool) -> Result<i64, String> {
        let value = match (self, to) {
            (Self::Int(value) | Self::Days(value) | Self::Ticks(value, ..), to) if to.is_integer() => value,
            (Self::Int(value), _) => value,
            (Self::UInt(value), _) => i64::try_from(value).map_err(|_| outside(&value, to))?,
            (Self::Enum(_, value), _) => value.into(),
            (Self::Single(value), to) => whole(value.into(), to)?,
            (Self::Double(value), to) => whole(value, to)?,
            (Self::Number(text), to) => written_whole(text, to)?,
            (Self::Text(text), to) if lenient => written_whole(text, to)?,
            (Self::Days(value), DataType::Date64) => value.checked_mul(86_400_000).ok_or_else(|| outside(&value, to))?,
            (Self::Days(value), _) => value,
            (Self::Ticks(value, from, _), to) if unit(to) == Some(from) => value,
            (Self::Ticks(value, from, _), to) => ticks(i128::from(value) * nanos(from), to)?,
            (Self::Nanos(value, _), to) => ticks(value, to)?,
            _ => return Err(self.refused(to)),
        };
        if in_range(value, to) { Ok(value) } else { Err(outside(&value, to)) }
    }

    /// For a column of 64 bits without a sign.
    pub(super) fn unsigned(self, to: &DataType, lenient: bool) -> Result<u64, String> {
        match self {
            Self::UInt(value) => Ok(value),
            Self::Number(text) => written_whole(text, to),
            Self::Text(text) if lenient => written_whole(text, to),
            Self::Single(value) if f64::from(value) >= TWO_63 => whole_unsigned(value.into(), to),
            Self::Double(value) if value >= TWO_63 => whole_unsigned(value, to),
            other => other.integer(&DataType::Int64, lenient).and_then(|value| u64::try_from(value).map_err(|_| outside(&value, to))),
        }
    }

    /// For a column of floats. An integer is one only where it is the same; fractions, and what is written as text, are rounded to the
    /// column's width.
    pub(super) fn float(self, to: &DataType, lenient: bool) -> Result<f64, String> {
        let (value, max, bits) = match to {
            DataType::Float16 => (self.as_float(to, lenient)?, 65_504.0, 11),
            DataType::Float32 => (self.as_float(to, lenient)?, f32::MAX.into(), 24),
            _ => (self.as_float(to, lenient)?, f64::MAX, 53),
        };
        let integer = match self {
            Self::Int(value) => value.unsigned_abs(),
            Self::UInt(value) => value,
            _ => 0,
        };
        let is_exact = 64 - integer.leading_zeros() <= bits + integer.trailing_zeros();
        if is_exact && (!value.is_finite() || value.abs() <= max) { Ok(value) } else { Err(outside(&value, to)) }
    }

    fn as_float(self, to: &DataType, lenient: bool) -> Result<f64, String> {
        match self {
            Self::Single(value) => Ok(value.into()),
            Self::Double(value) => Ok(value),
            #[expect(clippy::cast_precision_loss, reason = "whether it is the same is looked at by who calls")]
            Self::Int(value) => Ok(value as f64),
            #[expect(clippy::cast_precision_loss, reason = "whether it is the same is looked at by who calls")]
            Self::UInt(value) => Ok(value as f64),
            Self::Number(text) => written_float(text, to),
            Self::Text(text) if lenient => written_float(text, to),
            other => Err(other.refused(to)),
        }
    }

    /// For a column of decimals with this scale and values below `limit`.
    pub(super) fn decimal(self, to: &DataType, scale: i8, limit: i256, lenient: bool) -> Result<i256, String> {
        let none = |text: &str| format!("the text {} is no decimal", shown(text));
        let (decimal, from) = match self {
            Self::Int(value) => (Ok(Decimal::whole(value.into())), String::new()),
            Self::UInt(value) => (Ok(Decimal::whole(value.into())), String::new()),
            Self::Decimal(bytes, from) => {
                let decimal =
                    Decimal::from_be_bytes(bytes, from).ok_or_else(|| format!("a decimal of {} bytes fits no {to}", bytes.len()))?;
                (Ok(decimal), format!(" of scale {from}"))
            }
            Self::Number(text) => (Decimal::parsed(text).ok_or_else(|| none(text))?, String::new()),
            Self::Text(text) if lenient => (Decimal::parsed(text).ok_or_else(|| none(text))?, String::new()),
            other => return Err(other.refused(to)),
        };
        match decimal.and_then(|decimal| decimal.at(scale.into())) {
            Ok(value) if value < limit && value > -limit => Ok(value),
            Err(Misfit::Cut) => Err(format!("a decimal{from} would be cut to be {to}")),
            _ => Err(format!("a decimal{from} is outside of {to}")),
        }
    }

    /// For a column of text or bytes, at the end of what it has.
    pub(super) fn append(self, data: &mut Vec<u8>, to: &DataType, lenient: bool) -> Result<(), String> {
        let is_text = to.is_string();
        match self {
            Self::Number(text) if is_text && lenient => data.extend_from_slice(text.as_bytes()),
            Self::Text(text) if is_text || lenient => data.extend_from_slice(text.as_bytes()),
            Self::Enum(name, _) if is_text => data.extend_from_slice(name.as_bytes()),
            Self::Bytes(bytes) if !is_text => data.extend_from_slice(bytes),
            Self::Bytes(bytes) if lenient => {
                data.extend_from_slice(std::str::from_utf8(bytes).map_err(|_| "bytes that are no UTF-8 are no text")?.as_bytes());
            }
            Self::Bool(value) if is_text && lenient => data.extend_from_slice(value.to_string().as_bytes()),
            Self::Int(value) if is_text && lenient => data.extend_from_slice(value.to_string().as_bytes()),
            Self::UInt(value) if is_text && lenient => data.extend_from_slice(value.to_string().as_bytes()),
            Self::Single(value) if is_text && lenient => data.extend_from_slice(format!("{value:?}").as_bytes()),
            Self::Double(value) if is_text && lenient => data.extend_from_slice(format!("{value:?}").as_bytes()),
            other => return Err(other.refused(to)),
        }
        Ok(())
    }

    pub(super) fn refused(self, to: &DataType) -> String {
        let what = match self {
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::UInt(_) => "an integer",
            Self::Single(_) | Self::Double(_) => "a float",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Enum(..) => "a name of an enum",
            Self::Decimal(..) => "a decimal",
            Self::Days(_) => "a date",
            Self::Ticks(..) | Self::Nanos(..) => "a time",
        };
        format!("it is {to}, and the row has {what}")
    }
}

/// 2^63, the first float that is no i64.
const TWO_63: f64 = 9_223_372_036_854_775_808.0;

fn whole(value: f64, to: &DataType) -> Result<i64, String> {
    if !(-TWO_63..TWO_63).contains(&value) {
        return Err(outside(&value, to));
    }
    if value.fract() != 0.0 {
        return Err(format!("it is {to}, and the row has a number with a fraction"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole, and within its range")]
    Ok(value as i64)
}

fn whole_unsigned(value: f64, to: &DataType) -> Result<u64, String> {
    if value >= 2.0 * TWO_63 {
        return Err(outside(&value, to));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 2^63 on all are whole, and within its range")]
    Ok(value as u64)
}

/// Nanoseconds in the unit of a column of times.
fn ticks(value: i128, to: &DataType) -> Result<i64, String> {
    let unit = unit(to).ok_or_else(|| format!("it is {to}, and the row has a time"))?;
    if value % nanos(unit) != 0 {
        return Err(format!("it is {to}, and the row has a time with a fraction of its unit"));
    }
    i64::try_from(value / nanos(unit)).map_err(|_| outside(&value, to))
}

fn unit(of: &DataType) -> Option<TimeUnit> {
    match of {
        DataType::Timestamp(unit, _) | DataType::Time32(unit) | DataType::Time64(unit) | DataType::Duration(unit) => Some(*unit),
        _ => None,
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

fn in_range(value: i64, to: &DataType) -> bool {
    match to {
        DataType::Int8 => i8::try_from(value).is_ok(),
        DataType::Int16 => i16::try_from(value).is_ok(),
        DataType::Int32 | DataType::Date32 => i32::try_from(value).is_ok(),
        DataType::UInt8 => u8::try_from(value).is_ok(),
        DataType::UInt16 => u16::try_from(value).is_ok(),
        DataType::UInt32 => u32::try_from(value).is_ok(),
        DataType::Time32(unit) | DataType::Time64(unit) => (0..86_400_000_000_000).contains(&(i128::from(value) * nanos(*unit))),
        _ => true,
    }
}

fn outside(value: &dyn std::fmt::Display, to: &DataType) -> String {
    format!("{value} is outside of {to}")
}

/// A number as text for a column of integers.
fn written_whole<T: std::str::FromStr + TryFrom<i128>>(text: &str, to: &DataType) -> Result<T, String> {
    if let Ok(value) = text.parse() {
        return Ok(value);
    }
    match Decimal::parsed(text).map(|decimal| decimal.and_then(|decimal| decimal.at(0))) {
        None => Err(format!("the text {} is no {to}", shown(text))),
        Some(Err(Misfit::Cut)) => Err(format!("it is {to}, and the row has a number with a fraction")),
        Some(value) => {
            value.ok().and_then(i256::to_i128).and_then(|value| T::try_from(value).ok()).ok_or_else(|| outside(&shown(text), to))
        }
    }
}

/// A number as text for a column of floats: the nearest of that width, once.
fn written_float(text: &str, to: &DataType) -> Result<f64, String> {
    let value = match to {
        DataType::Float32 => text.parse().map(|value: f32| value.into()).ok(),
        _ => text.parse::<f64>().ok(),
    };
    match value {
        None => Err(format!("the text {} is no {to}", shown(text))),
        // "inf" is one, and so is what is too large.
        Some(value) if value.is_infinite() && text.contains(|char: char| char.is_ascii_digit()) => Err(outside(&shown(text), to)),
        Some(value) => Ok(value),
    }
}

/// A value from outside, cut to what a reason may hold.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(100).collect::<String>())
}
