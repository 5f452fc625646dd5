//! Raw resources: added to generated ones, in place of generated ones, and in a real Envoy.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_api::ResourceType;
use kuma_envoy::{Encoded, encode, plan, raw};
use kuma_mesh::MeshSnapshot;
use kuma_model::{Dataplane, Document, ProxyTemplate, Resource, decode_spec, text};
use kuma_test::ports::free_port;
use prost_reflect::{DynamicMessage, SerializeOptions};

use crate::ads::Ads;
use crate::cases::{self, Site};
use crate::envoy::Envoy;

fn spec<R: Resource>(yaml: &str) -> R {
    decode_spec(&text::parse_one(yaml).expect("YAML")).expect("a spec")
}

fn template(imports: &str, resources: &[&str]) -> ProxyTemplate {
    let resources: Vec<_> =
        resources.iter().map(|text| serde_json::json!({"name": "n", "version": "v", "resource": text})).collect();
    let imports: Vec<&str> = imports.split_whitespace().collect();
    let conf = serde_json::json!({"imports": imports, "resources": resources});
    decode_spec(&serde_json::json!({"selectors": [{"match": {"service": "*"}}], "conf": conf})).expect("a template")
}

/// The resources of web's proxy in a mesh with this template, by type and name. The later one of two counts.
fn resources(template: Option<ProxyTemplate>) -> BTreeMap<(ResourceType, String), Encoded> {
    let mut mesh = MeshSnapshot::new("default", false);
    let web: Dataplane = spec(
        "networking:
           inbound: [{interface: '127.0.0.1:8000:80', tags: {service: web}}]
           outbound: [{interface: ':9000', service: redis}]",
    );
    mesh.set_dataplane(&Arc::from("web-1"), Some(web));
    if let Some(template) = template {
        let (template, violations) = raw::template(&template);
        assert!(violations.is_empty(), "{violations}");
        mesh.set_template(&Arc::from("t"), Some(Arc::new(template)));
    }
    let dataplane = mesh.dataplane("web-1").expect("web").clone();
    let keys = plan(&mesh, &dataplane, None);
    keys.iter().map(encode).map(|one| ((one.resource_type, one.name.to_string()), one)).collect()
}

const ANOTHER: &str = "{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: another, type: STATIC}";
const REDIS: &str = "{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: redis, type: STATIC}";

#[test]
fn without_imports_there_is_nothing_but_what_is_given() {
    assert_eq!(resources(Some(template("", &[]))).len(), 0);
    let only = resources(Some(template("", &[ANOTHER])));
    assert_eq!(only.keys().cloned().collect::<Vec<_>>(), [(ResourceType::Cluster, "another".to_owned())]);
    let spec: ProxyTemplate = decode_spec(&serde_json::json!({})).expect("a template");
    assert_eq!(resources(Some(spec)).len(), 0);
}

#[test]
fn what_is_given_comes_beside_or_in_the_place_of_the_generated() {
    let generated = resources(None);
    assert_eq!(resources(Some(template("default-proxy", &[]))), generated);

    let mut beside = resources(Some(template("default-proxy", &[ANOTHER])));
    assert!(beside.remove(&(ResourceType::Cluster, "another".to_owned())).is_some());
    assert_eq!(beside, generated);

    let replaced = resources(Some(template("default-proxy", &[REDIS])));
    let redis = (ResourceType::Cluster, "redis".to_owned());
    assert_eq!(replaced.len(), generated.len());
    assert_ne!(replaced[&redis], generated[&redis]);
    assert_eq!(replaced[&redis].requires, None);
}

#[test]
fn a_cluster_with_endpoints_of_the_control_plane_asks_for_them_again() {
    let eds = "{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: mine, type: EDS,
                eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}, service_name: redis}}";
    let all = resources(Some(template("default-proxy", &[eds])));
    let mine = &all[&(ResourceType::Cluster, "mine".to_owned())];
    assert_eq!(mine.requires, Some((ResourceType::Endpoint, Arc::from("redis"))));
    assert!(all.contains_key(&(ResourceType::Endpoint, "redis".to_owned())));
}

