//! What is wrong with a document, all of it at once.

use std::fmt;

use serde::Serialize;

/// How many violations are kept. A document of some megabytes could otherwise cause an answer many times its size.
const LIMIT: usize = 1000;

/// One rule that a document breaks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Violation {
    /// Path of the field, such as `networking.inbound[0].tags["service"]`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// Everything that is wrong with a document, in the order in which it was found. One violation per line when displayed.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Violations {
    found: Vec<Violation>,
    /// What is refused when a document is written, and passed over when a stored one is read back: fields that the
    /// reading did not know (a newer version may have stored them), and mandatory ones that lack (an older version
    /// asked for fewer).
    of_writing: Vec<Violation>,
}

impl Violations {
    /// Records one violation. Past a thousand, a last one says that the rest is not listed.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        if self.found.len() < LIMIT {
            self.found.push(Violation { field: field.into(), message: message.into() });
        } else if self.found.len() == LIMIT {
            self.found.push(Violation {
                field: String::new(),
                message: "there are more violations than can be listed".into(),
            });
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// The violations, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Violation> {
        self.found.iter()
    }

    /// The violations, in order.
    pub fn into_vec(self) -> Vec<Violation> {
        self.found
    }

    /// Takes over the violations of a part of the document that lies at `prefix`.
    pub fn extend_under(&mut self, prefix: &str, other: Violations) {
        for Violation { field, message } in other.found {
            let separator = if prefix.is_empty() || field.is_empty() || field.starts_with('[') { "" } else { "." };
            self.add(format!("{prefix}{separator}{field}"), message);
        }
    }

    /// `value` if nothing is wrong.
    pub fn result<T>(self, value: T) -> Result<T, Violations> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Notes what is refused only when a document is written. Looking for what was meant costs something, so it is not
    /// done past the limit.
    pub(crate) fn add_of_writing(&mut self, describe: impl FnOnce() -> Violation) {
        if self.of_writing.len() <= LIMIT {
            self.of_writing.push(describe());
        }
    }

    /// Counts what is refused only when a document is written among the violations.
    pub(crate) fn refuse_of_writing(&mut self) {
        for Violation { field, message } in std::mem::take(&mut self.of_writing) {
            self.add(field, message);
        }
    }

    /// The violations of the rules of a kind, after those of reading it. A rule that failed because a field could not
    /// be read says nothing new and is left out.
    pub(crate) fn then(mut self, rules: Violations) -> Violations {
        let unreadable: Vec<String> = self.found.iter().map(|violation| violation.field.clone()).collect();
        self.refuse_of_writing();
        for Violation { field, message } in rules.found {
            if !unreadable.iter().any(|path| lies_in(&field, path) || is_field_of(path, &field)) {
                self.add(field, message);
            }
        }
        self
    }
}

/// Whether a path is `outer` or below.
fn lies_in(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || outer.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether a path is a field or an entry of `outer` itself.
fn is_field_of(path: &str, outer: &str) -> bool {
    let Some(rest) = path.strip_prefix(outer) else {
        return false;
    };
    match rest.strip_prefix('.') {
        Some(name) => !name.contains(['.', '[']),
        None => rest.starts_with("[\"") && rest.ends_with("\"]"),
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Violation { field, message }) in self.found.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            if !field.is_empty() {
                write!(f, "{field}: ")?;
            }
            f.write_str(message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

impl<'a> IntoIterator for &'a Violations {
    type Item = &'a Violation;
    type IntoIter = std::slice::Iter<'a, Violation>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(field: &str) -> Violations {
        let mut violations = Violations::default();
        violations.add(field, "is wrong");
        violations
    }

    #[test]
    fn parts_are_put_under_their_path() {
        let mut all = Violations::default();
        for part in ["name", "[0].name", ""] {
            all.extend_under("conf", one(part));
        }
        all.extend_under("", one("name"));
        assert_eq!(all.to_string(), "conf.name: is wrong\nconf[0].name: is wrong\nconf: is wrong\nname: is wrong");
    }

    #[test]
    fn the_list_is_bounded() {
        let mut all = Violations::default();
        for _ in 0..5000 {
            all.add("a", "b");
        }
        let mut unknown = Violations::default();
        for _ in 0..5000 {
            unknown.add_of_writing(|| Violation { field: "a".into(), message: "b".into() });
        }
        unknown.refuse_of_writing();
        for all in [all, unknown] {
            assert_eq!(all.len(), LIMIT + 1);
            assert!(all.to_string().ends_with("\nthere are more violations than can be listed"));
        }
    }

    #[test]
    fn rules_say_nothing_of_what_could_not_be_read() {
        for (unreadable, rule, reported) in [
            ("networking.inbound[1]", "networking.inbound[1].port", false),
            ("networking.inbound[1]", "networking.inbound[10].port", true),
            ("networking.inbound", "networking", false),
            ("networking.inbound[1].port", "networking", true),
            ("sources[0].match[\"service\"]", "sources[0].match", false),
            ("sources[0].match[\"service\"]", "sources", true),
            ("metrics", "networking", true),
        ] {
            assert_eq!(one(unreadable).then(one(rule)).len() == 2, reported, "{unreadable}, {rule}");
        }
    }

    #[test]
    fn unknown_fields_hide_no_rule_and_are_refused_only_on_demand() {
        let mut reading = Violations::default();
        reading.add_of_writing(|| Violation { field: "networking.inbond".into(), message: "unknown field".into() });
        assert!(reading.is_empty());
        assert_eq!(
            reading.then(one("networking")).to_string(),
            "networking.inbond: unknown field\nnetworking: is wrong"
        );
    }
}
