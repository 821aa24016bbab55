//! Sizes and durations as people write them ("2GiB", "30s"), on the command line and in the file alike.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize};

/// A number of bytes. Units of 1024 are KiB, MiB, GiB; of 1000 are kB, MB, GB; a bare number is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size: ByteSize = text.parse().map_err(|_| format!("{text:?} is no size; write for instance 512MiB, 2GiB or 1048576"))?;
        Ok(Self(size.as_u64()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ByteSize(self.0).display().iec().fmt(f)
    }
}

// As a number, since "2.0 GiB" would round what was asked for.
impl Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a size, as a number of bytes or as text such as \"2GiB\"")]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// A duration: "500ms", "30s", "2m", "1h 30m". A bare number is refused, since its unit would be a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|_| format!("{text:?} is no duration; write for instance 500ms, 30s or 5m"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A size for reading: "12.3 MiB".
pub(super) fn bytes(count: u64) -> String {
    Size(count).to_string()
}

/// A count for reading: "1,234,567".
pub(super) fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// A count with its noun: "1 batch", "2,000 batches".
pub(super) fn batches(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "batch" } else { "batches" })
}

/// A count with its noun: "1 row", "2,000 rows".
pub(super) fn rows(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "row" } else { "rows" })
}

/// A count with its noun: "1 partition", "4 partitions".
pub(super) fn partitions(number: u32) -> String {
    format!("{number} {}", if number == 1 { "partition" } else { "partitions" })
}

/// A duration for reading, to about two digits: "340ms", "2.3s", "4m 10s".
pub(super) fn span(duration: Duration) -> String {
    let rounded = match duration.as_secs() {
        0 => Duration::from_millis(u64::from(duration.subsec_millis())),
        1..60 => return format!("{:.1}s", duration.as_secs_f64()),
        seconds => Duration::from_secs(seconds),
    };
    humantime::format_duration(rounded).to_string()
}

/// A rate for reading: "12,345" of things per second.
pub(super) fn per_second(number: f64) -> String {
    indicatif::HumanCount(whole(number)).to_string()
}

/// A number that is not negative, rounded, for printing.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what u64 holds; the cast saturates")]
pub(super) fn whole(number: f64) -> u64 {
    number.max(0.0).round() as u64
}

/// `part` of `whole` as a number for rates: the loss of precision beyond 2^53 does not show in print.
#[expect(clippy::cast_precision_loss, reason = "printed with a few digits")]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_units_of_1024_and_of_1000() {
        assert_eq!("2GiB".parse(), Ok(Size(2 << 30)));
        assert_eq!("2 MB".parse(), Ok(Size(2_000_000)));
        assert_eq!("123".parse(), Ok(Size(123)));
        assert!("2 bananas".parse::<Size>().unwrap_err().contains("512MiB"));
    }

    #[test]
    fn a_size_keeps_every_byte_on_its_way_through_the_configuration() {
        let json = serde_json::to_string(&Size(1_234_567)).unwrap();
        assert_eq!(serde_json::from_str::<Size>(&json).unwrap(), Size(1_234_567));
        assert_eq!(serde_json::from_str::<Size>("\"64MiB\"").unwrap(), Size(64 << 20));
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!("1m 30s".parse(), Ok(Span(Duration::from_secs(90))));
        assert!("30".parse::<Span>().unwrap_err().contains("30s"));
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(bytes(1_572_864), "1.5 MiB");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!((batches(1), batches(0), rows(2000)), ("1 batch".into(), "0 batches".into(), "2,000 rows".into()));
        assert_eq!(span(Duration::from_millis(340)), "340ms");
        assert_eq!(span(Duration::from_millis(2340)), "2.3s");
        assert_eq!(span(Duration::from_secs(250)), "4m 10s");
    }
}
