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

/// As deep as a text may be, in each way that messages nest, on a stack of the size that the control plane's threads
/// have.
#[test]
fn the_deepest_texts_are_read() {
    let log = |filter: &str| {
        format!(
            "{{'@type': type.googleapis.com/envoy.config.listener.v3.Listener, name: l, access_log: [{{name: a, \
             filter: {filter},
               typed_config: {{'@type': \
               type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog}}}}]}}"
        )
    };
    let nested = |open: &str, close: &str, depth: usize| format!("{}{}", open.repeat(depth), close.repeat(depth));
    let texts = [
        log(&format!("{}{{traceable_filter: {{}}}}{}", "{or_filter: {filters: ".repeat(28), "}}".repeat(28))),
        format!(
            "{{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: c, metadata: {{filter_metadata: \
             {{a: {{b: {}}}}}}}}}",
            nested("[", "]", 58)
        ),
        format!(
            "{{'@type': type.googleapis.com/envoy.api.v2.Cluster, name: c, transport_socket: {{name: a, typed_config: \
             {}}}}}",
            nested(
                "{'@type': type.googleapis.com/envoy.config.core.v3.TransportSocket, name: a, typed_config: ",
                "}",
                60
            )
            .replace("typed_config: }", "typed_config: null}")
        ),
    ];
    for text in texts {
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
            // Deep, but not too deep for the text.
            let reason = envoy_raw::read(&text).err().map(|problems| problems[0].reason.clone());
            assert!(reason.is_none_or(|reason| reason == "needs at least 2 entries, has 1"));
        });
        thread.expect("a thread").join().expect("it is read or refused");
    }
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
    fn any_texts_are_read_or_refused(text in "\\PC{0,200}", yaml in "('@type': [a-z.]{0,20}\n)?[a-z: \\[\\]{}\"'&*|>\n\
        -]{0,120}") {
        let _ = envoy_raw::read(&text);
        let _ = envoy_raw::read(&yaml);
    }
}
