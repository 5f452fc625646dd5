//! Readers for single values, with messages a person can act on.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// A TCP port; 0 lets the system choose.
pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let number = i64::deserialize(deserializer)?;
    u16::try_from(number).map_err(|_| D::Error::custom("must be in the range [0, 65535]"))
}

/// A number of things or seconds that cannot be negative.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = i64::deserialize(deserializer)?;
    u32::try_from(number).map_err(|_| D::Error::custom("must be in the range [0, 4294967295]"))
}

/// A boolean as Go's `strconv.ParseBool` and YAML 1.1 spell it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "yes" | "on" => Some(true),
        "0" | "f" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}
