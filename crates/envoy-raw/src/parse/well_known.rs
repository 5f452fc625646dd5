//! Protobuf's own messages that have a form of their own in JSON: `5s` for a Duration.

use std::collections::BTreeMap;

use prost_reflect::{Kind, MessageDescriptor};
use serde_json::Value as Json;

use super::{Parser, found, scalar};
use crate::tree::{Field, Key, Message, Value};
use crate::{element, entry};

const DURATION: &str = "google.protobuf.Duration";
const TIMESTAMP: &str = "google.protobuf.Timestamp";
const FIELD_MASK: &str = "google.protobuf.FieldMask";
const STRUCT: &str = "google.protobuf.Struct";
const LIST: &str = "google.protobuf.ListValue";
const VALUE: &str = "google.protobuf.Value";
const WRAPPERS: [&str; 9] = [
    "google.protobuf.BoolValue",
    "google.protobuf.BytesValue",
    "google.protobuf.DoubleValue",
    "google.protobuf.FloatValue",
    "google.protobuf.Int32Value",
    "google.protobuf.Int64Value",
    "google.protobuf.StringValue",
    "google.protobuf.UInt32Value",
    "google.protobuf.UInt64Value",
];

/// Longest Duration, in seconds: ten thousand years (duration.proto).
const LONGEST: i64 = 315_576_000_000;

/// Whether a message has a form of its own, `Any` included.
pub(super) fn has_own_form(message: &str) -> bool {
    matches!(message, DURATION | TIMESTAMP | FIELD_MASK | STRUCT | LIST | VALUE | "google.protobuf.Any")
        || is_wrapper(message)
}

/// Whether a message is one scalar, wrapped so that its absence can be told.
pub(crate) fn is_wrapper(message: &str) -> bool {
    WRAPPERS.contains(&message)
}

/// Whether `null` is a value of a field of this kind, rather than its absence.
pub(super) fn takes_null(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => message.full_name() == VALUE,
        Kind::Enum(descriptor) => descriptor.full_name() == "google.protobuf.NullValue",
        _ => false,
    }
}

