use kuma_model::{Document, Key, text};
use serde_json::json;

fn violations(yaml: &str) -> String {
    let json = text::parse_one(yaml).expect("YAML");
    Document::parse(&json).expect_err("an invalid document").to_string()
}

#[test]
fn identity_stands_beside_the_spec() {
    let yaml = "{sources: [{match: {service: a}}], name: tp, mesh: m, destinations: [{match: {service: b}}], type: \
        TrafficPermission}";
    let document = Document::parse(&text::parse_one(yaml).expect("YAML")).expect("a document");
    assert_eq!(document.key, Key::new("TrafficPermission", "m", "tp"));
    assert_eq!(
        document.to_json().to_string(),
        r#"{"type":"TrafficPermission","mesh":"m","name":"tp","sources":[{"match":{"service":"a"}}],"#.to_owned()
            + r#""destinations":[{"match":{"service":"b"}}]}"#
    );
}

#[test]
fn a_mesh_names_no_mesh() {
    let document = Document::parse(&json!({"type": "Mesh", "name": "default", "mesh": "ignored"})).expect("a document");
    assert_eq!(document.key, Key::mesh("default"));
    assert_eq!(document.to_json(), json!({"type": "Mesh", "name": "default", "mtls": {"ca": {"builtin": {}}}}));
}

#[test]
fn a_document_with_a_wrong_spec_still_has_a_key() {
    for (json, key) in [
        (
            json!({"type": "TrafficLog", "mesh": "demo", "name": "a", "what": 1}),
            Some(Key::new("TrafficLog", "demo", "a")),
        ),
        (json!({"type": "Mesh", "name": "demo", "mesh": 1, "mtls": 1}), Some(Key::mesh("demo"))),
        (json!({"type": "TrafficLog", "mesh": "demo", "name": "A"}), None),
        (json!({"type": "TrafficLog", "name": "a"}), None),
        (json!({"type": "Secret", "mesh": "demo", "name": "a"}), None),
        (json!({"type": ["Mesh"], "name": "demo"}), None),
        (json!([]), None),
    ] {
        assert_eq!(Document::parse_key(&json).ok(), key, "{json}");
    }
}

#[test]
fn envelope_and_spec_are_checked_together() {
    assert_eq!(
        violations("{type: Dataplane, mesh: Default, name: web.1, networking: {}}"),
        "mesh: invalid characters. Valid characters are numbers, lowercase latin letters and '-', '_' symbols.\n\
         name: invalid characters. Valid characters are numbers, lowercase latin letters and '-', '_' symbols.\n\
         networking: has to contain at least one inbound interface or gateway"
    );
    assert_eq!(
        violations("{type: TrafficLog, sources: [{match: {service: a}}], destinations: [{match: {service: a}}]}"),
        "mesh: cannot be empty\nname: cannot be empty"
    );
    assert_eq!(
        violations("{name: 5, mesh: [], type: Mesh, spec: {}}"),
        "name: must be a string, not a number: put it in quotes\nspec: unknown field"
    );
}

#[test]
fn the_form_of_kubernetes_is_told() {
    let expected = "apiVersion: this is the form that Kubernetes has; here a document has type, mesh and name in \
        place of apiVersion, kind and metadata, and the fields that are below spec there beside them";
    let yaml = "
apiVersion: kuma.io/v1alpha1
kind: TrafficPermission
mesh: default
metadata: {name: all, namespace: default}
spec: {sources: [{match: {service: '*'}}], destinations: [{match: {service: '*'}}]}";
    assert_eq!(violations(yaml), expected);
    assert_eq!(violations("{apiVersion: v1, kind: Service}"), expected);
}

#[test]
fn the_kind_must_be_known() {
    for (yaml, expected) in [
        ("{name: a, mesh: b}", "type: cannot be empty"),
        ("{name: a, mesh: b, type: null}", "type: cannot be empty"),
        ("{name: a, mesh: b, type: mesh}", r#"type: unknown kind of resource; did you mean "Mesh"?"#),
        (
            "{name: a, mesh: b, type: TrafficPermissions}",
            r#"type: unknown kind of resource; did you mean "TrafficPermission"?"#,
        ),
        ("{name: a, mesh: b, type: Secret}", "type: unknown kind of resource"),
        (
            "{name: A, type: Secret, mesh: b}",
            "type: unknown kind of resource\nname: invalid characters. Valid characters are numbers, lowercase latin \
             letters and '-', '_' symbols.",
        ),
        ("{type: [Mesh], name: a, mesh: b}", "type: must be a string, not a list"),
        ("- a", "must be an object, not a list"),
        ("text", "must be an object, not a string"),
    ] {
        assert_eq!(violations(yaml), expected, "{yaml}");
    }
}
