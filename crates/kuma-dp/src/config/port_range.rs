//! The grammar of `--admin-port`.

use std::fmt;

/// Ports from `low` to `high`, both included; `1 <= low <= high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortRange {
    pub(crate) low: u16,
    pub(crate) high: u16,
}

impl PortRange {
    /// Reads `9901`, `9901-9999`, `9901-`, `-9901`; nothing and `-` stand for no port at all.
    ///
    /// # Errors
    /// The documented message for everything else.
    pub(crate) fn parse(text: &str) -> Result<Option<PortRange>, String> {
        let invalid = || {
            format!(
                "invalid value {text:?}. Valid port range formats: \"8080\", \"8080-8081\", \"8080-\", \"-8080\", \
                 \"\" (empty range), \"-\" (empty range). Valid port values are 1-65535."
            )
        };
        let (low, high) = match text.split_once('-') {
            None if text.is_empty() => return Ok(None),
            Some(("", "")) => return Ok(None),
            None => (port(text), port(text)),
            Some((low, "")) => (port(low), Some(u16::MAX)),
            Some(("", high)) => (Some(1), port(high)),
            Some((low, high)) => (port(low), port(high)),
        };
        match (low, high) {
            (Some(low), Some(high)) if low <= high => Ok(Some(PortRange { low, high })),
            _ => Err(invalid()),
        }
    }
}

/// A port in digits alone: no sign and no blanks, which `parse` would let through in part.
fn port(text: &str) -> Option<u16> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|port| *port != 0)
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high { write!(f, "{}", self.low) } else { write!(f, "{}-{}", self.low, self.high) }
    }
}

#[cfg(test)]
mod tests {
    use super::PortRange;

    #[test]
    fn grammar() {
        for (text, range) in [
            ("9901", Some((9901, 9901))),
            ("9901-9999", Some((9901, 9999))),
            ("9901-9901", Some((9901, 9901))),
            ("9901-", Some((9901, 65535))),
            ("-9901", Some((1, 9901))),
            ("1-65535", Some((1, 65535))),
            ("", None),
            ("-", None),
        ] {
            let parsed = PortRange::parse(text).unwrap().map(|range| (range.low, range.high));
            assert_eq!(parsed, range, "{text:?}");
        }
        for text in ["0", "65536", "0-10", "10-9", "1-65536", "a", "1-b", "1-2-3", "--", "+1", " 1", "1 - 2", "1,2"] {
            let message = PortRange::parse(text).unwrap_err();
            assert!(
                message.starts_with(&format!("invalid value {text:?}. Valid port range formats: \"8080\"")),
                "{message}"
            );
        }
    }
}