impl Parser {
    /// Reads one of them, `Any` excepted.
    pub(super) fn well_known(&mut self, descriptor: MessageDescriptor, json: Json, path: &str) -> Option<Message> {
        let name = descriptor.full_name().to_owned();
        match name.as_str() {
            DURATION => match json.as_str().and_then(duration) {
                Some((seconds, nanos)) => Some(time(descriptor, seconds, nanos)),
                None => {
                    self.wrong(path, format!("expected a duration in seconds such as \"1.5s\", found {}", found(&json)))
                }
            },
            TIMESTAMP => match json.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
                Some(at) => {
                    // The nanoseconds of a protobuf time count forwards, also before 1970.
                    let nanos = at.as_nanosecond().rem_euclid(1_000_000_000) as i32;
                    let seconds = at.as_nanosecond().div_euclid(1_000_000_000) as i64;
                    Some(time(descriptor, seconds, nanos))
                }
                None => self
                    .wrong(path, format!("expected a time such as \"2020-01-31T12:00:00Z\", found {}", found(&json))),
            },
            FIELD_MASK => match json {
                Json::String(text) => {
                    let paths = text.split(',').filter(|path| !path.is_empty());
                    let paths = paths.map(|path| Value::String(snake_case(path))).collect();
                    Some(with(descriptor, "paths", Field::Many(paths)))
                }
                other => self.wrong(path, format!("expected a string, found {}", found(&other))),
            },
            STRUCT => self.structure(descriptor, json, path),
            LIST => self.list(descriptor, json, path),
            VALUE => self.any_value(descriptor, json, path),
            _ => {
                let field = descriptor.get_field_by_name("value")?;
                match scalar::value(&field.kind(), &json) {
                    Ok(value) => Some(with(descriptor, "value", Field::One(value))),
                    Err(reason) => self.wrong(path, reason),
                }
            }
        }
    }

    fn structure(&mut self, descriptor: MessageDescriptor, json: Json, path: &str) -> Option<Message> {
        let Json::Object(object) = json else {
            return self.wrong(path, format!("expected a mapping, found {}", found(&json)));
        };
        let value = descriptor.parent_pool().get_message_by_name(VALUE)?;
        let mut entries = BTreeMap::new();
        for (name, json) in object {
            let at = entry(path, &name);
            if let Some(message) = self.any_value(value.clone(), json, &at) {
                entries.insert(Key::String(name), Value::Message(message));
            }
        }
        Some(with(descriptor, "fields", Field::Map(entries)))
    }

    fn list(&mut self, descriptor: MessageDescriptor, json: Json, path: &str) -> Option<Message> {
        let Json::Array(elements) = json else {
            return self.wrong(path, format!("expected a list, found {}", found(&json)));
        };
        let value = descriptor.parent_pool().get_message_by_name(VALUE)?;
        let mut values = Vec::with_capacity(elements.len());
        for (index, json) in elements.into_iter().enumerate() {
            let message = self.any_value(value.clone(), json, &element(path, index));
            values.extend(message.map(Value::Message));
        }
        Some(with(descriptor, "values", Field::Many(values)))
    }

    fn any_value(&mut self, descriptor: MessageDescriptor, json: Json, path: &str) -> Option<Message> {
        let pool = descriptor.parent_pool();
        let (field, value) = match json {
            Json::Null => ("null_value", Value::Enum(0)),
            Json::Bool(value) => ("bool_value", Value::Bool(value)),
            Json::Number(number) => ("number_value", Value::Double(number.as_f64()?)),
            Json::String(text) => ("string_value", Value::String(text)),
            Json::Array(_) => {
                let list = pool.get_message_by_name(LIST)?;
                ("list_value", Value::Message(self.list(list, json, path)?))
            }
            Json::Object(_) => {
                let structure = pool.get_message_by_name(STRUCT)?;
                ("struct_value", Value::Message(self.structure(structure, json, path)?))
            }
        };
        Some(with(descriptor, field, Field::One(value)))
    }
}

fn with(descriptor: MessageDescriptor, name: &str, field: Field) -> Message {
    let mut message = Message::new(descriptor);
    if let Some(descriptor) = message.descriptor.get_field_by_name(name) {
        message.set(&descriptor, field);
    }
    message
}

fn time(descriptor: MessageDescriptor, seconds: i64, nanos: i32) -> Message {
    let mut message = with(descriptor, "seconds", Field::One(Value::Int(seconds)));
    if let Some(descriptor) = message.descriptor.get_field_by_name("nanos") {
        message.set(&descriptor, Field::One(Value::Int(nanos.into())));
    }
    message
}

/// Seconds with up to nine decimals, and an `s`.
fn duration(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let (sign, number) = number.strip_prefix('-').map_or((1, number), |number| (-1, number));
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let dangling = number.contains('.') && decimals.is_empty();
    if whole.is_empty() || decimals.len() > 9 || dangling || !digits(whole) || !digits(decimals) {
        return None;
    }
    let seconds: i64 = whole.parse().ok().filter(|&seconds| seconds <= LONGEST)?;
    let nanos: i32 = if decimals.is_empty() { 0 } else { format!("{decimals:0<9}").parse().ok()? };
    Some((sign as i64 * seconds, sign * nanos))
}

fn snake_case(path: &str) -> String {
    let mut snake = String::with_capacity(path.len());
    for c in path.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds() {
        for (text, expected) in [
            ("5s", Some((5, 0))),
            ("0.25s", Some((0, 250_000_000))),
            ("-1.000000001s", Some((-1, -1))),
            ("315576000000s", Some((LONGEST, 0))),
            ("315576000001s", None),
            ("5", None),
            ("5ms", None),
            ("1m", None),
            ("1.s", None),
            (".5s", None),
            ("1.0000000001s", None),
            ("--1s", None),
            ("+1s", None),
            ("s", None),
            ("", None),
        ] {
            assert_eq!(duration(text), expected, "{text:?}");
        }
    }
}
