//! Lengths of time as documents write them.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::decode::{Decode, wrong_type};
use crate::violations::Violations;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A length of time, to the nanosecond, up to 292 years.
///
/// Read in the syntax of Go's `time.ParseDuration` (`500ms`, `1m30s`); printed as proto3's JSON prints it: seconds,
/// with 0, 3, 6 or 9 decimals (`90s`, `0.500s`).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Duration {
    nanos: i64,
}

/// Why a text is no [`Duration`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DurationError {
    /// Not of the syntax.
    #[error(r#"must be a duration such as "10s", "500ms" or "1m30s""#)]
    Syntax,
    /// Longer than 292 years.
    #[error("must have a valid value")]
    OutOfRange,
}

impl Duration {
    /// So many nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Duration {
        Duration { nanos }
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u32) -> Duration {
        Duration { nanos: seconds as i64 * NANOS_PER_SECOND }
    }

    /// In nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.nanos
    }

    /// Whether it is longer than nothing.
    pub const fn is_positive(self) -> bool {
        self.nanos > 0
    }

    /// The same length in the standard library's type; nothing where it is negative.
    pub fn to_std(self) -> Option<std::time::Duration> {
        u64::try_from(self.nanos).ok().map(std::time::Duration::from_nanos)
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Duration, DurationError> {
        go_duration::nanoseconds(text).map(Duration::from_nanos).map_err(|error| match error {
            go_duration::DurationError::OutOfRange => DurationError::OutOfRange,
            go_duration::DurationError::Syntax | go_duration::DurationError::Negative => DurationError::Syntax,
        })
    }
}

/// How many decimals it takes to print so many nanoseconds, in steps of three.
pub(crate) fn fraction_digits(nanos: u32) -> usize {
    match nanos {
        0 => 0,
        _ if nanos.is_multiple_of(1_000_000) => 3,
        _ if nanos.is_multiple_of(1_000) => 6,
        _ => 9,
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanos < 0 { "-" } else { "" };
        let nanos = self.nanos.unsigned_abs();
        let (seconds, fraction) = (nanos / NANOS_PER_SECOND as u64, (nanos % NANOS_PER_SECOND as u64) as u32);
        write!(f, "{sign}{seconds}")?;
        let digits = fraction_digits(fraction);
        if digits > 0 {
            write!(f, ".{:0digits$}", fraction / 10_u32.pow(9 - digits as u32))?;
        }
        f.write_str("s")
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Decode for Duration {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Duration> {
        let Value::String(text) = value else {
            return wrong_type(path, violations, r#"a duration such as "10s""#, value);
        };
        text.parse().map_err(|error: DurationError| violations.add(path, error.to_string())).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_go_reads_and_prints_seconds() {
        for (written, printed) in [
            ("0", "0s"),
            ("10s", "10s"),
            ("500ms", "0.500s"),
            ("1m30s", "90s"),
            ("2h", "7200s"),
            ("1.5h", "5400s"),
            (".5s", "0.500s"),
            ("1.s", "1s"),
            ("-1.5s", "-1.500s"),
            ("+1s", "1s"),
            ("1us", "0.000001s"),
            ("1µs1μs1ns", "0.000002001s"),
            ("0.0000000001s", "0s"),
            ("0.1234567890123456789h", "444.444440444s"),
            ("2562047h47m16.854775807s", "9223372036.854775807s"),
            ("-2562047h47m16.854775808s", "-9223372036.854775808s"),
        ] {
            assert_eq!(
                written.parse::<Duration>().map(|duration| duration.to_string()),
                Ok(printed.into()),
                "{written}"
            );
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "-", "1", "s", ".s", "1d", "1 s", "1s ", "1s-1s", "--1s", "1,5s", "1e3s", "１s", "00"] {
            assert_eq!(bad.parse::<Duration>(), Err(DurationError::Syntax), "{bad}");
        }
        for long in ["2562047h47m16.854775808s", "99999999999999999999s", "9223372036854775807h"] {
            assert_eq!(long.parse::<Duration>(), Err(DurationError::OutOfRange), "{long}");
        }
    }

    #[test]
    fn only_what_is_not_negative_has_a_standard_duration() {
        assert_eq!(Duration::from_secs(2).to_std(), Some(std::time::Duration::from_secs(2)));
        assert_eq!(Duration::from_nanos(-1).to_std(), None);
        assert!(!Duration::default().is_positive());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(nanos: i64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
