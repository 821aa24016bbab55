//! A time as people write it: RFC 3339.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use super::Timestamp;

/// The last microsecond of the year 9999, which is the last that RFC 3339 can write.
const LAST: u64 = 253_402_300_800_000_000 - 1;

impl Timestamp {
    /// The time of an RFC 3339 text, such as `2026-11-01T12:00:00Z` or `2026-11-01T14:00:00.5+02:00`. What is finer than a
    /// microsecond is rounded up, so that nothing before the time counts as at or after it. None: it is no such text, or of a
    /// time before 1970.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let (local, ahead) = split_zone(text)?;
        if !local.bytes().all(|byte| byte.is_ascii_digit() || b"-:.T".contains(&byte)) {
            return None;
        }
        let time = humantime::parse_rfc3339(&format!("{local}Z")).ok()?.duration_since(UNIX_EPOCH).ok()?;
        let micros = i64::try_from(time.as_nanos().div_ceil(1000)).ok()?;
        Some(Self(u64::try_from(micros - ahead).ok()?))
    }

    /// The time as RFC 3339 writes it, in UTC; what lies beyond the year 9999 as the end of that.
    #[must_use]
    pub fn rfc3339(self) -> impl fmt::Display {
        let time = UNIX_EPOCH + Duration::from_micros(self.0.min(LAST));
        if self.0.is_multiple_of(1_000_000) { humantime::format_rfc3339_seconds(time) } else { humantime::format_rfc3339_micros(time) }
    }
}

/// The text before its zone, and how many microseconds the zone is ahead of UTC.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(local) = text.strip_suffix('Z') {
        return Some((local, 0));
    }
    let (local, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let number = |digits: &str| if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse::<i64>().ok() } else { None };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let ahead = (hours * 60 + minutes) * 60 * 1_000_000;
    match zone.as_bytes().first() {
        _ if hours > 23 || minutes > 59 => None,
        Some(b'+') => Some((local, ahead)),
        Some(b'-') => Some((local, -ahead)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_zones_and_written_in_utc() {
        for (text, written) in [
            ("2026-11-01T12:00:00Z", "2026-11-01T12:00:00Z"),
            ("2026-11-01T12:00:00+00:00", "2026-11-01T12:00:00Z"),
            ("2026-11-01T14:00:00.5+02:00", "2026-11-01T12:00:00.500000Z"),
            ("2026-11-01T06:30:00-05:30", "2026-11-01T12:00:00Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("1970-01-01T00:00:00.000001001Z", "1970-01-01T00:00:00.000002Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ] {
            let time = Timestamp::from_rfc3339(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(time.rfc3339().to_string(), written, "{text}");
        }
        assert_eq!(Timestamp(u64::MAX).rfc3339().to_string(), "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            "",
            "Z",
            "2026-11-01",
            "2026-11-01T12:00:00",
            "2026-11-01 12:00:00Z",
            "2026-11-01T12:00:00ZZ",
            "2026-11-01T12:00:00+2:00",
            "2026-11-01T12:00:00+24:00",
            "2026-11-01T12:00:00+-1:00",
            "2026-11-01T12:00:00+00:00Z",
            "2026-13-01T12:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "2026-11-01T12:00:\u{e9}\u{e9}\u{e9}",
            "2026-11-01T12:00:0\u{ff10}Z",
        ] {
            assert_eq!(Timestamp::from_rfc3339(text), None, "{text}");
        }
    }
}
