//! Documents of every kind, in YAML and JSON: what is accepted can be stored, shown and applied again.
#![no_main]

use kuma_model::{Document, KINDS, Key, kind, text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let json = text::parse_json(input);
    let Ok(input) = std::str::from_utf8(input) else { return };
    let _ = text::parse_places(input);
    let Ok(values) = text::parse_documents(input) else { return };
    if let (Ok(json), true) = (&json, input.trim_start().starts_with('{')) {
        assert_eq!(values, [json.clone()], "JSON is read as JSON");
    }
    for value in values {
        for kind in KINDS {
            if let Some(Ok(spec)) = value.as_object().map(|spec| kind.check(spec)) {
                let again = kind.check(spec.as_object().expect("a spec is an object"));
                assert_eq!(again.as_ref(), Ok(&spec), "what is stored can be stored again");
                let document = Document { key: Key::new(kind.name, "default", "a"), spec };
                assert_eq!(kind.row(&document).len(), kind.titles().len());
            }
        }
        let Ok(document) = Document::parse(&value) else { continue };
        assert!(kind(document.key.kind).is_some());
        let shown = document.to_json();
        assert_eq!(Document::parse(&shown).as_ref(), Ok(&document), "what is shown can be applied");
        assert_eq!(text::parse_json(shown.to_string().as_bytes()).as_ref(), Ok(&shown));
        assert_eq!(text::parse_documents(&shown.to_string()), Ok(vec![shown]));
    }
});
