//! Numbers in sentences.

use std::time::Duration;

/// "340 ms", "2.3 s", "40 s", "4 min 10 s", "2 h 5 min", "3 d 4 h".
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |large: u64, unit: &str, small: u64, rest: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {rest}"),
    };
    match seconds {
        0 => format!("{} ms", duration.subsec_millis()),
        1..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// As [`span`], of microseconds.
pub(super) fn micros(micros: u64) -> String {
    span(Duration::from_micros(micros))
}

/// "1,234,567".
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let separated = digits.char_indices().flat_map(|(index, digit)| {
        let is_first_of_three = index > 0 && (digits.len() - index).is_multiple_of(3);
        is_first_of_three.then_some(',').into_iter().chain([digit])
    });
    separated.collect()
}

/// "1 batch", "2,000 batches".
pub(super) fn batches(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "batch" } else { "batches" })
}

/// "1 row", "2,000 rows".
pub(super) fn rows(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "row" } else { "rows" })
}

/// "512 B", "1.5 MiB".
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let Some(power) = number.checked_ilog2().map(|log| log / 10).filter(|power| *power > 0) else { return format!("{number} B") };
    // In tenths, so that it takes no float.
    let tenths = (u128::from(number) * 10) >> (10 * power);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[power as usize - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let spans = [0, 340_000, 2_340_000, 40_000_000, 250_000_000, 3_600_000_000, 7_500_000_000, 273_600_000_000].map(micros);
        assert_eq!(spans, ["0 ms", "340 ms", "2.3 s", "40 s", "4 min 10 s", "1 h", "2 h 5 min", "3 d 4 h"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 1023, 1024, 1536 << 10, 2 << 30, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "2.0 GiB", "15.9 EiB"]
        );
        assert_eq!((batches(1), rows(2000)), ("1 batch".to_owned(), "2,000 rows".to_owned()));
    }
}
