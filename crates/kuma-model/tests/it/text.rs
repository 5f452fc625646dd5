use kuma_model::text::{self, MAX_DEPTH, parse_documents, parse_json};
use serde_json::{Value, json};

#[test]
fn documents_are_separated_by_dashes_and_empty_ones_skipped() {
    let yaml = "---\n# nothing\n---\na: 1\n---\n---\nb: |\n  text\n  --- not a marker\n...\n---\nnull\n--- {c: 3}\n";
    let documents = parse_documents(yaml).expect("YAML");
    assert_eq!(documents, [json!({"a": 1}), json!({"b": "text\n--- not a marker\n"}), json!({"c": 3})]);
    for empty in ["", "\n\n", "# only a comment", "---\n---\n", "null", "~"] {
        assert_eq!(parse_documents(empty), Ok(vec![]), "{empty:?}");
    }
}

#[test]
fn the_order_of_keys_is_kept() {
    let documents = parse_documents("z: 1\na: 2\nm: {y: 1, b: 2}\n").expect("YAML");
    assert_eq!(documents[0].to_string(), r#"{"z":1,"a":2,"m":{"y":1,"b":2}}"#);
}

#[test]
fn plain_scalars_are_what_they_look_like() {
    for (yaml, expected) in [
        ("no", json!("no")),
        ("yes", json!("yes")),
        ("on", json!("on")),
        ("off", json!("off")),
        ("y", json!("y")),
        ("true", json!(true)),
        ("False", json!(false)),
        ("010", json!("010")),
        ("-007", json!("-007")),
        ("1_000", json!("1_000")),
        ("0", json!(0)),
        ("12", json!(12)),
        ("1.0", json!(1.0)),
        ("1.2.3", json!("1.2.3")),
        ("10:20", json!("10:20")),
        ("127.0.0.1:1:2", json!("127.0.0.1:1:2")),
        ("2020-01-31", json!("2020-01-31")),
        ("'1.0'", json!("1.0")),
        ("''", json!("")),
        ("null", json!(null)),
        ("", json!(null)),
    ] {
        let documents = parse_documents(&format!("value: {yaml}")).expect(yaml);
        assert_eq!(documents, [json!({ "value": expected })], "{yaml}");
    }
}

#[test]
fn aliases_and_merges_work_in_reason() {
    let yaml = "base: &base {service: web}\ntags: {<<: *base, version: v1}\nsame: *base";
    let expected = json!({
        "base": {"service": "web"},
        "tags": {"service": "web", "version": "v1"},
        "same": {"service": "web"},
    });
    assert_eq!(parse_documents(yaml), Ok(vec![expected]));
}

#[test]
fn json_is_read_as_json() {
    let tab_indented = "{\n\t\"a\": [1, -2.5, true, null, \"\\ud83d\\ude00\", {}]\n}\n";
    let expected = json!({"a": [1, -2.5, true, null, "😀", {}]});
    assert_eq!(parse_documents(tab_indented), Ok(vec![expected.clone()]));
    assert_eq!(parse_json(tab_indented.as_bytes()), Ok(expected));
    assert_eq!(parse_documents("{\"a\": 1}\n---\n{\"b\": 2}\n"), Ok(vec![json!({"a": 1}), json!({"b": 2})]));
    assert_eq!(parse_documents("{a: 1, b: no}"), Ok(vec![json!({"a": 1, "b": "no"})]));
}

#[test]
fn errors_of_yaml_have_a_place() {
    for (yaml, expected) in [
        ("a: 1\na: 2", "line 2, column 1: duplicate mapping key `a` is not allowed here"),
        ("a: [1, 2", "line 1, column 4: unclosed bracket '['"),
        (
            "a: 1\n---\nb: 2\n---\nc: 3\nc: 4\n",
            "document 3, line 6, column 1: duplicate mapping key `c` is not allowed here",
        ),
        ("---\na: 1\n---\nb: *nothing\n", "document 2, line 4, column 4: reference to unknown value"),
        ("a: b: c", "line 1, column 5: mapping values are not allowed in this context"),
        ("{\"a\": 1\n \"b\": 2}", "line 2, column 5: while parsing a flow mapping, did not find expected ',' or '}'"),
    ] {
        assert_eq!(parse_documents(yaml).expect_err(yaml).to_string(), expected, "{yaml}");
    }
}

#[test]
fn errors_of_json_have_a_place() {
    for (json, expected) in [
        ("{\"a\": 1,\n \"a\": 2}", "line 2, column 4: \"a\" occurs twice"),
        ("{\"a\": [{\"b\": 1, \"b\": 1}]}", "line 1, column 19: \"b\" occurs twice"),
        ("{\n \"a\": 1", "line 2, column 7: EOF while parsing an object"),
        ("{\"a\": tru}", "line 1, column 10: expected ident"),
        ("{} {}", "line 1, column 4: trailing characters"),
        ("", "line 1, column 1: EOF while parsing a value"),
        ("{\"a\": 1e999}", "line 1, column 11: number out of range"),
        ("{\"name:\" \"dp\"}", "line 1, column 10: expected `:`"),
    ] {
        assert_eq!(parse_json(json.as_bytes()).expect_err(json).to_string(), expected, "{json}");
    }
    assert!(parse_json(b"{\"a\": \"\xff\"}").is_err());
}

#[test]
fn alias_bombs_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    let error = parse_documents(&bomb).expect_err("a bomb");
    assert_eq!(
        error.message,
        "YAML document too large or too complex: nesting, aliases and the number of values are limited"
    );
    assert!(error.line > 1);
    let many = format!("a: &a [{}]\nb: [{}]", ["1"; 100].join(","), vec!["*a"; 100_000].join(","));
    assert!(parse_documents(&many).is_err());
}

#[test]
fn merge_bombs_are_refused() {
    let mut bomb = "a0: &a0 {k0: 0, k1: 1, k2: 2}\n".to_owned();
    for level in 1..40 {
        let before = level - 1;
        bomb += &format!("a{level}: &a{level} {{x: {{<<: *a{before}}}, y: {{<<: *a{before}}}}}\n");
    }
    assert!(parse_documents(&bomb).is_err());
}

#[test]
fn deep_nesting_is_refused() {
    let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + &close.repeat(depth);
    assert!(parse_json(nested("[", "]", MAX_DEPTH).as_bytes()).is_ok());
    for depth in [MAX_DEPTH + 1, 100_000] {
        assert!(parse_json(nested("[", "]", depth).as_bytes()).is_err());
        assert!(parse_json(nested("{\"a\":", "}", depth).as_bytes()).is_err());
        assert!(parse_documents(&nested("[", "]", depth)).is_err());
        assert!(parse_documents(&nested("{a: ", "}", depth)).is_err());
        assert!(parse_documents(&"- ".repeat(depth)).is_err());
    }
}

#[test]
fn floods_of_values_are_refused() {
    let flood = format!("[{}0]", "0,".repeat(text::MAX_VALUES));
    let error = parse_json(flood.as_bytes()).expect_err("too many");
    assert!(error.message.contains("more than 1000000 values"), "{error}");
    assert!(parse_documents(&flood).is_err());
}

#[test]
fn a_raw_resource_is_one_document() {
    assert_eq!(text::parse_one("a: 1\n---\n"), Ok(json!({"a": 1})));
    assert_eq!(text::parse_one("# none").expect_err("none").to_string(), "there is no document");
    assert_eq!(text::parse_one("1\n---\n2").expect_err("two").to_string(), "expected one document, found 2");
    assert_eq!(text::parse_one("5"), Ok(Value::from(5)));
}