#[test]
fn what_is_wrong_is_told_by_its_place_and_left_out() {
    let bootstrap = "{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: ads_cluster}";
    let identity =
        "{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret, name: identity_cert}";
    let broken =
        "{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: x, connect_timeout: 0s, typ: EDS}";
    let (template, violations) = raw::template(&template("", &[ANOTHER, broken, bootstrap, ANOTHER, identity]));
    assert_eq!(template.resources.len(), 1);
    let said: Vec<String> = violations.to_string().lines().map(str::to_owned).collect();
    let says = |index: usize, reason: &str| {
        format!("conf.resources[{index}].resource: native Envoy resource is not valid: {reason}")
    };
    assert_eq!(
        said,
        [
            says(1, "typ: unknown field of envoy.config.cluster.v3.Cluster; did you mean \"type\"?"),
            says(2, "name: Cluster \"ads_cluster\" cannot be given: the proxy starts with one of its own"),
            says(3, "name: Cluster \"another\" is given by conf.resources[0] already"),
            says(4, "name: Secret \"identity_cert\" cannot be given: the control plane issues it to each proxy"),
        ]
    );
}

/// A template could send it to anybody.
#[test]
fn the_token_of_a_proxy_is_for_no_template() {
    let listener = "{'@type': type.googleapis.com/envoy.config.listener.v3.Listener, name: l,
        address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [{filters: [
        {name: hcm, typed_config: {
        '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
        stat_prefix: s, route_config: {}, http_filters: [{name: injector, typed_config: {
        '@type': type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector,
        credential: {name: generic, typed_config: {
        '@type': type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic,
        credential: {name: NAME}}}}}]}}]}]}";
    let (mine, violations) = raw::template(&template("", &[&listener.replace("NAME", "my_token")]));
    assert_eq!((mine.resources.len(), violations.to_string()), (1, String::new()));
    let (none, violations) = raw::template(&template("", &[&listener.replace("NAME", "dataplane_token")]));
    assert_eq!(none.resources.len(), 0);
    assert!(violations.to_string().contains("it refers to \"dataplane_token\""), "{violations}");
}

