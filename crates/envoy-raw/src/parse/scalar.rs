//! Values that are no messages.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{EnumDescriptor, Kind};
use serde_json::{Number, Value as Json};

use super::{found, shortened};
use crate::descriptors::nearest;
use crate::tree::{Key, Value};

/// Reads a value, or says what was expected.
pub(super) fn value(kind: &Kind, json: &Json) -> Result<Value, String> {
    match kind {
        Kind::Bool => match json {
            Json::Bool(value) => Ok(Value::Bool(*value)),
            other => Err(format!("expected true or false, found {}", found(other))),
        },
        Kind::String => match json {
            Json::String(text) => Ok(Value::String(text.clone())),
            other => Err(format!("expected a string, found {}", found(other))),
        },
        Kind::Bytes => match json {
            Json::String(text) => bytes(text).map(Value::Bytes),
            other => Err(format!("expected a string in base64, found {}", found(other))),
        },
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            integer(json, i32::MIN.into(), i32::MAX.into()).map(|value| Value::Int(value as i64))
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            integer(json, i64::MIN.into(), i64::MAX.into()).map(|value| Value::Int(value as i64))
        }
        Kind::Uint32 | Kind::Fixed32 => integer(json, 0, u32::MAX.into()).map(|value| Value::Uint(value as u64)),
        Kind::Uint64 | Kind::Fixed64 => integer(json, 0, u64::MAX.into()).map(|value| Value::Uint(value as u64)),
        Kind::Double => float(json).map(Value::Double),
        Kind::Float => {
            let value = float(json)?;
            let narrow = value as f32;
            if value.is_finite() && !narrow.is_finite() {
                return Err(format!("{} is out of range", found(json)));
            }
            Ok(Value::Float(narrow))
        }
        Kind::Enum(descriptor) => enumeration(descriptor, json).map(Value::Enum),
        Kind::Message(descriptor) => Err(format!("a {} is a message", descriptor.name())),
    }
}

/// Reads the key of a map.
pub(super) fn key(kind: &Kind, name: &str) -> Option<Key> {
    match kind {
        Kind::Bool => name.parse().ok().map(Key::Bool),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => name.parse::<i32>().ok().map(|key| Key::Int(key.into())),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => name.parse().ok().map(Key::Int),
        Kind::Uint32 | Kind::Fixed32 => name.parse::<u32>().ok().map(|key| Key::Uint(key.into())),
        Kind::Uint64 | Kind::Fixed64 => name.parse().ok().map(Key::Uint),
        _ => Some(Key::String(name.to_owned())),
    }
}

/// A whole number, as a number or as a string.
fn integer(json: &Json, lowest: i128, highest: i128) -> Result<i128, String> {
    let value = match json {
        Json::Number(number) => whole(number),
        Json::String(text) => text.parse::<i128>().ok(),
        _ => None,
    };
    let value = value.ok_or_else(|| format!("expected a whole number, found {}", found(json)))?;
    if value < lowest || value > highest {
        return Err(format!("expected a number from {lowest} to {highest}, found {}", found(json)));
    }
    Ok(value)
}

fn whole(number: &Number) -> Option<i128> {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    // 1.0 and 1e3 are whole numbers too. Beyond 2^53 a float does not say which one.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    whole.or_else(|| {
        let float = number.as_f64()?;
        (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i128)
    })
}

fn float(json: &Json) -> Result<f64, String> {
    let value = match json {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse().ok().filter(|value: &f64| value.is_finite()),
        },
        _ => None,
    };
    value.ok_or_else(|| format!("expected a number, found {}", found(json)))
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    const PADDING: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDING);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDING);
    let decoded = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
    decoded.map_err(|error| format!("expected base64: {error}"))
}

/// A name in any case, or a number: an open enum takes those that it has no name for, unless a rule says otherwise.
fn enumeration(descriptor: &EnumDescriptor, json: &Json) -> Result<i32, String> {
    match json {
        Json::Number(_) => integer(json, i32::MIN.into(), i32::MAX.into()).map(|value| value as i32),
        Json::String(name) => {
            let exact = descriptor.get_value_by_name(name);
            let spelled = || descriptor.values().find(|value| value.name().eq_ignore_ascii_case(name));
            exact.or_else(spelled).map(|value| value.number()).ok_or_else(|| unknown_name(descriptor, name))
        }
        Json::Null if descriptor.full_name() == "google.protobuf.NullValue" => Ok(0),
        other => Err(format!("expected one of {}, found {}", names(descriptor), found(other))),
    }
}

fn unknown_name(descriptor: &EnumDescriptor, name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    match nearest(&upper, descriptor.values().map(|value| value.name().to_owned())) {
        Some(nearest) => format!("{:?} is no {}; did you mean {nearest:?}?", shortened(name), descriptor.name()),
        None => format!("{:?} is none of {}", shortened(name), names(descriptor)),
    }
}

fn names(descriptor: &EnumDescriptor) -> String {
    descriptor.values().map(|value| value.name().to_owned()).collect::<Vec<_>>().join(", ")
}
