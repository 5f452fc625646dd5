//! JSON into a tree of messages, by protobuf's rules for JSON as Envoy applies them: names in `snake_case` or
//! `camelCase`, one value where a list is expected, and names of enums in any case.

mod scalar;
mod well_known;

pub(crate) use well_known::is_wrapper;

use std::collections::BTreeMap;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value as Json};

use crate::descriptors::{self, Descriptors, nearest};
use crate::resource::{SERVED, served_as};
use crate::tree::{Field, Key, Message, Value};
use crate::upgrade::{self, Alias};
use crate::{MAX_PROBLEMS, Problem, child, element, entry};

/// A resource that was read.
pub(crate) struct Parsed {
    pub(crate) message: Message,
    aliases: Vec<Alias>,
}

impl Parsed {
    /// Problems with paths as the user wrote them, where the v2 form has others.
    pub(crate) fn shown(&self, problems: Vec<Problem>) -> Vec<Problem> {
        upgrade::shown(problems, &self.aliases)
    }
}

/// Reads a resource: an object with an `@type` that is served.
pub(crate) fn resource(json: Json) -> Result<Parsed, Vec<Problem>> {
    let mut parser = Parser { descriptors: descriptors::get(), problems: Vec::new(), aliases: Vec::new() };
    let message = parser.any(json, "", Api::V3);
    let Parser { mut problems, aliases, .. } = parser;
    if let Some(message) = &message
        && served_as(message.descriptor.full_name()).is_none()
    {
        let reason = format!("{} cannot be given: {SERVED} served", message.descriptor.full_name());
        problems.insert(0, Problem { path: "@type".to_owned(), reason });
    }
    match message {
        Some(message) if problems.is_empty() => Ok(Parsed { message, aliases }),
        _ => Err(upgrade::shown(problems, &aliases)),
    }
}

/// Which version of Envoy's API a text was written for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    V2,
    V3,
}

struct Parser {
    descriptors: &'static Descriptors,
    problems: Vec<Problem>,
    aliases: Vec<Alias>,
}