/// Raw resources of every supported type, of v2 and of v3, which use many fields. `$PORT` stands for a free port,
/// `$ROOTS` for certificates.
const ACCEPTED: &[(&str, &[&str])] = &[
    (
        "the documents' own",
        &[
            "'@type': type.googleapis.com/envoy.api.v2.Cluster\nconnectTimeout: 5s\nloadAssignment:\n  clusterName: \
             localhost:8443\n  endpoints:\n    - lbEndpoints:\n        - endpoint:\n            \
             address:\n              socketAddress:\n                address: 127.0.0.1\n                portValue: \
             8443\nname: localhost:8443\ntype: STATIC\n",
            r#"
            '@type': type.googleapis.com/envoy.api.v2.Listener
            name: inbound:127.0.0.1:4040
            address: {socket_address: {address: 127.0.0.1, port_value: $PORT}}
            filter_chains:
            - filters:
              - name: envoy.http_connection_manager
                config:
                  route_config:
                    virtual_hosts:
                    - routes:
                      - match: {prefix: "/stats/prometheus"}
                        route: {cluster: localhost:8443}
                      domains: ["*"]
                      name: envoy_admin
                  codec_type: AUTO
                  http_filters:
                    name: envoy.router
                  stat_prefix: stats
            "#,
        ],
    ),
    (
        "much of v2",
        &[
            "
            '@type': type.googleapis.com/envoy.api.v2.Listener
            name: old
            address: {socketAddress: {address: 127.0.0.1, portValue: $PORT}}
            deprecatedV1: {bindToPort: false}
            listenerFilters: [{name: envoy.listener.tls_inspector}]
            filterChains:
            - tlsContext:
                commonTlsContext:
                  tlsCertificateSdsSecretConfigs: {name: c, sdsConfig: {ads: {}, initialFetchTimeout: 0.1s}}
              filters:
              - {name: envoy.filters.network.rbac, config: {stat_prefix: r, rules: {policies: {p: {
                  permissions: [{any: true}], principals: [{authenticated: {principal_name: {regex: \
                  'spiffe://.*'}}}]}}}}}
              - name: envoy.tcp_proxy
                typedConfig:
                  '@type': type.googleapis.com/envoy.config.filter.network.tcp_proxy.v2.TcpProxy
                  statPrefix: t
                  cluster: old
                  accessLog:
                    name: envoy.file_access_log
                    config: {path: /dev/null, format: \"%START_TIME%\\n\"}
            ",
            r#"
            '@type': type.googleapis.com/envoy.api.v2.Cluster
            name: old
            connect_timeout: 1s
            type: STATIC
            hosts:
            - socket_address: {address: 127.0.0.1, port_value: 80}
            - socket_address: {address: 127.0.0.1, port_value: 81}
            tls_context: {sni: example, common_tls_context: {}}
            http2_protocol_options: {}
            drain_connections_on_host_removal: true
            health_checks:
            - {timeout: 1s, interval: 1s, unhealthy_threshold: 2, healthy_threshold: 2,
               http_health_check: {path: /, use_http2: true, service_name: old}}
            "#,
            "{'@type': type.googleapis.com/envoy.api.v2.Cluster, name: o, type: ORIGINAL_DST, lb_policy: \
             ORIGINAL_DST_LB}",
            "
            '@type': type.googleapis.com/envoy.api.v2.Listener
            name: old-http
            address: {socket_address: {address: 127.0.0.1, port_value: $PORT}}
            filter_chains:
              filters:
                name: envoy.http_connection_manager
                config:
                  stat_prefix: h
                  idle_timeout: 5s
                  tracing: {operation_name: INGRESS, request_headers_for_tags: [x-user]}
                  http_filters: [{name: envoy.cors}, {name: envoy.buffer, config: {max_request_bytes: 1000}}, {name: \
                  envoy.router, config: {}}]
                  route_config:
                    name: old
                    virtual_hosts:
                    - name: v
                      domains: '*'
                      per_filter_config: {envoy.buffer: {disabled: true}}
                      routes:
                      - match:
                          regex: /a.*
                          headers: [{name: a, regex_match: 'x+'}, {name: b, exact_match: y}]
                          query_parameters: [{name: q, value: v}, {name: r, value: 'v+', regex: true}, {name: s}]
                        route:
                          cluster: old
                          host_rewrite: d
                          request_mirror_policy: {cluster: o}
                          cors: {allow_origin: [a.example], allow_origin_regex: ['.*\\.b'], enabled: true}
                          retry_policy:
                            retry_on: 5xx
                            retry_host_predicate: [{name: envoy.retry_host_predicates.previous_hosts}]
            ",
        ],
    ),
    (
        "v3, with endpoints, routes and secrets by name",
        &[
            r#"
            '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
            name: forms
            connect_timeout: 0.250s
            type: eds
            eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}, service_name: forms-endpoints}
            per_connection_buffer_limit_bytes: "32768"
            lb_policy: least_request
            metadata: {filter_metadata: {z: {list: [1, true, null, text, {a: {b: []}}]}, a: {}}}
            circuit_breakers: {thresholds: {priority: HIGH, max_connections: 1e3}}
            common_lb_config: {healthy_panic_threshold: {value: 12.5}}
            transport_socket:
              name: tls
              typed_config:
                '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
                common_tls_context:
                  validation_context_sds_secret_config: {name: roots, sds_config: {ads: {}, resource_api_version: V3}}
            typed_extension_protocol_options:
              envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
                '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
                explicit_http_config: {http2_protocol_options: {}}
                common_http_protocol_options: {idle_timeout: 3600s}
            "#,
            r#"
            '@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
            cluster_name: forms-endpoints
            endpoints: {lb_endpoints: {endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 80}}}}}
            "#,
            r#"
            '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
            name: roots
            validation_context: {trusted_ca: {inline_string: "$ROOTS"}}
            "#,
            r#"
            '@type': type.googleapis.com/envoy.config.route.v3.RouteConfiguration
            name: routes
            virtual_hosts: {name: v, domains: '*', routes: {match: {prefix: /}, route: {cluster: forms}}}
            "#,
            "
            '@type': type.googleapis.com/envoy.config.listener.v3.Listener
            name: forms
            address: {socket_address: {address: 127.0.0.1, port_value: $PORT}}
            filter_chains:
            - filters:
              - name: http
                typed_config:
                  '@type': \
                  type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
                  HttpConnectionManager
                  stat_prefix: h
                  rds: {route_config_name: routes, config_source: {ads: {}, resource_api_version: V3}}
                  http_filters: {name: router, typed_config: {'@type': \
                  type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
            ",
        ],
    ),
];

