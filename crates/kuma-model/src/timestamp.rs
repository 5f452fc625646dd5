//! Points in time as documents write them.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::decode::{Decode, wrong_type};
use crate::violations::Violations;

/// A point in time. In JSON: RFC 3339 in UTC, with 0, 3, 6 or 9 digits after the second, whichever is enough.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Timestamp(jiff::Timestamp);

impl From<jiff::Timestamp> for Timestamp {
    fn from(time: jiff::Timestamp) -> Timestamp {
        Timestamp(time)
    }
}

impl From<Timestamp> for jiff::Timestamp {
    fn from(time: Timestamp) -> jiff::Timestamp {
        time.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = crate::duration::fraction_digits(self.0.subsec_nanosecond().unsigned_abs());
        write!(f, "{:.digits$}", self.0)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Decode for Timestamp {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Timestamp> {
        let Value::String(text) = value else {
            return wrong_type(path, violations, "a string", value);
        };
        let time = text.parse().ok().map(Timestamp);
        if time.is_none() {
            violations.add(path, r#"must be a time such as "2020-01-31T15:04:05Z""#);
        }
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_in_utc_with_as_many_groups_of_three_digits_as_needed() {
        for (written, printed) in [
            ("2019-10-24T14:04:56Z", "2019-10-24T14:04:56Z"),
            ("2019-10-24T16:04:56.5+02:00", "2019-10-24T14:04:56.500Z"),
            ("2019-10-24T14:04:56.820350Z", "2019-10-24T14:04:56.820350Z"),
            ("2019-10-24T14:04:56.000000001Z", "2019-10-24T14:04:56.000000001Z"),
        ] {
            let mut violations = Violations::default();
            let time = Timestamp::decode(&written.into(), "time", &mut violations).expect("a time");
            assert_eq!(time.to_string(), printed);
        }
    }
}
