//! A message as it was read: which fields are there, with what.

use std::collections::BTreeMap;

use prost_reflect::{FieldDescriptor, MessageDescriptor};

/// A message of any type.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) descriptor: MessageDescriptor,
    /// The fields that are there, by number. One without presence (proto3) that has its default is not.
    pub(crate) fields: BTreeMap<u32, (FieldDescriptor, Field)>,
}

/// What a field holds.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    One(Value),
    Many(Vec<Value>),
    /// By key, so that the bytes are the same each time.
    Map(BTreeMap<Key, Value>),
}

/// Key of a map.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(String),
}

/// One value. What it is encoded as is for the field to say.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f32),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    Enum(i32),
    Message(Message),
    /// `google.protobuf.Any`, with what it holds.
    Any(Message),
}

impl Message {
    pub(crate) fn new(descriptor: MessageDescriptor) -> Message {
        Message { descriptor, fields: BTreeMap::new() }
    }

    /// A field by its name.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        let number = self.descriptor.get_field_by_name(name)?.number();
        self.fields.get(&number).map(|(_, field)| field)
    }

    /// A message in a field.
    pub(crate) fn message(&self, name: &str) -> Option<&Message> {
        match self.field(name)? {
            Field::One(Value::Message(message)) => Some(message),
            _ => None,
        }
    }

    /// A text in a field; empty if it is not there.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.field(name) {
            Some(Field::One(Value::String(text))) => text,
            _ => "",
        }
    }

    /// Sets a field; one without presence that is given its default is left out.
    pub(crate) fn set(&mut self, descriptor: &FieldDescriptor, field: Field) {
        let absent = match &field {
            Field::One(value) => !descriptor.supports_presence() && value.is_default(),
            Field::Many(values) => values.is_empty(),
            Field::Map(entries) => entries.is_empty(),
        };
        if !absent {
            self.fields.insert(descriptor.number(), (descriptor.clone(), field));
        }
    }
}

impl Value {
    /// Whether it is what proto3 takes an absent field for.
    pub(crate) fn is_default(&self) -> bool {
        match self {
            Value::Bool(value) => !value,
            Value::Int(value) => *value == 0,
            Value::Uint(value) => *value == 0,
            // By its bits: -0.0 is a value of its own.
            Value::Float(value) => value.to_bits() == 0,
            Value::Double(value) => value.to_bits() == 0,
            Value::String(value) => value.is_empty(),
            Value::Bytes(value) => value.is_empty(),
            Value::Enum(value) => *value == 0,
            Value::Message(_) | Value::Any(_) => false,
        }
    }
}
