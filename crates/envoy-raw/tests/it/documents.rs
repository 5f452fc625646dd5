//! Resources that are read, as JSON by Envoy's own names.

use envoy_raw::Resource;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::{Value, json};

/// The cluster of the documents of the HTTP API: v2, in camelCase.
pub(crate) const CLUSTER: &str = "
'@type': type.googleapis.com/envoy.api.v2.Cluster
connectTimeout: 5s
loadAssignment:
  clusterName: localhost:8443
  endpoints:
    - lbEndpoints:
        - endpoint:
            address:
              socketAddress:
                address: 127.0.0.1
                portValue: 8443
name: localhost:8443
type: STATIC
";

/// The listener of the documents of the policy: v2, filters by name with a `config`, a single object for a list.
pub(crate) const LISTENER: &str = r#"
'@type': type.googleapis.com/envoy.api.v2.Listener
name: inbound:0.0.0.0:4040
address:
  socket_address:
    address: 0.0.0.0
    port_value: 4040
filter_chains:
- filters:
  - name: envoy.http_connection_manager
    config:
      route_config:
        virtual_hosts:
        - routes:
          - match:
              prefix: "/stats/prometheus"
            route:
              cluster: localhost:9901
          domains:
          - "*"
          name: envoy_admin
      codec_type: AUTO
      http_filters:
        name: envoy.router
      stat_prefix: stats
"#;

#[test]
fn the_cluster_of_the_documents() {
    insta::assert_yaml_snapshot!(as_json(&read(CLUSTER)));
}

#[test]
fn the_listener_of_the_documents() {
    insta::assert_yaml_snapshot!(as_json(&read(LISTENER)));
}

#[test]
fn json_reads_as_yaml_does() {
    let json: Value = json!({
        "@type": "type.googleapis.com/envoy.api.v2.Cluster",
        "name": "localhost:8443", "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "localhost:8443", "endpoints": [{"lb_endpoints": [{"endpoint": {
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 8443}}}}]}]},
    });
    assert_eq!(read(&json.to_string()), read(CLUSTER));
}

#[test]
fn every_type_that_is_served_has_its_own_name() {
    for (text, resource_type, name) in [
        ("{'@type': type.googleapis.com/envoy.config.route.v3.RouteConfiguration, name: r}", "Route", "r"),
        ("{'@type': type.googleapis.com/envoy.api.v2.RouteConfiguration, name: r}", "Route", "r"),
        (
            "{'@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: e}",
            "Endpoint",
            "e",
        ),
        ("{'@type': type.googleapis.com/envoy.api.v2.ClusterLoadAssignment, clusterName: e}", "Endpoint", "e"),
        (
            "{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret, name: s,
              validation_context: {trusted_ca: {inline_string: x}}}",
            "Secret",
            "s",
        ),
        ("{'@type': type.googleapis.com/envoy.api.v2.auth.Secret, name: s}", "Secret", "s"),
        ("{'@type': type.googleapis.com/envoy.config.listener.v3.Listener, name: l}", "Listener", "l"),
        ("{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: c}", "Cluster", "c"),
    ] {
        let resource = read(text);
        assert_eq!((format!("{:?}", resource.resource_type).as_str(), resource.name.as_str()), (resource_type, name));
    }
}

#[test]
fn only_a_cluster_of_eds_over_ads_has_endpoints_of_the_control_plane() {
    let cluster = |rest: &str| {
        read(&format!("{{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: c, {rest}}}")).endpoints
    };
    assert_eq!(cluster("type: EDS, eds_cluster_config: {eds_config: {ads: {}}}").as_deref(), Some("c"));
    assert_eq!(
        cluster("type: EDS, eds_cluster_config: {eds_config: {ads: {}}, service_name: other}").as_deref(),
        Some("other")
    );
    assert_eq!(cluster("type: EDS, eds_cluster_config: {eds_config: {path_config_source: {path: /e}}}"), None);
    assert_eq!(cluster("type: STATIC"), None);
}

/// Protobuf's forms of JSON, each beside the bytes that they are.
#[test]
fn values_have_the_forms_of_protobuf() {
    let text = r#"
        '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
        name: forms
        connect_timeout: 0.250s
        type: strict_dns
        per_connection_buffer_limit_bytes: "32768"
        dns_lookup_family: 2
        lb_policy: Least_Request
        respect_dns_ttl: true
        metadata:
          filter_metadata:
            z: {list: [1, true, null, text, {a: {b: []}}]}
            a: {}
        circuit_breakers: {thresholds: {priority: HIGH, max_connections: 1e3}}
        health_checks:
        - {timeout: 1s, interval: 2s, unhealthy_threshold: 1, healthy_threshold: 1,
           tcp_health_check: {send: {binary: aGVsbG8}, receive: [{text: '50696E67'}]}}
        outlier_detection: null
        common_lb_config: {healthy_panic_threshold: {value: 12.5}}
        typed_extension_protocol_options:
          envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
            '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
            explicit_http_config: {http2_protocol_options: {}}
            common_http_protocol_options: {idle_timeout: 3600s}
        "#;
    insta::assert_yaml_snapshot!(as_json(&read(text)));
}

#[test]
fn the_bytes_are_the_same_each_time() {
    let tags: Vec<String> = (0..50).map(|index| format!("key-{index}: {{value: {index}}}")).collect();
    let text = format!(
        "{{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: c, metadata: {{filter_metadata: \
         {{{}}}}}}}",
        tags.join(", ")
    );
    let first = read(&text);
    for _ in 0..10 {
        assert_eq!(read(&text), first);
    }
}

pub(crate) fn read(text: &str) -> Resource {
    envoy_raw::read(text).unwrap_or_else(|problems| panic!("{text} is refused: {problems:#?}"))
}

/// What was encoded, by another implementation of protobuf.
pub(crate) fn as_json(resource: &Resource) -> Value {
    let name = resource.resource_type.type_url().trim_start_matches("type.googleapis.com/");
    let descriptor = envoy_raw::pool().get_message_by_name(name).expect("a message of Envoy");
    let message = DynamicMessage::decode(descriptor, resource.value.clone()).expect("the bytes read back");
    assert_eq!(message.unknown_fields().count(), 0);
    let options = SerializeOptions::new().use_proto_field_name(true);
    let value = message.serialize_with_options(serde_json::value::Serializer, &options).expect("JSON");
    sorted(value)
}

/// The reader of the test keeps maps in no order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let entries: std::collections::BTreeMap<String, Value> =
                object.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            entries.into_iter().collect::<serde_json::Map<_, _>>().into()
        }
        Value::Array(values) => values.into_iter().map(sorted).collect(),
        other => other,
    }
}
