//! The constraints that Envoy's messages declare (protoc-gen-validate), held against a tree of messages.
//!
//! Envoy checks them when it is given a resource, and refuses a whole response for one that breaks them: so they are
//! checked before. What an `Any` holds is checked as Envoy does when it makes something of it.

mod read;
mod text;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use prost_reflect::{Kind, MessageDescriptor};

use crate::parse::is_wrapper;
use crate::rules::read::{FieldRules, MessageRules, NumberRules, RepeatedRules, Rules, ValueRules};
use crate::tree::{Field, Key, Message, Value};
use crate::{MAX_PROBLEMS, Problem, child, element, entry};

/// What is read of the descriptors is kept: a mesh may have many resources of few types.
static RULES: LazyLock<Mutex<HashMap<String, Arc<MessageRules>>>> = LazyLock::new(Mutex::default);

/// Everything in a message that Envoy would refuse.
pub(crate) fn check(message: &Message) -> Vec<Problem> {
    let mut checker = Checker { problems: Vec::new() };
    checker.message(message, "");
    checker.problems
}

fn rules_of(descriptor: &MessageDescriptor) -> Arc<MessageRules> {
    // Nothing is left half done while it is held.
    let mut known = RULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(rules) = known.get(descriptor.full_name()) {
        return rules.clone();
    }
    let rules = Arc::new(read::message(descriptor));
    known.insert(descriptor.full_name().to_owned(), rules.clone());
    rules
}

struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn wrong(&mut self, path: &str, reason: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { path: path.to_owned(), reason: reason.into() });
        }
    }

    fn message(&mut self, message: &Message, path: &str) {
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let rules = rules_of(&message.descriptor);
        if rules.disabled {
            return;
        }
        for oneof in &rules.required_oneofs {
            if !oneof.iter().any(|(number, _)| message.fields.contains_key(number)) {
                let names: Vec<&str> = oneof.iter().map(|(_, name)| name.as_str()).collect();
                self.wrong(path, format!("one of {} is required", names.join(", ")));
            }
        }
        for field in &rules.fields {
            if !field.in_oneof && !message.fields.contains_key(&field.number) {
                self.absent(field, &child(path, &field.name));
            }
        }
        for (number, (descriptor, value)) in &message.fields {
            let field_rules = rules.fields.iter().find(|rules| rules.number == *number);
            self.field(field_rules.map(|rules| &rules.rules), value, &child(path, descriptor.name()));
        }
    }

    /// A field that is not there. One without presence has its default, and that is held against the rules.
    fn absent(&mut self, field: &FieldRules, path: &str) {
        if field.rules.required {
            return self.wrong(path, "is required");
        }
        match &field.rules.value {
            None => {}
            Some(ValueRules::Repeated(rules)) => self.count(rules, 0, path),
            Some(_) if field.presence => {}
            Some(rules) => {
                if let Some(default) = default_of(&field.kind) {
                    self.value(rules, &default, path);
                }
            }
        }
    }

    fn field(&mut self, rules: Option<&Rules>, field: &Field, path: &str) {
        match field {
            Field::One(value) => self.both(rules, value, path),
            Field::Many(values) => {
                let repeated = rules.and_then(Rules::repeated);
                if let Some(repeated) = repeated {
                    self.count(repeated, values.len(), path);
                    if repeated.unique {
                        self.unique(values, path);
                    }
                }
                for (index, value) in values.iter().enumerate() {
                    self.both(repeated.and_then(|rules| rules.items.as_deref()), value, &element(path, index));
                }
            }
            Field::Map(entries) => {
                let repeated = rules.and_then(Rules::repeated);
                if let Some(repeated) = repeated {
                    self.count(repeated, entries.len(), path);
                }
                for (key, value) in entries {
                    let path = entry(path, &key.to_string());
                    let keys = repeated.and_then(|rules| rules.keys.as_ref()?.value.as_ref());
                    if let Some(keys) = keys {
                        self.value(keys, &key.clone().into(), &path);
                    }
                    self.both(repeated.and_then(|rules| rules.items.as_deref()), value, &path);
                }
            }
        }
    }

    /// A value against its own rules, and what is in it against theirs.
    fn both(&mut self, rules: Option<&Rules>, value: &Value, path: &str) {
        if let Some(rules) = rules.and_then(|rules| rules.value.as_ref()) {
            self.value(rules, value, path);
        }
        if let Value::Message(inner) | Value::Any(inner) = value
            && !rules.is_some_and(|rules| rules.skip)
        {
            self.message(inner, path);
        }
    }

    fn value(&mut self, rules: &ValueRules, value: &Value, path: &str) {
        // The rules of a wrapper are about what it wraps.
        if let Value::Message(message) = value
            && is_wrapper(message.descriptor.full_name())
        {
            let inner = match message.field("value") {
                Some(Field::One(value)) => Some(value.clone()),
                _ => message.descriptor.get_field_by_name("value").and_then(|field| default_of(&field.kind())),
            };
            if let Some(inner) = inner {
                self.value(rules, &inner, path);
            }
            return;
        }
        let broken = match (rules, value) {
            (ValueRules::Int(rules), Value::Int(value)) => rules.broken(&i128::from(*value)),
            (ValueRules::Int(rules), Value::Uint(value)) => rules.broken(&i128::from(*value)),
            (ValueRules::Float(rules), Value::Float(value)) => rules.broken(&f64::from(*value)),
            (ValueRules::Float(rules), Value::Double(value)) => rules.broken(value),
            (ValueRules::Bool(expected), Value::Bool(value)) => {
                (expected != value).then(|| format!("must be {expected}"))
            }
            (ValueRules::Enum(rules), Value::Enum(value)) => rules.broken(*value),
            (ValueRules::Text(rules), Value::String(value)) => rules.broken(value),
            (ValueRules::Bytes(rules), Value::Bytes(value)) => rules.broken(value.len()),
            (ValueRules::Duration(bounds), Value::Message(duration)) => bounds.broken(&nanoseconds(duration)),
            _ => None,
        };
        if let Some(reason) = broken {
            self.wrong(path, reason);
        }
    }

    fn count(&mut self, rules: &RepeatedRules, count: usize, path: &str) {
        let count = count as u64;
        if count == 0 && rules.ignore_empty {
            return;
        }
        let things = |number: u64| if number == 1 { "entry" } else { "entries" };
        if let Some(least) = rules.min.filter(|&least| count < least) {
            self.wrong(path, format!("needs at least {least} {}, has {count}", things(least)));
        }
        if let Some(most) = rules.max.filter(|&most| count > most) {
            self.wrong(path, format!("takes at most {most} {}, has {count}", things(most)));
        }
    }

    fn unique(&mut self, values: &[Value], path: &str) {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (index, value) in values.iter().enumerate() {
            let shown = match value {
                // Rules ask it of no messages.
                Value::Message(_) | Value::Any(_) => continue,
                value => format!("{value:?}"),
            };
            if let Some(first) = seen.insert(shown, index) {
                return self.wrong(&element(path, index), format!("is the same as the one at {first}"));
            }
        }
    }
}

