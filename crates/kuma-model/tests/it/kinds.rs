use std::collections::BTreeSet;

use kuma_model::{Document, KINDS, Kind, SECRET_KIND, Scope, by_api_path, by_cli_list, by_cli_one, kind, text};

use crate::examples::EXAMPLES;

#[test]
fn every_name_is_of_one_kind() {
    let names: [fn(&Kind) -> &'static str; 4] =
        [|kind| kind.name, |kind| kind.api_path, |kind| kind.cli_list, |kind| kind.cli_one];
    for name in names {
        let distinct: BTreeSet<&str> = KINDS.iter().map(name).collect();
        assert_eq!(distinct.len(), KINDS.len());
        assert!(!distinct.contains(""));
    }
    for each in KINDS {
        for found in [kind(each.name), by_api_path(each.api_path), by_cli_list(each.cli_list), by_cli_one(each.cli_one)]
        {
            assert_eq!(found.map(|kind| kind.name), Some(each.name));
        }
    }
    assert!(kind(SECRET_KIND).is_none());
}

#[test]
fn names_are_those_that_history_fixed() {
    let names: Vec<String> = KINDS
        .iter()
        .map(|kind| format!("{} {} {} {}", kind.name, kind.api_path, kind.cli_list, kind.cli_one))
        .collect();
    assert_eq!(
        names,
        [
            "Mesh meshes meshes mesh",
            "Dataplane dataplanes dataplanes dataplane",
            "DataplaneInsight dataplane-insights dataplane-insights dataplane-insight",
            "HealthCheck health-checks healthchecks healthcheck",
            "ProxyTemplate proxytemplates proxytemplates proxytemplate",
            "TrafficLog traffic-logs traffic-logs traffic-log",
            "TrafficPermission traffic-permissions traffic-permissions traffic-permission",
            "TrafficRoute traffic-routes traffic-routes traffic-route",
            "TrafficTrace traffic-traces traffic-traces traffic-trace",
        ]
    );
    let of = |wanted: fn(&&Kind) -> bool| KINDS.iter().filter(wanted).map(|kind| kind.name).collect::<Vec<_>>();
    assert_eq!(of(|kind| kind.scope == Scope::Global), ["Mesh"]);
    assert_eq!(of(|kind| kind.server_made), ["DataplaneInsight"]);
}

#[test]
fn there_is_an_example_of_every_kind_and_it_comes_back_as_written() {
    let kinds: Vec<&str> = EXAMPLES.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, KINDS.iter().map(|kind| kind.name).collect::<Vec<&str>>());
    for (kind, example, _) in EXAMPLES {
        let json = text::parse_json(example.as_bytes()).expect("JSON");
        let document = Document::parse(&json).unwrap_or_else(|violations| panic!("{kind}: {violations}"));
        assert_eq!(document.to_json(), json, "{kind}");
        assert_eq!(Document::parse(&document.to_json()), Ok(document));
    }
}

#[test]
fn tables_show_identity_and_the_columns_of_the_kind() {
    for (name, example, row) in EXAMPLES {
        let json = text::parse_json(example.as_bytes()).expect("JSON");
        let document = Document::parse(&json).expect("a valid document");
        let kind = kind(name).expect("a kind");
        assert_eq!(kind.row(&document), *row);
        assert_eq!(kind.titles().len(), row.len());
    }
    let titles = |name: &str| kind(name).expect("a kind").titles();
    assert_eq!(titles("Mesh"), ["NAME", "mTLS", "CA", "METRICS"]);
    assert_eq!(titles("Dataplane"), ["MESH", "NAME", "TAGS"]);
    assert_eq!(titles("TrafficLog"), ["MESH", "NAME"]);
}

#[test]
fn a_stored_spec_that_cannot_be_read_has_a_row_all_the_same() {
    let spec = serde_json::json!({"networking": 1});
    let document = Document { key: kuma_model::Key::new("Dataplane", "default", "web-1"), spec };
    assert_eq!(kind("Dataplane").expect("a kind").row(&document), ["default", "web-1", "unknown"]);
}

#[test]
fn a_stored_spec_may_have_fields_of_a_newer_version() {
    let spec = serde_json::json!({"mtls": {"enabled": true, "later": 1}, "later": {}});
    let mesh: kuma_model::Mesh = kuma_model::decode_spec(&spec).expect("readable");
    assert!(mesh.mtls_enabled());
    let broken = serde_json::json!({"mtls": {"enabled": "true"}});
    let error = kuma_model::decode_spec::<kuma_model::Mesh>(&broken).expect_err("not readable");
    assert_eq!(error.to_string(), "mtls.enabled: must be true or false, not a string");
    assert!(kuma_model::decode_spec::<kuma_model::Mesh>(&serde_json::Value::Null).is_err());
}
