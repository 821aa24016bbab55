//! Times as text, by Arrow's readers of ISO 8601.

use arrow::array::timezone::Tz;
use arrow::compute::kernels::cast_utils::{Parser as _, string_to_datetime, string_to_time_nanoseconds};
use arrow::datatypes::Date32Type;
use arrow_schema::DataType;

use crate::formats::scalar::{Clock, Scalar, shown};

/// What a column of this type takes of the text.
pub(super) fn parsed(text: &str, to: &DataType) -> Result<Scalar<'static>, String> {
    let none = || format!("the text {} is no {to}", shown(text));
    if has_more_than_nanoseconds(text) {
        return Err(format!("it is {to}, and the row has a time with a fraction of a nanosecond"));
    }
    match to {
        DataType::Timestamp(_, zone) => {
            Ok(Scalar::Nanos(instant(zone.as_deref().unwrap_or("UTC"), text).ok_or_else(none)?, Clock::Instant))
        }
        DataType::Date32 | DataType::Date64 => Ok(Scalar::Days(days(text).ok_or_else(none)?)),
        DataType::Time32(_) | DataType::Time64(_) => {
            Ok(Scalar::Nanos(string_to_time_nanoseconds(text).map_err(|_| none())?.into(), Clock::OfDay))
        }
        _ => Err(format!("it is {to}, and the row has text")),
    }
}

/// A column's zone: an offset, or UTC by its name. Others by name have rules, which change and are not here.
pub(super) fn zone(of: &str) -> Option<Tz> {
    if matches!(of, "UTC" | "Etc/UTC") { "+00:00".parse().ok() } else { of.parse().ok() }
}

fn instant(zone: &str, text: &str) -> Option<i128> {
    let at = string_to_datetime(&self::zone(zone)?, text).ok()?;
    Some(i128::from(at.timestamp()) * 1_000_000_000 + i128::from(at.timestamp_subsec_nanos()))
}

const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// Since 1970; None of a time of the day.
fn days(text: &str) -> Option<i64> {
    // Years of more than four digits have a sign.
    if text.len() <= 10 || text.starts_with(['+', '-']) {
        return Date32Type::parse(text).map(i64::from);
    }
    let nanos = instant("UTC", text).filter(|nanos| nanos % NANOS_PER_DAY == 0)?;
    i64::try_from(nanos / NANOS_PER_DAY).ok()
}

/// Arrow's readers pass over what is beyond nine digits.
fn has_more_than_nanoseconds(text: &str) -> bool {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.bytes().take_while(u8::is_ascii_digit).skip(9).any(|digit| digit != b'0')
}
