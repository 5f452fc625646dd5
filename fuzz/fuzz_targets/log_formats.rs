//! Formats of access logs: what is accepted is taken apart without a loss, and a Mesh says the same of it.
#![no_main]

use kuma_model::kind;
use kuma_model::log_format::{Part, parse};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|input: &str| {
    let parsed = parse(input);
    let mesh = json!({"logging": {"backends": [{"name": "file", "format": input, "file": {"path": "/tmp/log"}}]}});
    let checked = kind("Mesh").expect("a kind").check(mesh.as_object().expect("an object"));
    if let Err(error) = &parsed {
        assert!(!error.to_string().is_empty());
        assert!(checked.is_err(), "a Mesh takes what Envoy would refuse");
    }
    let Ok(parts) = parsed else { return };
    let mut rest = input;
    for part in parts {
        match part {
            Part::Envoys(text) => {
                assert!(!text.is_empty());
                rest = rest.strip_prefix(text).expect("in order");
                // No operator of ours is left in it. What stands behind the end of one is text, whatever it says.
                let without_literals = text.replace("%%", "");
                let mut operators = without_literals.split('%').skip(1).step_by(2);
                assert!(!operators.any(|operator| operator.starts_with("KUMA_")), "{text}");
            }
            Part::Ours(_) => rest = &rest[1 + rest[1..].find('%').expect("an end") + 1..],
        }
    }
    assert_eq!(rest, "");
});
