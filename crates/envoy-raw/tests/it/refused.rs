//! What is refused, with what is said.

/// A resource of a type, and its problems, a line each.
#[track_caller]
fn refused(message: &str, fields: &str, expected: &str) {
    let text = format!("'@type': type.googleapis.com/{message}\n{fields}");
    says(&text, expected);
}

#[track_caller]
fn says(text: &str, expected: &str) {
    let problems = match envoy_raw::read(text) {
        Ok(resource) => panic!("{text} is read as {resource:?}"),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    };
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(problems, expected.join("\n"), "{text}");
}

const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
const LISTENER: &str = "envoy.config.listener.v3.Listener";
const ROUTES: &str = "envoy.config.route.v3.RouteConfiguration";

#[test]
fn texts() {
    says("", "there is no document");
    says("- 1", "expected a mapping with \"@type\", found a list");
    says("a: 1", "\"@type\" is missing");
    says("'@type': 1", "@type: expected a string, found the number 1");
    says("a: [\n", "line 1, column 4: unclosed bracket '['");
    says("a: 1\n---\nb: 1", "expected one document, found 2");
    refused(CLUSTER, "name: a\nname: b", "line 3, column 1: duplicate mapping key `name` is not allowed here");
}

#[test]
fn types() {
    says(
        "'@type': envoy.config.cluster.v3.Cluster",
        concat!(
            r#"@type: unknown type "envoy.config.cluster.v3.Cluster"; did you mean "#,
            r#""type.googleapis.com/envoy.config.cluster.v3.Cluster"?"#,
        ),
    );
    says(
        "'@type': type.googleapis.com/envoy.config.cluster.v3.Clustre",
        concat!(
            r#"@type: unknown type "type.googleapis.com/envoy.config.cluster.v3.Clustre"; did you mean "#,
            r#""type.googleapis.com/envoy.config.cluster.v3.Cluster"?"#,
        ),
    );
    says("'@type': type.googleapis.com/xyz", r#"@type: unknown type "type.googleapis.com/xyz""#);
    says(
        "{'@type': type.googleapis.com/envoy.config.core.v3.Address, pipe: {path: /a}}",
        "@type: envoy.config.core.v3.Address cannot be given: \
         only Listener, Cluster, ClusterLoadAssignment, RouteConfiguration and Secret are served",
    );
    says(
        "{'@type': type.googleapis.com/google.protobuf.Duration, value: 5s}",
        "@type: google.protobuf.Duration cannot be given: \
         only Listener, Cluster, ClusterLoadAssignment, RouteConfiguration and Secret are served",
    );
}

#[test]
fn names() {
    refused(CLUSTER, "type: STATIC", "name: cannot be empty");
    refused(LISTENER, "{}".trim_matches(['{', '}']), "name: cannot be empty");
    refused("envoy.extensions.transport_sockets.tls.v3.Secret", "name: ''", "name: cannot be empty");
}

#[test]
fn fields_and_values() {
    refused(
        CLUSTER,
        r#"
name: 5
connect_timout: 5s
connectTimeout: 5 minutes
type: STATICK
lb_policy: CHAOS
dns_lookup_family: [AUTO]
per_connection_buffer_limit_bytes: -1
wait_for_warm_on_init: 'yes'
metadata: [1]
load_assignment:
  cluster_name: a
  endpoints:
  - lb_endpoints:
    - endpoint: {address: {socket_address: {address: a, port_value: 70000000000}}}
    - endpoint: {address: {socket_address: {address: a, port_valeu: 80}}}
"#,
        "
        name: expected a string, found the number 5
        connect_timout: unknown field of envoy.config.cluster.v3.Cluster; did you mean \"connect_timeout\"?
        connect_timeout: expected a duration in seconds such as \"1.5s\", found the string \"5 minutes\"
        type: \"STATICK\" is no DiscoveryType; did you mean \"STATIC\"?
        lb_policy: \"CHAOS\" is none of ROUND_ROBIN, LEAST_REQUEST, RING_HASH, RANDOM, MAGLEV, CLUSTER_PROVIDED, \
        LOAD_BALANCING_POLICY_CONFIG
        dns_lookup_family: expected one of AUTO, V4_ONLY, V6_ONLY, V4_PREFERRED, ALL, found a list
        per_connection_buffer_limit_bytes: expected a number from 0 to 4294967295, found the number -1
        wait_for_warm_on_init: expected true or false, found the string \"yes\"
        metadata: expected a mapping, found a list
        load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value: expected a number \
        from 0 to 4294967295, found the number 70000000000
        load_assignment.endpoints[0].lb_endpoints[1].endpoint.address.socket_address.port_valeu: unknown field of \
        envoy.config.core.v3.SocketAddress; did you mean \"port_value\"?",
    );
    refused(
        CLUSTER,
        "name: a\nconnect_timeout: 1s\nconnectTimeout: 2s\ntype: STATIC\ncluster_type: {name: x}",
        r#"
        connect_timeout: given twice, as "connect_timeout" and "connectTimeout"
        cluster_type: excludes "type", which is given too"#,
    );
}

#[test]
fn what_an_any_holds() {
    let filter = |typed_config: &str| {
        format!("name: l\nfilter_chains:\n- filters:\n  - name: f\n    typed_config: {typed_config}")
    };
    for (typed_config, expected) in [
        ("{}", "filter_chains[0].filters[0].typed_config: \"@type\" is missing"),
        ("5", "filter_chains[0].filters[0].typed_config: expected a mapping with \"@type\", found the number 5"),
        (
            "{'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxi}",
            "filter_chains[0].filters[0].typed_config.@type: unknown type \
             \"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxi\"; did you mean \
             \"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\"?",
        ),
        (
            "{'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, clustre: a}",
            "filter_chains[0].filters[0].typed_config.clustre: unknown field of \
             envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy; did you mean \"cluster\"?",
        ),
        (
            "{'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, cluster: a}",
            "filter_chains[0].filters[0].typed_config.stat_prefix: cannot be empty",
        ),
        (
            "{'@type': type.googleapis.com/google.protobuf.Duration, value: 5, more: 1}",
            "filter_chains[0].filters[0].typed_config.more: a Duration has \"value\" alone",
        ),
    ] {
        refused(LISTENER, &filter(typed_config), expected);
    }
}

/// One of each kind of rule that Envoy's messages have.
#[test]
fn constraints() {
    refused(CLUSTER, "name: a\nconnect_timeout: 0s", "connect_timeout: must be greater than 0s");
    refused(
        CLUSTER,
        "name: a\nhealth_checks: {}",
        "
        health_checks[0]: one of http_health_check, tcp_health_check, grpc_health_check, custom_health_check is required
        health_checks[0].timeout: is required
        health_checks[0].interval: is required
        health_checks[0].unhealthy_threshold: is required
        health_checks[0].healthy_threshold: is required",
    );
    refused(CLUSTER, "name: a\nlb_policy: 99", "lb_policy: 99 is no LbPolicy");
    refused(
        CLUSTER,
        "name: a\ncommon_lb_config: {healthy_panic_threshold: {value: 101}}",
        "common_lb_config.healthy_panic_threshold.value: must be at most 100",
    );
    refused(
        CLUSTER,
        "name: a\noutlier_detection: {max_ejection_percent: 101}",
        "outlier_detection.max_ejection_percent: must be at most 100",
    );
    refused(
        CLUSTER,
        "name: a\nring_hash_lb_config: {minimum_ring_size: 8388609}",
        "ring_hash_lb_config.minimum_ring_size: must be at most 8388608",
    );
    refused(
        CLUSTER,
        "name: a\nload_assignment: {cluster_name: a, endpoints: {lb_endpoints: {endpoint: {address: {socket_address: \
         {}}}}}}",
        "
        load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address: one of port_value, named_port \
        is required
        load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: cannot be empty",
    );
    refused(
        CLUSTER,
        "name: a\nload_assignment: {cluster_name: a, endpoints: {lb_endpoints: {endpoint: {address: {socket_address: \
         {address: h, port_value: 65536}}}}}}",
        "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value: must be at most \
         65535",
    );
    let host = |host: &str| format!("name: r\nvirtual_hosts:\n- {host}");
    refused(ROUTES, &host("{domains: [a]}"), "virtual_hosts[0].name: cannot be empty");
    refused(ROUTES, &host("{name: v}"), "virtual_hosts[0].domains: needs at least 1 entry, has 0");
    refused(
        ROUTES,
        &host("{name: v, domains: [\"a\\nb\"]}"),
        "virtual_hosts[0].domains[0]: must be part of an HTTP header: without line breaks and zero bytes",
    );
    refused(
        ROUTES,
        &host("{name: v, domains: [a], routes: [{match: {prefix: /}}]}"),
        "virtual_hosts[0].routes[0]: one of route, redirect, direct_response, filter_action, non_forwarding_action is \
         required",
    );
    refused(
        ROUTES,
        &host("{name: v, domains: [a], routes: [{route: {cluster: a}}]}"),
        "virtual_hosts[0].routes[0].match: is required",
    );
    refused(
        ROUTES,
        &host("{name: v, domains: [a], routes: [{match: {prefix: /}, direct_response: {status: 99}}]}"),
        "virtual_hosts[0].routes[0].direct_response.status: must be at least 200",
    );
    refused(
        ROUTES,
        &host("{name: v, domains: [a], routes: [{match: {path_separated_prefix: /a/}, route: {cluster: a}}]}"),
        "virtual_hosts[0].routes[0].match.path_separated_prefix: must be of the form ^[^?#]+[^?#/]$",
    );
    refused(
        ROUTES,
        &host("{name: v, domains: [a], require_tls: 7}"),
        "virtual_hosts[0].require_tls: 7 is no TlsRequirementType",
    );
}

#[test]
fn secrets_are_not_repeated() {
    const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";
    refused(
        SECRET,
        "name: s\ntls_certificate: {private_key: hunter2}",
        "tls_certificate.private_key: expected a mapping",
    );
    refused(
        SECRET,
        "name: s\ntls_certificate: {private_key: {inline_bytes: 'hunter 2'}, password: [hunter3]}",
        "
        tls_certificate.private_key.inline_bytes: expected base64: Invalid symbol 32, offset 6.
        tls_certificate.password: expected a mapping",
    );
}

#[test]
fn only_so_many_problems_are_told() {
    let text: String = (0..100).map(|index| format!("unknown_{index}: 1\n")).collect();
    let problems = envoy_raw::read(&format!("'@type': type.googleapis.com/{CLUSTER}\n{text}")).expect_err("refused");
    assert_eq!(problems.len(), envoy_raw::MAX_PROBLEMS);
}
