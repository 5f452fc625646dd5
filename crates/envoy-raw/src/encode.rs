//! A tree of messages as bytes: the same bytes for the same tree, maps included.

use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{FieldDescriptor, Kind};

use crate::descriptors::TYPE_URL_PREFIX;
use crate::tree::{Field, Key, Message, Value};

/// The message, encoded.
pub(crate) fn message(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (descriptor, field) in message.fields.values() {
        let (number, kind) = (descriptor.number(), descriptor.kind());
        match field {
            Field::One(value) => tagged(number, &kind, value, &mut bytes),
            Field::Many(values) if descriptor.is_packed() => packed(number, &kind, values, &mut bytes),
            Field::Many(values) => values.iter().for_each(|value| tagged(number, &kind, value, &mut bytes)),
            Field::Map(entries) => {
                entries.iter().for_each(|(key, value)| map_entry(descriptor, key, value, &mut bytes));
            }
        }
    }
    bytes
}

fn tagged(number: u32, kind: &Kind, value: &Value, bytes: &mut Vec<u8>) {
    encode_key(number, wire_type(kind), bytes);
    untagged(kind, value, bytes);
}

fn packed(number: u32, kind: &Kind, values: &[Value], bytes: &mut Vec<u8>) {
    let mut body = Vec::new();
    values.iter().for_each(|value| untagged(kind, value, &mut body));
    encode_key(number, WireType::LengthDelimited, bytes);
    delimited(&body, bytes);
}

/// A map is a list of messages of a key and a value.
fn map_entry(descriptor: &FieldDescriptor, key: &Key, value: &Value, bytes: &mut Vec<u8>) {
    let Kind::Message(entry) = descriptor.kind() else { return };
    let mut body = Vec::new();
    let key = match key {
        Key::Bool(key) => Value::Bool(*key),
        Key::Int(key) => Value::Int(*key),
        Key::Uint(key) => Value::Uint(*key),
        Key::String(key) => Value::String(key.clone()),
    };
    tagged(1, &entry.map_entry_key_field().kind(), &key, &mut body);
    tagged(2, &entry.map_entry_value_field().kind(), value, &mut body);
    encode_key(descriptor.number(), WireType::LengthDelimited, bytes);
    delimited(&body, bytes);
}

fn wire_type(kind: &Kind) -> WireType {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => WireType::SixtyFourBit,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => WireType::ThirtyTwoBit,
        Kind::String | Kind::Bytes | Kind::Message(_) => WireType::LengthDelimited,
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Bool
        | Kind::Enum(_) => WireType::Varint,
    }
}

fn untagged(kind: &Kind, value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Bool(value) => encode_varint(u64::from(*value), bytes),
        Value::Int(value) => match kind {
            Kind::Sint32 | Kind::Sint64 => encode_varint(((value << 1) ^ (value >> 63)) as u64, bytes),
            Kind::Sfixed32 => bytes.extend_from_slice(&(*value as i32).to_le_bytes()),
            Kind::Sfixed64 => bytes.extend_from_slice(&value.to_le_bytes()),
            _ => encode_varint(*value as u64, bytes),
        },
        Value::Uint(value) => match kind {
            Kind::Fixed32 => bytes.extend_from_slice(&(*value as u32).to_le_bytes()),
            Kind::Fixed64 => bytes.extend_from_slice(&value.to_le_bytes()),
            _ => encode_varint(*value, bytes),
        },
        Value::Float(value) => bytes.extend_from_slice(&value.to_le_bytes()),
        Value::Double(value) => bytes.extend_from_slice(&value.to_le_bytes()),
        Value::String(value) => delimited(value.as_bytes(), bytes),
        Value::Bytes(value) => delimited(value, bytes),
        // A negative number of an enum takes ten bytes, as that of an int32 does.
        Value::Enum(value) => encode_varint(i64::from(*value) as u64, bytes),
        Value::Message(value) => delimited(&message(value), bytes),
        Value::Any(value) => delimited(&any(value), bytes),
    }
}

/// `google.protobuf.Any`: the type URL (1) and the bytes of the message (2).
fn any(packed: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(1, WireType::LengthDelimited, &mut bytes);
    delimited(format!("{TYPE_URL_PREFIX}{}", packed.descriptor.full_name()).as_bytes(), &mut bytes);
    let value = message(packed);
    if !value.is_empty() {
        encode_key(2, WireType::LengthDelimited, &mut bytes);
        delimited(&value, &mut bytes);
    }
    bytes
}

fn delimited(value: &[u8], bytes: &mut Vec<u8>) {
    encode_varint(value.len() as u64, bytes);
    bytes.extend_from_slice(value);
}
