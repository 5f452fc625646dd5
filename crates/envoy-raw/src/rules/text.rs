//! The rules of a string.

use prost_reflect::DynamicMessage;
use regex::bytes::{Regex, RegexBuilder};

use super::read::{flag, list, number};

/// The rules of a string. Lengths count characters where they are not said to count bytes.
#[derive(Default)]
pub(crate) struct TextRules {
    exactly: Option<String>,
    len: Option<u64>,
    min_len: Option<u64>,
    max_len: Option<u64>,
    min_bytes: Option<u64>,
    max_bytes: Option<u64>,
    prefix: Option<String>,
    suffix: Option<String>,
    contains: Option<String>,
    among: Vec<String>,
    not_among: Vec<String>,
    pattern: Option<(String, Regex)>,
    ignore_empty: bool,
}

/// What `well_known_regex` names: what it is, and its pattern. Where it is not `strict` both are the third.
const HEADER_NAME: (&str, &str) = ("the name of an HTTP header", "^:?[0-9a-zA-Z!#$%&'*+-.^_|~\x60]+$");
const HEADER_VALUE: (&str, &str) = ("the value of an HTTP header", "^[^\\x00-\\x08\\x0A-\\x1F\\x7F]*$");
const HEADER: (&str, &str) = ("part of an HTTP header: without line breaks and zero bytes", "^[^\\x00\\x0A\\x0D]*$");

impl TextRules {
    /// Reads `validate.StringRules`.
    pub(crate) fn read(rules: &DynamicMessage) -> TextRules {
        let text = |name: &str| {
            let set = rules.has_field_by_name(name);
            set.then(|| rules.get_field_by_name(name)?.as_str().map(str::to_owned)).flatten()
        };
        let texts = |name: &str| {
            list(rules, name).iter().filter_map(|value| value.as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        let well_known = rules
            .has_field_by_name("well_known_regex")
            .then(|| rules.get_field_by_name("well_known_regex"))
            .flatten()
            .and_then(|value| value.as_enum_number());
        let strict = rules.get_field_by_name("strict").and_then(|value| value.as_bool()).unwrap_or(true);
        let well_known = match (well_known, strict) {
            (Some(1), true) => Some(HEADER_NAME),
            (Some(2), true) => Some(HEADER_VALUE),
            (Some(1 | 2), false) => Some(HEADER),
            _ => None,
        };
        let pattern = match (text("pattern"), well_known) {
            (Some(pattern), _) => matching(&pattern).map(|regex| (format!("of the form {pattern}"), regex)),
            (None, Some((what, pattern))) => matching(pattern).map(|regex| (what.to_owned(), regex)),
            (None, None) => None,
        };
        debug_assert_eq!(pattern.is_some(), rules.has_field_by_name("pattern") || well_known.is_some());
        TextRules {
            exactly: text("const"),
            len: number(rules, "len"),
            min_len: number(rules, "min_len"),
            max_len: number(rules, "max_len"),
            min_bytes: number(rules, "min_bytes"),
            max_bytes: number(rules, "max_bytes"),
            prefix: text("prefix"),
            suffix: text("suffix"),
            contains: text("contains"),
            among: texts("in"),
            not_among: texts("not_in"),
            pattern,
            ignore_empty: flag(rules, "ignore_empty"),
        }
    }

    /// What is wrong with a text, if anything is.
    pub(crate) fn broken(&self, text: &str) -> Option<String> {
        if text.is_empty() && self.ignore_empty {
            return None;
        }
        let (bytes, characters) = (text.len() as u64, text.chars().count() as u64);
        if text.is_empty() && (self.min_len >= Some(1) || self.min_bytes >= Some(1)) {
            return Some("cannot be empty".to_owned());
        }
        let lengths = [(self.min_len, characters, "characters"), (self.min_bytes, bytes, "bytes")];
        if let Some((least, length, unit)) = lengths
            .iter()
            .find_map(|&(least, length, unit)| Some((least.filter(|&least| length < least)?, length, unit)))
        {
            return Some(format!("needs at least {least} {unit}, has {length}"));
        }
        let lengths = [(self.max_len, characters, "characters"), (self.max_bytes, bytes, "bytes")];
        if let Some((most, length, unit)) =
            lengths.iter().find_map(|&(most, length, unit)| Some((most.filter(|&most| length > most)?, length, unit)))
        {
            return Some(format!("takes at most {most} {unit}, has {length}"));
        }
        if let Some(len) = self.len.filter(|&len| len != characters) {
            return Some(format!("must have {len} characters, has {characters}"));
        }
        if let Some(exactly) = self.exactly.as_ref().filter(|&exactly| exactly != text) {
            return Some(format!("must be {exactly:?}"));
        }
        if let Some(prefix) = self.prefix.as_ref().filter(|prefix| !text.starts_with(prefix.as_str())) {
            return Some(format!("must start with {prefix:?}"));
        }
        if let Some(suffix) = self.suffix.as_ref().filter(|suffix| !text.ends_with(suffix.as_str())) {
            return Some(format!("must end with {suffix:?}"));
        }
        if let Some(part) = self.contains.as_ref().filter(|part| !text.contains(part.as_str())) {
            return Some(format!("must contain {part:?}"));
        }
        if !self.among.is_empty() && !self.among.iter().any(|one| one == text) {
            return Some(format!("must be one of {:?}", self.among));
        }
        if self.not_among.iter().any(|one| one == text) {
            return Some(format!("must be none of {:?}", self.not_among));
        }
        let (what, _) = self.pattern.as_ref().filter(|(_, regex)| !regex.is_match(text.as_bytes()))?;
        Some(format!("must be {what}"))
    }
}

/// A pattern of RE2 that the whole text must match. `None` if it does not compile, which a test rules out.
fn matching(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(&format!("^(?:{pattern})$")).unicode(false).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(pattern: (&str, &str)) -> TextRules {
        TextRules { pattern: matching(pattern.1).map(|regex| (pattern.0.to_owned(), regex)), ..TextRules::default() }
    }

    #[test]
    fn header_names_and_values() {
        for (pattern, text, passes) in [
            (HEADER_NAME, "x-forwarded-for", true),
            (HEADER_NAME, ":path", true),
            (HEADER_NAME, "a header", false),
            (HEADER_NAME, "", false),
            (HEADER_VALUE, "text/html; q=1", true),
            (HEADER_VALUE, "a\tb", true),
            (HEADER_VALUE, "a\nb", false),
            (HEADER, "", true),
            (HEADER, "größer", true),
            (HEADER, "a\r\nb", false),
            (HEADER, "a\0b", false),
        ] {
            assert_eq!(rules(pattern).broken(text).is_none(), passes, "{} {text:?}", pattern.0);
        }
    }
}
