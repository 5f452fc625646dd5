//! The rules of a message, read from the options of its descriptor (validate.proto).

use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage as _, Value};

use super::text::TextRules;
use crate::descriptors;

/// The rules of a message.
pub(crate) struct MessageRules {
    /// Whether nothing is checked, what it holds included.
    pub(crate) disabled: bool,
    /// Numbers and names of the fields of each oneof of which one must be there.
    pub(crate) required_oneofs: Vec<Vec<(u32, String)>>,
    /// The fields that have rules.
    pub(crate) fields: Vec<FieldRules>,
}

/// The rules of a field.
pub(crate) struct FieldRules {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Whether its absence can be told from its default.
    pub(crate) presence: bool,
    /// Whether it is one of several, so that its rules count when it is the one.
    pub(crate) in_oneof: bool,
    pub(crate) rules: Rules,
}

/// The rules of a value.
pub(crate) struct Rules {
    /// Whether the message must be there.
    pub(crate) required: bool,
    /// Whether what is in the message is left unchecked.
    pub(crate) skip: bool,
    /// What the value must be, if anything.
    pub(crate) value: Option<ValueRules>,
}

/// What a value must be. The rules of a scalar are also those of a message that wraps it.
pub(crate) enum ValueRules {
    Int(NumberRules<i128>),
    Float(NumberRules<f64>),
    Bool(bool),
    Text(TextRules),
    Bytes(BytesRules),
    Enum(EnumRules),
    /// Of a list, or of a map.
    Repeated(RepeatedRules),
    /// In nanoseconds.
    Duration(NumberRules<i128>),
}

pub(crate) struct NumberRules<T> {
    pub(crate) exactly: Option<T>,
    pub(crate) gt: Option<T>,
    pub(crate) gte: Option<T>,
    pub(crate) lt: Option<T>,
    pub(crate) lte: Option<T>,
    pub(crate) among: Vec<T>,
    pub(crate) not_among: Vec<T>,
    /// Whether the default passes whatever the bounds.
    pub(crate) ignore_default: bool,
    pub(crate) default: T,
    pub(crate) show: fn(&T) -> String,
}

pub(crate) struct BytesRules {
    min: Option<u64>,
    max: Option<u64>,
    exactly: Option<u64>,
    ignore_empty: bool,
}

pub(crate) struct EnumRules {
    exactly: Option<i32>,
    among: Vec<i32>,
    not_among: Vec<i32>,
    /// The enum, if only the values that it names are allowed.
    defined_only: Option<prost_reflect::EnumDescriptor>,
}

pub(crate) struct RepeatedRules {
    pub(crate) min: Option<u64>,
    pub(crate) max: Option<u64>,
    pub(crate) unique: bool,
    pub(crate) ignore_empty: bool,
    /// Of the keys of a map.
    pub(crate) keys: Option<Box<Rules>>,
    /// Of the elements of a list, or of the values of a map.
    pub(crate) items: Option<Box<Rules>>,
}

impl Rules {
    pub(crate) fn repeated(&self) -> Option<&RepeatedRules> {
        match &self.value {
            Some(ValueRules::Repeated(rules)) => Some(rules),
            _ => None,
        }
    }
}

impl BytesRules {
    pub(crate) fn broken(&self, length: usize) -> Option<String> {
        let length = length as u64;
        if length == 0 && self.ignore_empty {
            None
        } else if let Some(min) = self.min.filter(|&min| length < min) {
            Some(format!("needs at least {min} bytes, has {length}"))
        } else if let Some(max) = self.max.filter(|&max| length > max) {
            Some(format!("takes at most {max} bytes, has {length}"))
        } else {
            self.exactly
                .filter(|&exactly| length != exactly)
                .map(|exactly| format!("must have {exactly} bytes, has {length}"))
        }
    }
}

impl EnumRules {
    pub(crate) fn broken(&self, value: i32) -> Option<String> {
        if let Some(descriptor) = &self.defined_only
            && descriptor.get_value(value).is_none()
        {
            return Some(format!("{value} is no {}", descriptor.name()));
        }
        if let Some(exactly) = self.exactly.filter(|&exactly| exactly != value) {
            return Some(format!("must be {exactly}"));
        }
        if !self.among.is_empty() && !self.among.contains(&value) {
            return Some(format!("must be one of {:?}", self.among));
        }
        self.not_among.contains(&value).then(|| "this value is not allowed here".to_owned())
    }
}

/// Reads the rules of a message.
pub(crate) fn message(descriptor: &MessageDescriptor) -> MessageRules {
    let known = descriptors::get();
    let options = descriptor.options();
    let is_set =
        |extension| options.has_extension(extension) && options.get_extension(extension).as_bool() == Some(true);
    let disabled = is_set(&known.message_disabled) || is_set(&known.message_ignored);
    let required_oneofs = descriptor.oneofs().filter(|oneof| {
        let options = oneof.options();
        options.has_extension(&known.oneof_required)
            && options.get_extension(&known.oneof_required).as_bool() == Some(true)
    });
    let required_oneofs = required_oneofs
        .map(|oneof| oneof.fields().map(|field| (field.number(), field.name().to_owned())).collect())
        .collect();
    let fields = descriptor.fields().filter_map(|field| {
        let options = field.options();
        if !options.has_extension(&known.field_rules) {
            return None;
        }
        let declared = options.get_extension(&known.field_rules);
        Some(FieldRules {
            number: field.number(),
            name: field.name().to_owned(),
            presence: field.supports_presence(),
            in_oneof: field.containing_oneof().is_some(),
            rules: rules(declared.as_message()?, &field.kind()),
            kind: field.kind(),
        })
    });
    MessageRules { disabled, required_oneofs, fields: fields.collect() }
}

