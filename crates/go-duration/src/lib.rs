//! Lengths of time in the syntax of Go's `time.ParseDuration`: `1s`, `1m30s`, `500ms`. Documents, configuration files,
//! variables and flags are all written in it, since Kuma is.
//!
//! [`nanoseconds`] reads one with a sign; [`GoDuration`] is one that is not negative, and prints as Go's
//! `Duration.String`.
//!
//! ```
//! use go_duration::GoDuration;
//!
//! let duration: GoDuration = "90s".parse()?;
//! assert_eq!(duration.get(), std::time::Duration::from_secs(90));
//! assert_eq!(duration.to_string(), "1m30s");
//! # Ok::<(), go_duration::DurationError>(())
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is no length of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DurationError {
    /// Not of the syntax.
    #[error("expected a duration such as 1s, 500ms or 1m30s")]
    Syntax,
    /// More than 64 bits of nanoseconds: 292 years.
    #[error("is too long")]
    OutOfRange,
    /// Less than nothing, where that makes no sense.
    #[error("cannot be negative")]
    Negative,
}

/// Reads a length of time, in nanoseconds: decimal numbers, each with a unit, after an optional sign; or a bare `0`.
///
/// # Errors
/// [`DurationError::Syntax`] or [`DurationError::OutOfRange`].
pub fn nanoseconds(text: &str) -> Result<i64, DurationError> {
    let (negative, rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(DurationError::Syntax);
    }
    let mut rest = rest;
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (nanos, remaining) = part(rest)?;
        total = total.checked_add(nanos).ok_or(DurationError::OutOfRange)?;
        rest = remaining;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| DurationError::OutOfRange)
}

/// Reads one number with its unit, in nanoseconds; and what follows.
fn part(text: &str) -> Result<(i128, &str), DurationError> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Syntax);
    }
    let (unit, rest) = unit(rest).ok_or(DurationError::Syntax)?;
    let parse = |digits: &str| match digits {
        "" => Ok(0),
        digits => digits.parse::<i64>().map(i128::from).map_err(|_| DurationError::OutOfRange),
    };
    // An hour has 13 digits of nanoseconds: what is beyond them is too small to count.
    let fraction = &fraction[..fraction.len().min(13)];
    let scale = 10_i128.pow(fraction.len() as u32);
    Ok((parse(whole)? * unit + parse(fraction)? * unit / scale, rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Nanoseconds of the unit at the start of a text. Longer spellings come before those that begin them.
fn unit(text: &str) -> Option<(i128, &str)> {
    const UNITS: [(&str, i128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000), // U+00B5, micro sign
        ("μs", 1_000), // U+03BC, Greek letter mu
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    UNITS.iter().find_map(|(name, nanos)| text.strip_prefix(name).map(|rest| (*nanos, rest)))
}

/// A length of time that is not negative, up to 292 years. It prints, in Serde's formats too, as Go prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GoDuration(Duration);

impl GoDuration {
    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The same as the standard library's type.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let nanos = nanoseconds(text)?;
        u64::try_from(nanos).map(|nanos| Self(Duration::from_nanos(nanos))).map_err(|_| DurationError::Negative)
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let fraction = |f: &mut fmt::Formatter<'_>, value: u128, unit: u128, name: &str| {
            let (whole, rest) = (value / unit, value % unit);
            if rest == 0 {
                return write!(f, "{whole}{name}");
            }
            let width = unit.ilog10() as usize;
            let digits = format!("{rest:0width$}");
            write!(f, "{whole}.{}{name}", digits.trim_end_matches('0'))
        };
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => fraction(f, nanos, 1_000, "µs"),
            1_000_000..1_000_000_000 => fraction(f, nanos, 1_000_000, "ms"),
            _ => {
                let seconds = self.0.as_secs();
                let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if seconds >= 60 {
                    write!(f, "{minutes}m")?;
                }
                fraction(f, nanos % 60_000_000_000, 1_000_000_000, "s")
            }
        }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_prints_like_go() {
        // Left: what is written. Right: what Go's Duration.String() gives for it.
        for (text, printed) in [
            ("0", "0s"),
            ("0s", "0s"),
            ("1s", "1s"),
            ("1.s", "1s"),
            ("500ms", "500ms"),
            ("1.5s", "1.5s"),
            (".5s", "500ms"),
            ("90s", "1m30s"),
            ("1m30s", "1m30s"),
            ("2h", "2h0m0s"),
            ("1.5h", "1h30m0s"),
            ("1h0.25s", "1h0m0.25s"),
            ("100us", "100µs"),
            ("1µs1μs1ns", "2.001µs"),
            ("1500ns", "1.5µs"),
            ("7ns", "7ns"),
            ("+3m", "3m0s"),
            ("-0", "0s"),
            ("0.0000000001s", "0s"),
            ("0.1234567890123456789h", "7m24.444440444s"),
            ("2562047h47m16.854775807s", "2562047h47m16.854775807s"),
        ] {
            let duration: GoDuration = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(duration.to_string(), printed, "{text}");
            assert_eq!(printed.parse(), Ok(duration), "{printed} must read back");
        }
        assert_eq!(nanoseconds("-1.5s"), Ok(-1_500_000_000));
        assert_eq!(nanoseconds("-2562047h47m16.854775808s"), Ok(i64::MIN));
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "", "-", "+", "1", "30", "00", "s", ".s", "1d", "1x", "1 s", "1s ", "1s2", "1s-1s", "--1s", "1,5s", "1e3s",
            "1..5s", "1.2.3s", "٣s", "１s",
        ] {
            assert_eq!(nanoseconds(text), Err(DurationError::Syntax), "{text:?}");
        }
        for text in ["2562047h47m16.854775808s", "99999999999999999999s", "9223372036854775807h", "999999999h"] {
            assert_eq!(nanoseconds(text), Err(DurationError::OutOfRange), "{text:?}");
        }
        assert_eq!("-1s".parse::<GoDuration>(), Err(DurationError::Negative));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(nanos in 0..=i64::MAX) {
            let duration = GoDuration(Duration::from_nanos(nanos.unsigned_abs()));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "[-+]?([0-9.]{0,25}(ns|us|µs|ms|s|m|h|x)?){0,4}") {
            let _ = nanoseconds(&text);
        }
    }
}
