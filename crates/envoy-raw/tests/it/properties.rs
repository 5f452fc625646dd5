//! Whatever is given is read or refused; nothing panics.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Names that lead deep into the messages.
const NAMES: &[&str] = &[
    "name",
    "type",
    "hosts",
    "filters",
    "filter_chains",
    "filterChains",
    "typed_config",
    "typedConfig",
    "config",
    "load_assignment",
    "endpoints",
    "lb_endpoints",
    "endpoint",
    "address",
    "socket_address",
    "port_value",
    "metadata",
    "filter_metadata",
    "tls_context",
    "connect_timeout",
    "virtual_hosts",
    "domains",
    "routes",
    "match",
    "route",
    "cluster",
    "prefix",
    "http_filters",
    "access_log",
    "deprecated_v1",
    "bind_to_port",
    "lb_policy",
    "cors",
    "allow_origin",
    "per_filter_config",
    "envoy.buffer",
    "transport_socket",
    "health_checks",
    "http_health_check",
    "value",
    "nonsense",
];

const STRINGS: &[&str] = &[
    "",
    "a",
    "5s",
    "-1s",
    "STATIC",
    "ORIGINAL_DST_LB",
    "envoy.tcp_proxy",
    "envoy.router",
    "envoy.http_connection_manager",
    "tls",
    "aGk=",
    "NaN",
    "12",
    "type.googleapis.com/google.protobuf.Struct",
];

const TYPES: &[&str] = &[
    "envoy.api.v2.Cluster",
    "envoy.api.v2.Listener",
    "envoy.api.v2.RouteConfiguration",
    "envoy.api.v2.auth.Secret",
    "envoy.api.v2.ClusterLoadAssignment",
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.listener.v3.Listener",
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.config.filter.network.tcp_proxy.v2.TcpProxy",
    "google.protobuf.Any",
    "google.protobuf.Value",
    "google.protobuf.Duration",
    "xds.type.v3.TypedStruct",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(STRINGS).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(NAMES), inner.clone()), 0..6)
                .prop_map(|entries| object(entries.into_iter())),
            (prop::sample::select(TYPES), prop::collection::vec((prop::sample::select(NAMES), inner), 0..6)).prop_map(
                |(name, entries)| object(
                    std::iter::once(("@type", json!(format!("type.googleapis.com/{name}")))).chain(entries)
                )
            ),
        ]
    })
}

fn object<'a>(entries: impl Iterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(entries.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_values_are_read_or_refused(
        name in prop::sample::select(TYPES),
        fields in prop::collection::vec((prop::sample::select(NAMES), value()), 0..8),
    ) {
        let type_url = json!(format!("type.googleapis.com/{name}"));
        let resource = object(std::iter::once(("@type", type_url)).chain(fields));
        match envoy_raw::read(&resource.to_string()) {
            Ok(resource) => {
                // What is served reads back as what it says it is.
                let name = resource.resource_type.type_url().trim_start_matches("type.googleapis.com/");
                let descriptor = envoy_raw::pool().get_message_by_name(name).expect("a message of Envoy");
                prop_assert!(prost_reflect::DynamicMessage::decode(descriptor, resource.value).is_ok());
            }
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                prop_assert!(problems.len() <= envoy_raw::MAX_PROBLEMS);
            }
        }
    }

    #[test]
    fn any_texts_are_read_or_refused(text in "\\PC{0,200}", yaml in "('@type': [a-z.]{0,20}\n)?[a-z: \\[\\]{}\"'&*|>\n-]{0,120}") {
        let _ = envoy_raw::read(&text);
        let _ = envoy_raw::read(&yaml);
    }
}
