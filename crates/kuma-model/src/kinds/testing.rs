//! How the tests of the kinds write documents and read what is wrong with them.

use serde_json::Value;

use crate::resource::{Kind, Resource, decode_spec};
use crate::text;

fn check<R: Resource>(yaml: &str) -> Result<Value, String> {
    let spec = match text::parse_documents(yaml).expect("YAML").as_slice() {
        [] => serde_json::Map::new(),
        [Value::Object(spec)] => spec.clone(),
        other => panic!("expected a mapping, not {other:?}"),
    };
    Kind::of::<R>().check(&spec).map_err(|violations| violations.to_string())
}

/// The spec as it is stored, in compact JSON.
#[track_caller]
pub(super) fn stored<R: Resource>(yaml: &str) -> String {
    let spec = check::<R>(yaml).expect("a valid spec");
    let json = spec.to_string();
    let resource: R = decode_spec(&spec).expect("a stored spec");
    let again = Kind::of::<R>().check(spec.as_object().expect("an object")).expect("still valid");
    assert_eq!(again, spec, "what is stored is stored again as it is");
    assert_eq!(decode_spec::<R>(&again).expect("a stored spec"), resource);
    json
}

/// What is wrong with a spec, a line each; nothing if it is valid.
pub(super) fn violations_of<R: Resource>(yaml: &str) -> String {
    check::<R>(yaml).err().unwrap_or_default()
}

/// A valid spec in its type.
#[track_caller]
pub(super) fn read<R: Resource>(yaml: &str) -> R {
    decode_spec(&check::<R>(yaml).expect("a valid spec")).expect("a stored spec")
}

/// What is wrong with a spec, a line each; leading blanks of the expected lines do not count.
#[track_caller]
pub(super) fn refused<R: Resource>(yaml: &str, expected: &str) {
    let found = check::<R>(yaml).expect_err("an invalid spec");
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(found.lines().collect::<Vec<&str>>(), expected, "in {yaml}");
}
