use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kuma_ca::mesh_secret::{self, MeshSecretError};
use kuma_ca::sealing::{OpenError, SealingKeys, SealingKeysError, sealed_with};
use kuma_model::{Ca, Key, SECRET_KIND};
use serde_json::{Value, json};

fn line(id: &str, byte: u8) -> String {
    format!("{id} {}\n", BASE64.encode([byte; 32]))
}

fn keys(lines: &[String]) -> SealingKeys {
    SealingKeys::parse(&lines.concat()).expect("keys")
}

fn document() -> Key {
    Key::new(SECRET_KIND, "demo", "builtinca.demo")
}

#[test]
fn what_the_first_key_seals_all_open() {
    let old = keys(&[line("old", 1)]);
    let text = r#"{"key":"c2VjcmV0"}"#;
    let sealed = old.seal(&document(), text).expect("there is a key");
    assert_eq!(sealed_with(&sealed), Some("old"));
    assert!(!sealed.to_string().contains("c2VjcmV0"));
    assert_ne!(old.seal(&document(), text), Some(sealed.clone()), "every text gets a nonce of its own");

    let both = keys(&["# the new one\n\n".to_owned(), line("new", 2), line("old", 1)]);
    assert_eq!(both.sealing(), Some("new"));
    assert_eq!(both.open(&document(), &sealed).expect("it opens").expect("it is sealed").as_str(), text);
    assert_eq!(format!("{both:?}"), r#"["new", "old"]"#);
}

#[test]
fn what_is_not_sealed_stays_as_it_is() {
    let none = SealingKeys::default();
    assert_eq!((none.sealing(), none.seal(&document(), "{}")), (None, None));
    for spec in [json!("text"), json!({"sealed": 1}), json!({"sealed": "a:b", "more": 1}), Value::Null] {
        assert_eq!((sealed_with(&spec), none.open(&document(), &spec)), (None, Ok(None)), "{spec}");
    }
}

#[test]
fn nothing_opens_without_its_key_or_in_another_place() {
    let keys = keys(&[line("one", 1)]);
    let sealed = keys.seal(&document(), "{}").expect("there is a key");
    let unknown = SealingKeys::parse(&line("two", 1)).expect("keys").open(&document(), &sealed);
    assert_eq!(unknown, Err(OpenError::UnknownKey("one".into())));
    let damaged = Err(OpenError::Damaged("one".into()));
    assert_eq!(SealingKeys::parse(&line("one", 2)).expect("keys").open(&document(), &sealed), damaged);
    for other in [Key::new(SECRET_KIND, "demo", "builtinca.demo2"), Key::new(SECRET_KIND, "demo2", "builtinca.demo")] {
        assert_eq!(keys.open(&other, &sealed), damaged, "{other}");
    }
    let encoded = sealed["sealed"].as_str().and_then(|text| text.strip_prefix("one:")).expect("a text");
    let bytes = BASE64.decode(encoded).expect("base64");
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let changed = json!({"sealed": format!("one:{}", BASE64.encode(changed))});
        assert_eq!(keys.open(&document(), &changed), damaged, "byte {at}");
    }
    for cut in ["one:", "one:AAAA", "one:%"] {
        assert_eq!(keys.open(&document(), &json!({ "sealed": cut })), damaged, "{cut}");
    }
}

#[test]
fn a_list_that_cannot_be_used_is_refused_with_its_line() {
    let short = format!("{}b {}\n", line("a", 1), BASE64.encode([2; 31]));
    for (text, error) in [
        (String::new(), SealingKeysError::Empty),
        ("# only this\n".into(), SealingKeysError::Empty),
        ("a\n".into(), SealingKeysError::Line(1)),
        (line("a", 1) + "b no base64\n", SealingKeysError::Line(2)),
        (short, SealingKeysError::Length { line: 2, length: 31 }),
        (line("a:b", 1), SealingKeysError::Id(1)),
        (line(&"a".repeat(64), 1), SealingKeysError::Id(1)),
        (line("a", 1) + &line("a", 2), SealingKeysError::Twice(2)),
    ] {
        assert_eq!(SealingKeys::parse(&text).err(), Some(error), "{text}");
    }
}

#[test]
fn the_ca_of_a_mesh_that_is_still_sealed_names_its_key() {
    let sealed = keys(&[line("old", 1)]).seal(&document(), "{}").expect("there is a key");
    let error = mesh_secret::read(Ca::Builtin, &sealed).expect_err("it is sealed");
    assert!(matches!(&error, MeshSecretError::Sealed(id) if id == "old"), "{error}");
    assert!(error.to_string().contains("KUMA_STORE_SECRETS_KEY_FILE"), "{error}");
}
