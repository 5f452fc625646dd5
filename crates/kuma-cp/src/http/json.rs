//! JSON of the HTTP servers: read within bounds; printed indented by one space, without a newline at the end.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Value};

/// Most values in one body. A value takes some twenty times the memory of the shortest text that makes one, so the size
/// of the text alone bounds little; no document comes near this number.
const MAX_VALUES: usize = 200_000;

/// Why a body is no JSON object.
#[derive(Debug)]
pub enum Unreadable {
    /// It stops being JSON somewhere.
    Malformed(serde_json::Error),
    /// It is JSON of another type.
    NotAnObject,
    /// It has more than this many values.
    TooMany(usize),
}

/// Reads the object that a body must be.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, Unreadable> {
    if values(text) > MAX_VALUES {
        return Err(Unreadable::TooMany(MAX_VALUES));
    }
    match serde_json::from_slice(text).map_err(Unreadable::Malformed)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(Unreadable::NotAnObject),
    }
}

/// How many values `text` has at most: each follows a comma, or a bracket that opens, or is the first.
fn values(text: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (1, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b'[' | b'{' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

/// Prints `value` for people.
pub fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b" "));
    // Writing to memory cannot fail, and what is printed here has only text as keys.
    let _ = value.serialize(&mut serializer);
    out
}

/// A `200 OK` with `value` as its body.
pub fn respond(value: &impl Serialize) -> Response {
    ([(CONTENT_TYPE, "application/json")], pretty(value)).into_response()
}
