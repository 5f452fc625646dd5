//! What was written for Envoy's v2 API.

use crate::documents::{as_json, read};
use serde_json::json;

#[test]
fn a_listener_with_much_of_v2() {
    let text = r#"
        '@type': type.googleapis.com/envoy.api.v2.Listener
        name: old
        address: {socketAddress: {address: 127.0.0.1, portValue: 8080}}
        deprecatedV1: {bindToPort: false}
        listenerFilters: [{name: envoy.listener.tls_inspector}]
        filterChains:
        - tlsContext:
            commonTlsContext:
              tlsCertificateSdsSecretConfigs: {name: c, sdsConfig: {ads: {}}}
              validationContext: {trustedCa: {filename: /ca}, verifySubjectAltName: [spiffe://a/b]}
            requireClientCertificate: true
          filters:
          - {name: envoy.filters.network.rbac, config: {stat_prefix: r, rules: {policies: {p: {
              permissions: [{any: true}], principals: [{authenticated: {principal_name: {regex: 'spiffe://.*'}}}]}}}}}
          - name: envoy.tcp_proxy
            typedConfig:
              '@type': type.googleapis.com/envoy.config.filter.network.tcp_proxy.v2.TcpProxy
              statPrefix: t
              cluster: c
              accessLog:
                name: envoy.file_access_log
                config: {path: /dev/stdout, format: "%START_TIME%\n"}
        "#;
    insta::assert_yaml_snapshot!(as_json(&read(text)));
}

#[test]
fn a_cluster_with_much_of_v2() {
    let text = r#"
        '@type': type.googleapis.com/envoy.api.v2.Cluster
        name: old
        connect_timeout: 1s
        type: STRICT_DNS
        hosts:
        - socket_address: {address: a.example, port_value: 80}
        - socket_address: {address: b.example, port_value: 81}
        tls_context: {sni: example, common_tls_context: {}}
        http2_protocol_options: {}
        drain_connections_on_host_removal: true
        health_checks:
        - {timeout: 1s, interval: 1s, unhealthy_threshold: 2, healthy_threshold: 2,
           http_health_check: {path: /, use_http2: true, service_name: old}}
        "#;
    insta::assert_yaml_snapshot!(as_json(&read(text)));
    let original = read(
        "{'@type': type.googleapis.com/envoy.api.v2.Cluster, name: o, type: ORIGINAL_DST, lb_policy: ORIGINAL_DST_LB}",
    );
    assert_eq!(as_json(&original)["lb_policy"], json!("CLUSTER_PROVIDED"));
    let named = read(
        "{'@type': type.googleapis.com/envoy.api.v2.Cluster, name: o,
          transportSocket: {name: envoy.transport_sockets.tls, config: {sni: s}}}",
    );
    assert_eq!(as_json(&named)["transport_socket"]["typed_config"]["sni"], json!("s"));
    let eds = read(
        "{'@type': type.googleapis.com/envoy.api.v2.Cluster, name: o, type: EDS, eds_cluster_config: {eds_config: \
         {ads: {}}}}",
    );
    assert_eq!(as_json(&eds)["eds_cluster_config"]["eds_config"]["resource_api_version"], json!("V3"));
    assert_eq!(eds.endpoints.as_deref(), Some("o"));
}

#[test]
fn routes_with_much_of_v2() {
    let text = r#"
        '@type': type.googleapis.com/envoy.api.v2.RouteConfiguration
        name: old
        virtual_hosts:
        - name: v
          domains: '*'
          cors: {allow_origin: [a.example], allow_origin_regex: ['.*\.b'], enabled: true}
          per_filter_config: {envoy.buffer: {disabled: true}}
          routes:
          - match:
              regex: /a.*
              headers: [{name: a, regex_match: 'x+'}, {name: b, exact_match: y}]
              query_parameters: [{name: q, value: v}, {name: r, value: 'v+', regex: true}, {name: s}]
            route:
              cluster: c
              host_rewrite: d
              request_mirror_policy: {cluster: m}
              retry_policy:
                retry_on: 5xx
                retry_host_predicate: [{name: envoy.retry_host_predicates.previous_hosts}]
        "#;
    insta::assert_yaml_snapshot!(as_json(&read(text)));
}

#[test]
fn problems_are_told_where_they_were_written() {
    for (text, expected) in [
        (
            "{'@type': type.googleapis.com/envoy.api.v2.Listener, name: l,
              filter_chains: [{tls_context: {common_tls_contxt: {}}}]}",
            "filter_chains[0].tls_context.common_tls_contxt: unknown field of \
             envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext; did you mean \"common_tls_context\"?",
        ),
        (
            "{'@type': type.googleapis.com/envoy.api.v2.Listener, name: l,
              filter_chains: [{filters: [{name: envoy.tcp_proxy, config: {cluster: a,
                access_log: [{name: envoy.file_access_log, config: {path: ''}}]}}]}]}",
            "filter_chains[0].filters[0].config.stat_prefix: cannot be empty\n\
             filter_chains[0].filters[0].config.access_log[0].config.path: cannot be empty",
        ),
        (
            "{'@type': type.googleapis.com/envoy.api.v2.Listener, name: l,
              filter_chains: [{filters: [{name: my.filter, config: {}}]}]}",
            "filter_chains[0].filters[0].config: no type is known for \"my.filter\": \
             write it as \"typed_config\" with \"@type\"",
        ),
        (
            "{'@type': type.googleapis.com/envoy.api.v2.Listener, name: l, deprecated_v1: {bind: true}}",
            "deprecated_v1.bind: unknown field; there is \"bind_to_port\" alone",
        ),
        (
            "{'@type': type.googleapis.com/envoy.api.v2.Cluster, name: c,
              hosts: [{socket_address: {address: a, port_value: 1}}, {socket_address: {address: a, port: 1}}]}",
            "hosts[1].socket_address.port: unknown field of envoy.config.core.v3.SocketAddress; did you mean \
             \"port_value\"?",
        ),
    ] {
        let problems = envoy_raw::read(text).expect_err("refused");
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(said.join("\n"), expected);
    }
}

#[test]
fn what_is_of_v2_is_refused_in_v3() {
    for (field, text) in [
        ("hosts", "{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: c, hosts: []}"),
        ("tls_context", "{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: c, tls_context: {}}"),
    ] {
        let problems = envoy_raw::read(text).expect_err("refused");
        assert_eq!(problems[0].path, field);
    }
}
