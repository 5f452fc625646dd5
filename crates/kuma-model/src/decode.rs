//! Reads JSON into types field by field, and finds everything that is wrong on the way instead of the first thing
//! alone.
//!
//! The mapping is the one of proto3's JSON: names in camelCase on output, camelCase or snake_case on input; `null` is
//! the same as absent, except that it selects a member of a oneof; whole numbers may stand in quotes.

use serde_json::{Map, Value};

use crate::violations::{Violation, Violations};

/// A value that can be read from JSON.
pub trait Decode: Sized {
    /// Reads a value that is not `null`. What is wrong is recorded under `path`; nothing is returned where no value can
    /// be made of it at all.
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Self>;
}

/// The fields of one JSON object. Fields that nobody asked for are reported when the reading ends.
#[derive(Debug)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: &'a str,
    known: Vec<&'static str>,
    violations: &'a mut Violations,
}

impl Fields<'_> {
    /// The field of that camelCase name; its default where it is absent or `null`.
    pub fn get<T: Decode + Default>(&mut self, name: &'static str) -> T {
        self.opt(name).unwrap_or_default()
    }

    /// The field of that camelCase name; nothing where it is absent or `null`.
    pub fn opt<T: Decode>(&mut self, name: &'static str) -> Option<T> {
        let value = self.written(name).filter(|value| !value.is_null())?;
        T::decode(value, &child(self.path, name), self.violations)
    }

    /// The field of that camelCase name, which whoever writes the document has to set: absent or `null`, it is refused
    /// with `message`. In a stored document it is its default then.
    pub fn required<T: Decode + Default>(&mut self, name: &'static str, message: &str) -> T {
        if self.written(name).is_none_or(Value::is_null) {
            let field = child(self.path, name);
            self.violations.add_of_writing(|| Violation { field, message: message.to_owned() });
        }
        self.get(name)
    }

    /// Reads a nested object by a function of its fields; nothing where it is absent or `null`.
    pub fn object<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        let value = self.written(name).filter(|value| !value.is_null())?;
        object(value, &child(self.path, name), self.violations, read)
    }

    /// Which of the members of a oneof is written, `null` included. More than one is a violation.
    pub fn one_of(&mut self, names: &[&'static str]) -> Option<&'static str> {
        let written: Vec<&'static str> = names.iter().copied().filter(|name| self.written(name).is_some()).collect();
        if written.len() > 1 {
            let names: Vec<String> = written.iter().map(|name| format!("{name:?}")).collect();
            self.violations.add(self.path, format!("only one of {} can be set", names.join(" and ")));
        }
        written.first().copied()
    }

    /// Reads a member of a oneof by a function of its fields; `null` is an empty object.
    pub fn member<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        match self.written(name)? {
            Value::Null => object(&Value::Object(Map::new()), &child(self.path, name), self.violations, read),
            value => object(value, &child(self.path, name), self.violations, read),
        }
    }

    fn finish(self) {
        for key in self.object.keys() {
            if !self.known.iter().any(|name| key == name || *key == snake_case(name)) {
                self.violations.add_of_writing(|| Violation {
                    field: child(self.path, key),
                    message: did_you_mean("unknown field", key, self.known.iter().copied()),
                });
            }
        }
    }
}

impl<'a> Fields<'a> {
    /// What is written under a name; camelCase wins over snake_case.
    fn written(&mut self, name: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        written(self.object, name)
    }
}

/// Reads an object by a function of its fields.
pub(crate) fn object<T>(
    value: &Value,
    path: &str,
    violations: &mut Violations,
    read: impl FnOnce(&mut Fields<'_>) -> T,
) -> Option<T> {
    match value {
        Value::Object(object) => Some(fields(object, path, violations, read)),
        other => wrong_type(path, violations, "an object", other),
    }
}

/// Reads the fields of an object.
pub(crate) fn fields<T>(
    object: &Map<String, Value>,
    path: &str,
    violations: &mut Violations,
    read: impl FnOnce(&mut Fields<'_>) -> T,
) -> T {
    let mut fields = Fields { object, path, known: Vec::new(), violations };
    let value = read(&mut fields);
    fields.finish();
    value
}

/// What an object has under a camelCase name, written in either way.
pub(crate) fn written<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| object.get(&snake_case(name)))
}

/// Path of a field of the object at `path`.
pub(crate) fn child(path: &str, name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'@'));
    match (plain && !name.is_empty(), path.is_empty()) {
        (true, true) => name.to_owned(),
        (true, false) => format!("{path}.{name}"),
        (false, _) => entry(path, name),
    }
}

/// Path of the entry of the map at `path`.
pub(crate) fn entry(path: &str, key: &str) -> String {
    format!("{path}[{}]", Value::from(key))
}

/// Path of an element of the list at `path`.
pub(crate) fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