impl Parser {
    /// Notes a problem; there is no value then.
    fn wrong<T>(&mut self, path: &str, reason: impl Into<String>) -> Option<T> {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { path: path.to_owned(), reason: reason.into() });
        }
        None
    }

    /// The content of an `Any`: an object that says in `@type` what it is.
    fn any(&mut self, json: Json, path: &str, api: Api) -> Option<Message> {
        let Json::Object(mut object) = json else {
            return self.wrong(path, format!("expected a mapping with \"@type\", found {}", found(&json)));
        };
        let type_url = match object.shift_remove("@type") {
            Some(Json::String(type_url)) => type_url,
            None => return self.wrong(path, "\"@type\" is missing"),
            Some(other) => {
                return self.wrong(&child(path, "@type"), format!("expected a string, found {}", found(&other)));
            }
        };
        let (descriptor, api) = match self.descriptors.resolve(&type_url) {
            Ok((descriptor, true)) => (descriptor, Api::V2),
            Ok((descriptor, false)) => (descriptor, api),
            Err(reason) => return self.wrong(&child(path, "@type"), reason),
        };
        if !well_known::has_own_form(descriptor.full_name()) {
            return self.fields(descriptor, object, path, api);
        }
        let value = object.shift_remove("value").unwrap_or(Json::Null);
        if let Some((other, _)) = object.iter().next() {
            let reason = format!("a {} has \"value\" alone", descriptor.name());
            return self.wrong(&child(path, other), reason);
        }
        match self.message(descriptor, value, &child(path, "value"), api)? {
            Value::Message(message) => Some(message),
            _ => self.wrong(path, "an Any in an Any is of no use"),
        }
    }

    /// A message in a field.
    fn message(&mut self, descriptor: MessageDescriptor, json: Json, path: &str, api: Api) -> Option<Value> {
        if descriptor.full_name() == "google.protobuf.Any" {
            return self.any(json, path, api).map(Value::Any);
        }
        if well_known::has_own_form(descriptor.full_name()) {
            return self.well_known(descriptor, json, path).map(Value::Message);
        }
        match json {
            Json::Object(object) => self.fields(descriptor, object, path, api).map(Value::Message),
            other => self.wrong(path, format!("expected a mapping, found {}", found(&other))),
        }
    }

    fn fields(
        &mut self,
        descriptor: MessageDescriptor,
        mut object: Map<String, Json>,
        path: &str,
        api: Api,
    ) -> Option<Message> {
        if api == Api::V2 {
            let upgraded = upgrade::message(&descriptor, &mut object, path);
            self.aliases.extend(upgraded.aliases);
            for problem in upgraded.problems {
                self.wrong::<()>(&problem.path, problem.reason);
            }
        }
        let mut message = Message::new(descriptor);
        let mut seen: BTreeMap<u32, String> = BTreeMap::new();
        for (name, json) in object {
            if self.problems.len() >= MAX_PROBLEMS {
                return None;
            }
            let by_name = message.descriptor.get_field_by_name(&name);
            let Some(field) = by_name.or_else(|| message.descriptor.get_field_by_json_name(&name)) else {
                let reason = unknown_field(&message.descriptor, &name);
                self.wrong::<()>(&child(path, &name), reason);
                continue;
            };
            let path = child(path, field.name());
            if let Some(before) = seen.insert(field.number(), name.clone()) {
                self.wrong::<()>(&path, format!("given twice, as {before:?} and {name:?}"));
                continue;
            }
            if json.is_null() && !well_known::takes_null(&field.kind()) {
                continue;
            }
            let options = field.options();
            let is_set = |extension| {
                options.has_extension(extension) && options.get_extension(extension).as_bool() == Some(true)
            };
            if is_set(&self.descriptors.disallowed) {
                self.wrong::<()>(&path, "Envoy refuses this deprecated field");
                continue;
            }
            if let Some(other) = other_of_oneof(&message, &field) {
                self.wrong::<()>(&path, format!("excludes {other:?}, which is given too"));
                continue;
            }
            let before = self.problems.len();
            if let Some(value) = self.field(&field, json, &path, api) {
                message.set(&field, value);
            }
            if is_set(&self.descriptors.sensitive) {
                self.problems[before..].iter_mut().for_each(conceal);
            }
        }
        Some(message)
    }

    fn field(&mut self, field: &FieldDescriptor, json: Json, path: &str, api: Api) -> Option<Field> {
        let kind = field.kind();
        if field.is_map() {
            return self.map(&kind, json, path, api).map(Field::Map);
        }
        if !field.is_list() {
            return self.value(&kind, json, path, api).map(Field::One);
        }
        let Json::Array(elements) = json else {
            // As Envoy's own reader does: one value is a list of one.
            return self.value(&kind, json, path, api).map(|value| Field::Many(vec![value]));
        };
        let mut values = Vec::with_capacity(elements.len());
        for (index, json) in elements.into_iter().enumerate() {
            values.extend(self.value(&kind, json, &element(path, index), api));
        }
        Some(Field::Many(values))
    }

    fn map(&mut self, kind: &Kind, json: Json, path: &str, api: Api) -> Option<BTreeMap<Key, Value>> {
        let Kind::Message(descriptor) = kind else { return None };
        let (keys, kind) = (descriptor.map_entry_key_field().kind(), descriptor.map_entry_value_field().kind());
        let Json::Object(object) = json else {
            return self.wrong(path, format!("expected a mapping, found {}", found(&json)));
        };
        let mut entries = BTreeMap::new();
        for (name, json) in object {
            let path = entry(path, &name);
            let Some(key) = scalar::key(&keys, &name) else {
                self.wrong::<()>(&path, format!("the key is no {keys:?}"));
                continue;
            };
            if let Some(value) = self.value(&kind, json, &path, api) {
                entries.insert(key, value);
            }
        }
        Some(entries)
    }

    fn value(&mut self, kind: &Kind, json: Json, path: &str, api: Api) -> Option<Value> {
        match kind {
            Kind::Message(descriptor) => self.message(descriptor.clone(), json, path, api),
            kind => match scalar::value(kind, &json) {
                Ok(value) => Some(value),
                Err(reason) => self.wrong(path, reason),
            },
        }
    }
}

/// The name of a field of the same oneof that is there already.
fn other_of_oneof(message: &Message, field: &FieldDescriptor) -> Option<String> {
    let oneof = field.containing_oneof()?;
    let mut others = oneof.fields().filter(|other| message.fields.contains_key(&other.number()));
    others.next().map(|other| other.name().to_owned())
}

fn unknown_field(descriptor: &MessageDescriptor, name: &str) -> String {
    let hint = nearest(name, descriptor.fields().map(|field| field.name().to_owned()));
    let hint = hint.map(|nearest| format!("; did you mean {nearest:?}?")).unwrap_or_default();
    format!("unknown field of {}{hint}", descriptor.full_name())
}

/// Leaves out of a problem what was found: in the place of a secret it is likely to be one.
fn conceal(problem: &mut Problem) {
    if let Some((expected, _)) = problem.reason.split_once(FOUND) {
        problem.reason.truncate(expected.len());
    }
}

/// What stands between what was expected and what is there.
const FOUND: &str = ", found ";

/// What a JSON value is, in words.
fn found(json: &Json) -> String {
    match json {
        Json::Null => "nothing".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => format!("the number {number}"),
        Json::String(text) => format!("the string {:?}", shortened(text)),
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => "a mapping".to_owned(),
    }
}

/// The start of a long text.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