/// Each generated resource could be a raw one: it passes every check, and decodes to the same message.
#[test]
fn what_is_generated_reads_as_raw() {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let site = Site {
        inbound: 1,
        application: 2,
        outbound: 3,
        redirect: 4,
        redirect_inbound: 5,
        roots: "roots of the mesh".into(),
    };
    let mut read = 0;
    for (case, keys) in cases::all(&site) {
        for encoded in keys.iter().map(encode).filter(|one| one.resource_type != ResourceType::ExtensionConfig) {
            let type_url = encoded.resource_type.type_url();
            let name = type_url.trim_start_matches("type.googleapis.com/");
            let descriptor = envoy_raw::pool().get_message_by_name(name).expect("a message of Envoy");
            // As JSON: the order of fields may differ in what an Any holds.
            let as_json = |bytes| {
                let message = DynamicMessage::decode(descriptor.clone(), bytes).expect("the bytes read back");
                message.serialize_with_options(serde_json::value::Serializer, &options).expect("JSON")
            };
            let generated = as_json(encoded.value.clone());
            let mut json = generated.clone();
            json["@type"] = type_url.into();
            let raw =
                envoy_raw::read(&json.to_string()).unwrap_or_else(|problems| panic!("{case}: {problems:?}: {json}"));
            assert_eq!((raw.resource_type, raw.name.as_str()), (encoded.resource_type, &*encoded.name));
            assert_eq!(raw.endpoints, encoded.requires.map(|(_, name)| name.to_string()));
            assert_eq!(as_json(raw.value), generated, "{case}");
            read += 1;
        }
    }
    assert!(read > 20);
}

/// The template in the documentation is valid, and Envoy accepts it.
#[tokio::test]
async fn the_documented_template_is_accepted_by_a_real_envoy() {
    let text = include_str!("../../../../docs/proxy-templates.md");
    let (_, rest) = text.split_once("```yaml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("the end of the example");
    let example = example.replace("port_value: 4040", &format!("port_value: {}", free_port()));
    let document = Document::parse(&text::parse_one(&example).expect("YAML")).expect("a document");
    let mut template: ProxyTemplate = decode_spec(&document.spec).expect("a template");
    // Without the imported profile: its listeners have ports that may be in use on this machine.
    template.conf.as_mut().expect("a conf").imports.clear();
    let ads = Ads::start().await;
    ads.serve(resources(Some(template)).into_values());
    let envoy = Envoy::start(&ads);
    envoy.has_accepted(&ads, "the example of the documentation").await;
}

#[tokio::test]
async fn what_is_read_is_accepted_by_a_real_envoy() {
    let ads = Ads::start().await;
    let roots = ads.ca_pem.replace('\n', "\\n");
    for (what, texts) in ACCEPTED {
        let texts: Vec<String> = texts
            .iter()
            .map(|text| text.replace("$PORT", &free_port().to_string()).replace("$ROOTS", &roots))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        ads.serve(resources(Some(template("", &texts))).into_values());
        let envoy = Envoy::start(&ads);
        envoy.has_accepted(&ads, what).await;
    }
}