pub(crate) fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// The message for a name that is not among the known ones.
pub(crate) fn did_you_mean<'a>(what: &str, written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // A name that shares half its letters is likely meant. Long names are not compared: the work grows with the length.
    const LONGEST: usize = 64;
    let nearest = known
        .into_iter()
        .filter(|_| written.len() <= LONGEST)
        .map(|name| (strsim::damerau_levenshtein(&written.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, name)| distance * 2 <= name.len().max(written.len()))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((_, name)) => format!("{what}; did you mean {name:?}?"),
        None => what.to_owned(),
    }
}

pub(crate) fn wrong_type<T>(path: &str, violations: &mut Violations, expected: &str, found: &Value) -> Option<T> {
    violations.add(path, format!("must be {expected}, not {}", describe(found)));
    None
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl Decode for String {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<String> {
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => {
                violations.add(path, format!("must be a string, not {}: put it in quotes", describe(value)));
                None
            }
            other => wrong_type(path, violations, "a string", other),
        }
    }
}

/// Any object, as it is.
impl Decode for Map<String, Value> {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Map<String, Value>> {
        match value {
            Value::Object(fields) => Some(fields.clone()),
            other => wrong_type(path, violations, "an object", other),
        }
    }
}

impl Decode for bool {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<bool> {
        match value {
            Value::Bool(value) => Some(*value),
            other => wrong_type(path, violations, "true or false", other),
        }
    }
}

impl Decode for u64 {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<u64> {
        let number = whole_number(value);
        if number.is_none() {
            violations.add(path, format!("must be a whole number from 0 to {}", u64::MAX));
        }
        number
    }
}

impl Decode for u32 {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<u32> {
        let number = whole_number(value).and_then(|number| u32::try_from(number).ok());
        if number.is_none() {
            violations.add(path, format!("must be a whole number from 0 to {}", u32::MAX));
        }
        number
    }
}

fn whole_number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

impl Decode for f64 {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<f64> {
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| number.is_finite());
        if number.is_none() {
            violations.add(path, "must be a number");
        }
        number
    }
}

/// An element that cannot be read leaves its default behind, so that the others keep their index.
impl<T: Decode + Default> Decode for Vec<T> {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Vec<T>> {
        let Value::Array(elements) = value else {
            return wrong_type(path, violations, "a list", value);
        };
        let read = |(index, value)| T::decode(value, &element(path, index), violations).unwrap_or_default();
        Some(elements.iter().enumerate().map(read).collect())
    }
}

/// Reads a port in digits; not 0.
pub(crate) fn port(text: &str) -> Option<u16> {
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reading<T>(json: &Value, read: impl FnOnce(&mut Fields<'_>) -> T) -> (Option<T>, String) {
        let mut violations = Violations::default();
        let value = object(json, "", &mut violations, read);
        violations.refuse_of_writing();
        (value, violations.to_string())
    }

    #[test]
    fn both_spellings_are_read_and_camel_case_wins() {
        let read = |fields: &mut Fields<'_>| fields.get::<u32>("servicePort");
        assert_eq!(reading(&json!({"servicePort": 1}), read), (Some(1), String::new()));
        assert_eq!(reading(&json!({"service_port": 2}), read), (Some(2), String::new()));
        assert_eq!(reading(&json!({"service_port": 2, "servicePort": 1}), read), (Some(1), String::new()));
        assert_eq!(reading(&json!({"servicePort": null}), read), (Some(0), String::new()));
    }

    #[test]
    fn an_unknown_name_is_told_the_nearest_known_one_or_none() {
        for (written, expected) in [
            ("servicePorts", r#"unknown field; did you mean "servicePort"?"#),
            ("SERVICEPORT", r#"unknown field; did you mean "servicePort"?"#),
            ("prt", r#"unknown field; did you mean "port"?"#),
            ("zzz", "unknown field"),
            (&"port".repeat(20), "unknown field"),
        ] {
            assert_eq!(did_you_mean("unknown field", written, ["port", "servicePort"]), expected, "{written}");
        }
    }

    #[test]
    fn whole_numbers_may_be_quoted() {
        let read = |fields: &mut Fields<'_>| fields.opt::<u64>("n");
        for (value, number) in [
            (json!(7), Some(7)),
            (json!("7"), Some(7)),
            (json!("18446744073709551615"), Some(u64::MAX)),
            (json!(""), None),
            (json!("+7"), None),
            (json!(" 7"), None),
            (json!(7.0), None),
            (json!(-7), None),
            (json!(true), None),
        ] {
            assert_eq!(reading(&json!({ "n": value }), read).0, Some(number), "{value}");
        }
    }

    #[test]
    fn elements_keep_their_index_past_one_that_cannot_be_read() {
        let (list, found) = reading(&json!({"list": ["a", 1, "c"]}), |fields| fields.get::<Vec<String>>("list"));
        assert_eq!(list, Some(vec!["a".to_owned(), String::new(), "c".to_owned()]));
        assert_eq!(found, "list[1]: must be a string, not a number: put it in quotes");
    }
}