/// Reads `validate.FieldRules`.
fn rules(rules: &DynamicMessage, kind: &Kind) -> Rules {
    let message = sub(rules, "message");
    let of_message = |name: &str| message.as_ref().is_some_and(|message| flag(message, name));
    let set = rules.descriptor().fields().find(|field| field.name() != "message" && rules.has_field(field));
    let own = set.as_ref().and_then(|set| sub(rules, set.name()));
    let required = own.as_ref().is_some_and(|own| flag(own, "required"));
    Rules {
        required: required || of_message("required"),
        skip: of_message("skip"),
        value: set.zip(own).and_then(|(set, own)| value(set.name(), &own, kind)),
    }
}

/// Reads the rules of one kind of value, by the name that `validate.FieldRules` has for it.
fn value(name: &str, own: &DynamicMessage, kind: &Kind) -> Option<ValueRules> {
    Some(match name {
        "double" | "float" => ValueRules::Float(numbers(own, float, 0.0, |value| value.to_string())),
        "int32" | "int64" | "uint32" | "uint64" | "sint32" | "sint64" | "fixed32" | "fixed64" | "sfixed32"
        | "sfixed64" => ValueRules::Int(numbers(own, integer, 0, |value| value.to_string())),
        "string" => ValueRules::Text(TextRules::read(own)),
        "bytes" => ValueRules::Bytes(BytesRules {
            min: number(own, "min_len"),
            max: number(own, "max_len"),
            exactly: number(own, "len"),
            ignore_empty: flag(own, "ignore_empty"),
        }),
        "bool" => ValueRules::Bool(own.get_field_by_name("const")?.as_bool()?),
        "enum" => ValueRules::Enum(EnumRules {
            exactly: own.has_field_by_name("const").then(|| own.get_field_by_name("const")?.as_i32()).flatten(),
            among: list(own, "in").iter().filter_map(Value::as_i32).collect(),
            not_among: list(own, "not_in").iter().filter_map(Value::as_i32).collect(),
            defined_only: match kind {
                Kind::Enum(descriptor) if flag(own, "defined_only") => Some(descriptor.clone()),
                _ => None,
            },
        }),
        "repeated" => ValueRules::Repeated(RepeatedRules {
            min: number(own, "min_items"),
            max: number(own, "max_items"),
            unique: flag(own, "unique"),
            ignore_empty: flag(own, "ignore_empty"),
            keys: None,
            items: sub(own, "items").map(|items| Box::new(rules(&items, kind))),
        }),
        "map" => {
            let Kind::Message(entry) = kind else { return None };
            let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
            ValueRules::Repeated(RepeatedRules {
                min: number(own, "min_pairs"),
                max: number(own, "max_pairs"),
                unique: false,
                ignore_empty: flag(own, "ignore_empty"),
                keys: sub(own, "keys").map(|keys| Box::new(rules(&keys, &key))),
                items: sub(own, "values").map(|values| Box::new(rules(&values, &value))),
            })
        }
        "duration" => {
            let show = |nanoseconds: &i128| format!("{}s", *nanoseconds as f64 / 1e9);
            ValueRules::Duration(numbers(own, nanoseconds, i128::MIN, show))
        }
        // Of an Any only its presence is asked; of a Timestamp nothing is.
        _ => return None,
    })
}

fn numbers<T>(
    rules: &DynamicMessage,
    read: fn(&Value) -> Option<T>,
    default: T,
    show: fn(&T) -> String,
) -> NumberRules<T> {
    let one = |name: &str| {
        let set = rules.descriptor().get_field_by_name(name).is_some() && rules.has_field_by_name(name);
        set.then(|| read(rules.get_field_by_name(name)?.as_ref())).flatten()
    };
    let many = |name: &str| list(rules, name).iter().filter_map(read).collect();
    NumberRules {
        exactly: one("const"),
        gt: one("gt"),
        gte: one("gte"),
        lt: one("lt"),
        lte: one("lte"),
        among: many("in"),
        not_among: many("not_in"),
        ignore_default: flag(rules, "ignore_empty"),
        default,
        show,
    }
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::I32(value) => Some((*value).into()),
        Value::I64(value) => Some((*value).into()),
        Value::U32(value) => Some((*value).into()),
        Value::U64(value) => Some((*value).into()),
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_f32().map(f64::from))
}

fn nanoseconds(value: &Value) -> Option<i128> {
    let duration = value.as_message()?;
    let part = |name: &str| duration.get_field_by_name(name).and_then(|part| integer(part.as_ref()));
    Some(part("seconds")? * 1_000_000_000 + part("nanos")?)
}

/// A message in a field, if it is set.
fn sub(message: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
    if !message.has_field_by_name(name) {
        return None;
    }
    message.get_field_by_name(name)?.as_message().cloned()
}

pub(super) fn flag(message: &DynamicMessage, name: &str) -> bool {
    message.get_field_by_name(name).and_then(|value| value.as_bool()).unwrap_or(false)
}

pub(super) fn number(message: &DynamicMessage, name: &str) -> Option<u64> {
    if !message.has_field_by_name(name) {
        return None;
    }
    message.get_field_by_name(name)?.as_u64()
}

pub(super) fn list(message: &DynamicMessage, name: &str) -> Vec<Value> {
    let field = message.get_field_by_name(name);
    field.and_then(|value| value.as_list().map(<[Value]>::to_vec)).unwrap_or_default()
}
