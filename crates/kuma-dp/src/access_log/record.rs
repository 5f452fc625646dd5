//! Makes the record for a collector from one of Envoy's entries: a line of text, or a JSON object.
//!
//! For text, Envoy formats the whole line and sends it as one tag. For JSON, Envoy formats each field and sends it as a
//! tag of its own; the object is built here, so that a quote in a header is escaped. The layout of the object is part
//! of the log's name: JSON in which each field is a list of its number and its type (written by
//! `kuma-envoy/src/access_log.rs`).
//!
//! Records are UTF-8, but the data of clients may not be: each invalid byte becomes U+FFFD, the replacement character.

use serde_json::{Map, Number, Value};

use super::messages::{FIELD, RECORD, Tags};

/// The layout from the name of a log, if its records are JSON.
pub(super) fn layout(format: &str) -> Option<Value> {
    serde_json::from_str(format).ok().filter(Value::is_object)
}

/// The record of an entry, with its final newline. `None` if the entry belongs to another log.
pub(super) fn record(layout: Option<&Value>, tags: &Tags) -> Option<String> {
    let mut record = match (tags.get(RECORD), layout) {
        (Some(line), _) => String::from_utf8_lossy(line).into_owned(),
        (None, Some(layout)) => fill(layout, tags).to_string(),
        (None, None) => return None,
    };
    // Each record ends with a newline.
    if !record.ends_with('\n') {
        record.push('\n');
    }
    Some(record)
}

fn fill(layout: &Value, tags: &Tags) -> Value {
    match layout {
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), fill(value, tags))).collect::<Map<_, _>>())
        }
        Value::Array(field) => match field.as_slice() {
            [Value::Number(number), Value::String(kind)] => {
                // Envoy leaves out a tag without a value.
                let value = tags.get(&format!("{FIELD}{number}"));
                typed(kind, value.map(|value| String::from_utf8_lossy(value).into_owned()))
            }
            _ => Value::Null,
        },
        other => other.clone(),
    }
}

/// The value of a field with its JSON type, as Envoy itself writes it into a file.
fn typed(kind: &str, value: Option<String>) -> Value {
    match (kind, value) {
        ("text", value) => value.unwrap_or_default().into(),
        (_, None) => Value::Null,
        ("number", Some(text)) => text.parse::<Number>().map_or_else(|_| text.into(), Value::Number),
        (_, Some(text)) => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &[u8])]) -> Tags {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect()
    }

    #[test]
    fn a_line_is_what_envoy_made_of_it() {
        for (line, expected) in [
            (&b"web \"quoted\"\n"[..], "web \"quoted\"\n"),
            (b"no end", "no end\n"),
            (b"\xff\xfe \xc3\xa9\n", "\u{fffd}\u{fffd} \u{e9}\n"),
        ] {
            // A value that looks like JSON stays text.
            for layout in [None, layout("{\"a\":1}")] {
                assert_eq!(record(layout.as_ref(), &tags(&[(RECORD, line)])).as_deref(), Some(expected));
            }
        }
        assert_eq!(record(None, &tags(&[])), None);
    }

    #[test]
    fn an_object_is_json_whatever_its_fields_are() {
        let layout = layout(concat!(
            r#"{"a":[0,"value"],"b":{"c":[1,"number"],"d":[2,"text"]},"none":[3,"value"],"empty":[4,"text"],"#,
            r#""e":[5,"number"]}"#,
        ));
        let fields = tags(&[
            ("kuma.field.0", b"a \"quote\", \\ and \xff\n"),
            ("kuma.field.1", b"42"),
            ("kuma.field.2", b"42"),
            ("kuma.field.5", b"-"),
        ]);
        let record = record(layout.as_ref(), &fields).expect("a record");
        assert_eq!(
            record,
            "{\"a\":\"a \\\"quote\\\", \\\\ and \
             \u{fffd}\\n\",\"b\":{\"c\":42,\"d\":\"42\"},\"none\":null,\"empty\":\"\",\"e\":\"-\"}\n"
        );
    }

    #[test]
    fn only_an_object_is_a_layout() {
        for format in ["", "[%START_TIME%]\n", "5", "\"a\"", "[1]", "{%REQ(X)%}"] {
            assert_eq!(layout(format), None, "{format}");
        }
    }
}
