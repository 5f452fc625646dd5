//! The formats of output: `-o table`, `wide`, `yaml`, `json` or `name`.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Map, Value};

/// Value of `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// The same with more columns, where there are more.
    Wide,
    /// As one can apply it again.
    Yaml,
    /// For programs.
    Json,
    /// Kind and name of each, as `delete` takes them.
    Name,
}

/// YAML with list dashes under their key. The order of keys is that of the value.
pub(crate) fn yaml<T: Serialize>(value: &T) -> Result<String, String> {
    let mut options = serde_saphyr::SerializerOptions::default();
    // Long lines stay lines: folding them is harder to read and to search.
    options.folded_wrap_chars = usize::MAX;
    serde_saphyr::to_string_with_options(value, options).map_err(|error| error.to_string())
}

/// A list as YAML: `items`, with keys in alphabetical order at every level.
pub(crate) fn yaml_list(items: Vec<Value>) -> Result<String, String> {
    yaml(&sorted(list(items)))
}

/// A list as JSON: `{"items": […]}`, two spaces a level, keys as the server has them.
pub(crate) fn json_list(items: Vec<Value>) -> String {
    json_text(&list(items))
}

/// JSON, two spaces a level, keys as the server has them.
pub(crate) fn json_text(value: &Value) -> String {
    format!("{value:#}\n")
}

fn list(items: Vec<Value>) -> Value {
    Value::Object(Map::from_iter([("items".to_owned(), Value::Array(items))]))
}

/// With keys in alphabetical order at every level.
pub(crate) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_sorts_keys_and_aligns_dashes() {
        let item = json!({"type": "Dataplane", "name": "web-1",
            "networking": {"inbound": [{"interface": "127.0.0.1:1:2", "tags": {"b": "1", "a": "2"}}], "gateway": {}},
                "list": []});
        insta::assert_snapshot!(yaml_list(vec![item]).expect("it is YAML"));
        assert_eq!(yaml_list(vec![]).expect("it is YAML"), "items: []\n");
    }

    #[test]
    fn yaml_reads_back_as_it_was() {
        let words = [
            "",
            " ",
            "on",
            "off",
            "yes",
            "NO",
            "null",
            "~",
            "true",
            "1",
            "1.5",
            "0x10",
            "1e3",
            ".inf",
            "-",
            "- a",
            "*",
            "&a",
            "!x",
            "%",
            "@",
            "`",
            "a: b",
            "a #b",
            "#",
            "{",
            "[a]",
            "'",
            "\"",
            "\\",
            "two\nlines",
            "two\nlines\n",
            "\n",
            "tab\tbed",
            " led",
            "trailed ",
            "2020-01-20",
            "12:30:45",
            "é",
            "\u{7f}",
            "\u{1b}",
            "\u{feff}",
            "<<",
            "=",
            "|",
            ">",
            "---",
            "...",
            "?",
            "? x",
            ":",
            "key:",
        ];
        let long = "word ".repeat(100);
        let words: Vec<&str> = words.into_iter().chain([long.as_str()]).collect();
        for word in &words {
            let value = json!({"items": [{*word: word, "list": [word, [word], {"deep": word}]}]});
            let text = yaml(&value).expect("it is YAML");
            let back: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{word:?}: {error}\n{text}"));
            assert_eq!(back, value, "{word:?} in\n{text}");
        }
    }

    #[test]
    fn json_keeps_the_order_of_the_server() {
        let item = json!({"type": "Mesh", "name": "default", "mtls": {"enabled": true, "ca": {}}});
        insta::assert_snapshot!(json_list(vec![item]));
        assert_eq!(json_list(vec![]), "{\n  \"items\": []\n}\n");
    }
}
