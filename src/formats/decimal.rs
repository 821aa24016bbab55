//! Decimals: digits and a scale, exactly. What has to be cut to fit is refused.

use arrow::datatypes::i256;

/// Digits of the largest decimal that Arrow has.
const DIGITS_MAX: usize = 76;
/// 10 to the power of what is beyond it fits no decimal, and would be nothing of one.
const POWER_MAX: u64 = 2 * DIGITS_MAX as u64;

/// Why a decimal does not have another scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Digits other than zero would be cut.
    Cut,
    /// It is too large.
    Outside,
}

/// A decimal: `value` / 10^`scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) value: i256,
    pub(super) scale: i64,
}

impl Decimal {
    pub(super) fn whole(value: i128) -> Self {
        Self { value: i256::from_i128(value), scale: 0 }
    }

    /// Big-endian two's complement.
    pub(super) fn from_be_bytes(bytes: &[u8], scale: i64) -> Option<Self> {
        let sign = if bytes.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
        let start = bytes.len().saturating_sub(32);
        let (more, low) = bytes.split_at(start);
        let mut all = [sign; 32];
        all[32 - low.len()..].copy_from_slice(low);
        // What does not fit says nothing but the sign.
        let fits = more.iter().all(|byte| *byte == sign) && (all[0] >= 0x80) == (sign == 0xff);
        fits.then(|| Self { value: i256::from_be_bytes(all), scale })
    }

    /// "-12.50" and "-0.125e2"; None if it is no number.
    pub(super) fn parsed(text: &str) -> Option<Result<Self, Misfit>> {
        let (number, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(number, exponent)| (number, Some(exponent)));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let unsigned = whole.strip_prefix(['-', '+']).unwrap_or(whole);
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(unsigned) || !is_digits(fraction) || unsigned.len() + fraction.len() == 0 {
            return None;
        }
        let power = match exponent.map(|text| (text, text.strip_prefix(['-', '+']).unwrap_or(text))) {
            None => 0,
            Some((_, digits)) if digits.is_empty() || !is_digits(digits) => return None,
            // One of more digits than an i64 has is as good as the greatest.
            Some((text, _)) => text.parse().unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX }),
        };
        let fraction = fraction.trim_end_matches('0');
        let all = format!("{unsigned}{fraction}");
        let digits = all.trim_start_matches('0');
        if digits.is_empty() {
            return Some(Ok(Self::whole(0)));
        }
        if digits.len() > DIGITS_MAX {
            return Some(Err(if fraction.is_empty() { Misfit::Outside } else { Misfit::Cut }));
        }
        let value = i256::from_string(digits)?;
        let scale = i64::try_from(fraction.len()).ok()?.saturating_sub(power);
        Some(Ok(Self { value: if whole.starts_with('-') { -value } else { value }, scale }))
    }

    /// Its digits at another scale.
    pub(super) fn at(self, scale: i64) -> Result<i256, Misfit> {
        let more = scale.saturating_sub(self.scale);
        if self.value == i256::ZERO || more == 0 {
            return Ok(self.value);
        }
        let misfit = if more > 0 { Misfit::Outside } else { Misfit::Cut };
        let power = u32::try_from(more.unsigned_abs().min(POWER_MAX)).map_err(|_| misfit)?;
        let Some(factor) = i256::from_i128(10).checked_pow(power) else { return Err(misfit) };
        if more > 0 {
            return self.value.checked_mul(factor).ok_or(misfit);
        }
        match (self.value.checked_rem(factor), self.value.checked_div(factor)) {
            (Some(i256::ZERO), Some(value)) => Ok(value),
            _ => Err(misfit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, scale: i64) -> Option<Result<i128, Misfit>> {
        Some(Decimal::parsed(text)?.and_then(|decimal| decimal.at(scale)).map(i256::as_i128))
    }

    #[test]
    fn numbers_are_what_they_say() {
        for (text, scale, value) in [
            ("12.5", 2, 1250),
            ("-12.50", 1, -125),
            ("+.5", 1, 5),
            ("7.", 0, 7),
            ("1e3", 0, 1000),
            ("-1.25E+2", 0, -125),
            ("1200e-2", 0, 12),
            ("9007199254740993.0", 0, 9_007_199_254_740_993),
            ("0e99999999999999999999", 3, 0),
            ("1500", -2, 15),
        ] {
            assert_eq!(at(text, scale), Some(Ok(value)), "{text}");
        }
        let long = format!("1.{}", "0".repeat(500));
        assert_eq!(at(&long, 0), Some(Ok(1)));
    }

    #[test]
    fn nothing_is_cut() {
        for (text, scale) in [("0.5", 0), ("1e-400", 0), ("1e-99999999999999999999", 0), ("123456789012345678.5", 0), ("1550", -2)] {
            assert_eq!(at(text, scale), Some(Err(Misfit::Cut)), "{text}");
        }
        for (text, scale) in [("1e400", 0), ("1e99999999999999999999", 0), ("1", 90)] {
            assert_eq!(at(text, scale), Some(Err(Misfit::Outside)), "{text}");
        }
        let long = "1".repeat(77);
        assert_eq!((at(&long, 0), at(&format!("0.{long}"), 2)), (Some(Err(Misfit::Outside)), Some(Err(Misfit::Cut))));
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in ["", ".", "-", "e5", "1e", "1e+", "1e5.0", "0x10", "1_000", "NaN", "--1", "1-", "\u{661}"] {
            assert_eq!(at(text, 0), None, "{text}");
        }
    }
}
