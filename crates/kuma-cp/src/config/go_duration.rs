//! Durations as Go writes them: `1s`, `1m30s`, `500ms`. The documents use this syntax for every interval.

use std::fmt;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration that reads and prints like Go's `time.Duration`; never negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct GoDuration(Duration);

/// The units, longest name first where one is the beginning of another.
const UNITS: &[(&str, u128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl GoDuration {
    /// A duration of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The same as the standard library's type.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Reads Go's syntax: a sequence of decimal numbers, each with a unit, or a bare `0`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" {
            return Ok(Self::default());
        }
        if rest.starts_with('-') {
            return Err("cannot be negative".into());
        }
        let expected = || "expected a duration such as 1s, 500ms or 1m30s".to_string();
        let mut nanos: u128 = 0;
        let mut rest = rest;
        if rest.is_empty() {
            return Err(expected());
        }
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(expected)?;
            let (number, tail) = rest.split_at(end);
            let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
            let part = decimal(number, *unit).ok_or_else(expected)?;
            nanos = nanos.checked_add(part).ok_or_else(expected)?;
            rest = tail;
        }
        // Go keeps nanoseconds in a signed 64-bit number: about 292 years.
        let nanos = i64::try_from(nanos).map_err(|_| "is too long")?;
        Ok(Self(Duration::from_nanos(nanos.unsigned_abs())))
    }
}

/// `number` (`1`, `1.5`, `.5`) times `unit`, in nanoseconds.
fn decimal(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let mut total = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? as u128 * unit };
    let mut scale = unit;
    for digit in fraction.chars() {
        scale /= 10;
        total += digit.to_digit(10)? as u128 * scale;
    }
    Some(total)
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
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_like_go() {
        // Left: what is written. Right: what Go's Duration.String() gives for it.
        for (text, printed) in [
            ("0", "0s"),
            ("1s", "1s"),
            ("500ms", "500ms"),
            ("1.5s", "1.5s"),
            (".5s", "500ms"),
            ("90s", "1m30s"),
            ("1m30s", "1m30s"),
            ("2h", "2h0m0s"),
            ("1h0.25s", "1h0m0.25s"),
            ("100us", "100µs"),
            ("1500ns", "1.5µs"),
            ("7ns", "7ns"),
            ("+3m", "3m0s"),
        ] {
            let duration = GoDuration::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(duration.to_string(), printed, "{text}");
            assert_eq!(GoDuration::parse(printed), Ok(duration), "{printed} must read back");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in ["", "1", "s", "1 s", "1x", ".s", "1..5s", "1s2", "٣s", "999999999h", "-1s"] {
            assert!(GoDuration::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(GoDuration::parse("-1s"), Err("cannot be negative".into()));
    }
}