impl<T: PartialOrd> NumberRules<T> {
    fn broken(&self, value: &T) -> Option<String> {
        let NumberRules { exactly, gt, gte, lt, lte, among, not_among, ignore_default, show, default } = self;
        if *ignore_default && value == default {
            return None;
        }
        let list = |values: &[T]| values.iter().map(show).collect::<Vec<_>>().join(", ");
        if let Some(bound) = exactly.as_ref().filter(|&bound| value != bound) {
            return Some(format!("must be {}", show(bound)));
        }
        // What cannot be compared (NaN) is within no bound.
        let bounds: [(&Option<T>, &[Ordering], &str); 4] = [
            (gt, &[Ordering::Greater], "greater than"),
            (gte, &[Ordering::Greater, Ordering::Equal], "at least"),
            (lt, &[Ordering::Less], "less than"),
            (lte, &[Ordering::Less, Ordering::Equal], "at most"),
        ];
        for (bound, within, words) in bounds {
            if let Some(bound) = bound
                && !value.partial_cmp(bound).is_some_and(|ordering| within.contains(&ordering))
            {
                return Some(format!("must be {words} {}", show(bound)));
            }
        }
        if !among.is_empty() && !among.contains(value) {
            return Some(format!("must be one of {}", list(among)));
        }
        not_among.contains(value).then(|| format!("must be none of {}", list(not_among)))
    }
}

/// What proto3 takes an absent scalar for.
fn default_of(kind: &Kind) -> Option<Value> {
    Some(match kind {
        Kind::Double => Value::Double(0.0),
        Kind::Float => Value::Float(0.0),
        Kind::Int32 | Kind::Int64 | Kind::Sint32 | Kind::Sint64 | Kind::Sfixed32 | Kind::Sfixed64 => Value::Int(0),
        Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 => Value::Uint(0),
        Kind::Bool => Value::Bool(false),
        Kind::String => Value::String(String::new()),
        Kind::Bytes => Value::Bytes(Vec::new()),
        Kind::Enum(_) => Value::Enum(0),
        Kind::Message(_) => return None,
    })
}

/// The length of a `google.protobuf.Duration`.
fn nanoseconds(duration: &Message) -> i128 {
    let part = |name: &str| match duration.field(name) {
        Some(Field::One(Value::Int(value))) => i128::from(*value),
        _ => 0,
    };
    part("seconds") * 1_000_000_000 + part("nanos")
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Bool(key) => key.fmt(f),
            Key::Int(key) => key.fmt(f),
            Key::Uint(key) => key.fmt(f),
            Key::String(key) => f.write_str(key),
        }
    }
}

impl From<Key> for Value {
    fn from(key: Key) -> Value {
        match key {
            Key::Bool(key) => Value::Bool(key),
            Key::Int(key) => Value::Int(key),
            Key::Uint(key) => Value::Uint(key),
            Key::String(key) => Value::String(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every rule is of a kind that is read, and every pattern compiles (asserted where it is read).
    #[test]
    fn the_rules_of_every_message_are_read() {
        let (mut fields, mut oneofs) = (0, 0);
        for descriptor in crate::pool().all_messages() {
            let rules = rules_of(&descriptor);
            for field in &rules.fields {
                let Rules { required, skip, value } = &field.rules;
                // Of a message all that may be said is that it need not be there.
                let message = matches!(field.kind, Kind::Message(_));
                assert!(*required || *skip || value.is_some() || message, "{}.{}", descriptor.full_name(), field.name);
            }
            fields += rules.fields.len();
            oneofs += rules.required_oneofs.len();
        }
        assert!(fields > 1000 && oneofs > 100, "{fields} fields and {oneofs} oneofs have rules");
    }
}
