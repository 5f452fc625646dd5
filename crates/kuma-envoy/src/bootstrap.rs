//! The bootstrap configuration of an Envoy: its node, and how to reach the control plane.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{names, tls};

/// The inputs of a bootstrap.
#[derive(Clone, Copy, Debug)]
pub struct BootstrapParams<'a> {
    /// Mesh of the Dataplane.
    pub mesh: &'a str,
    /// Name of the Dataplane.
    pub name: &'a str,
    /// The service that the proxy reports in its metrics; `unknown` if it has none.
    pub service: &'a str,
    /// Address of Envoy's admin server; `None` turns it off.
    pub admin: Option<SocketAddr>,
    /// Access log file of the admin server.
    pub admin_access_log_path: &'a str,
    /// Hosts and ports of the xDS servers, at least one. Envoy uses any of them. A host is a name or an IP address, and
    /// the certificate of its server must be valid for it.
    pub xds_servers: &'a [(&'a str, u16)],
    /// How long a connection to the xDS server may take to open.
    pub xds_connect_timeout: Duration,
    /// The CA certificate by which Envoy verifies the xDS server, PEM.
    pub xds_ca_pem: &'a str,
    /// File with the dataplane token. Envoy reads it; it must hold nothing but the token, without a final newline.
    pub token_path: Option<&'a str>,
    /// Path of the unix socket on which access logs are received, at most 107 bytes long.
    pub access_log_socket: &'a str,
    /// How many connections the machine's limit of file descriptors allows Envoy, if it is known.
    pub max_connections: Option<u64>,
}

/// How many connections a proxy accepts at the same time, over all listeners. It is far above what one application
/// handles, and low enough that Envoy refuses connections before it runs out of memory. Without a limit Envoy warns.
const MAX_DOWNSTREAM_CONNECTIONS: u64 = 50_000;

/// The bootstrap, as Envoy reads it in JSON.
pub fn bootstrap(params: &BootstrapParams<'_>) -> Value {
    let mut bootstrap = json!({
        "node": node(params),
        "dynamic_resources": {
            "lds_config": ads(),
            "cds_config": ads(),
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                // The first message lists some 500 extensions, 60 kB.
                "set_node_on_first_message_only": true,
                "grpc_services": [{
                    "envoy_grpc": {
                        "cluster_name": names::ADS_CLUSTER,
                        // The default maximum is 30 s: a proxy could be that late after its control plane is back.
                        // A field of the same name beside `envoy_grpc` has no effect on xDS.
                        "retry_policy": {"retry_back_off": {"base_interval": "0.25s", "max_interval": "2s"}},
                    },
                }],
            },
        },
        "static_resources": {
            "clusters": [ads_cluster(params), access_log_sink(params)],
        },
        "overload_manager": {
            "resource_monitors": [{
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": concat!(
                        "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.",
                        "DownstreamConnectionsConfig",
                    ),
                    "max_active_downstream_connections":
                        params.max_connections.unwrap_or(u64::MAX).min(MAX_DOWNSTREAM_CONNECTIONS),
                },
            }],
        },
    });
    if let Some(path) = params.token_path {
        bootstrap["static_resources"]["secrets"] = json!([{
            "name": names::DATAPLANE_TOKEN,
            "generic_secret": {"secret": {"filename": path}},
        }]);
    }
    if let Some(address) = params.admin {
        bootstrap["admin"] = admin(address, params.admin_access_log_path);
    }
    bootstrap
}

fn node(params: &BootstrapParams<'_>) -> Value {
    // Envoy refuses to start ADS without a cluster.
    let cluster = if params.service.is_empty() { "unknown" } else { params.service };
    let mut node = json!({"id": format!("{}.{}", params.mesh, params.name), "cluster": cluster});
    if let Some(address) = params.admin {
        // A string, as it is documented.
        node["metadata"] = json!({"dataplane.admin.port": address.port().to_string()});
    }
    node
}

fn admin(address: SocketAddr, access_log: &str) -> Value {
    json!({
        "access_log": [{
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": access_log,
            },
        }],
        "address": socket_address(&address.ip().to_string(), address.port()),
    })
}

fn ads_cluster(params: &BootstrapParams<'_>) -> Value {
    json!({
        "name": names::ADS_CLUSTER,
        "connect_timeout": seconds(params.xds_connect_timeout),
        "type": "STRICT_DNS",
        // By default Envoy uses only the IPv6 address of a host that has both, even if nothing listens there.
        "dns_lookup_family": "V4_PREFERRED",
        "typed_extension_protocol_options": http2(params.token_path.is_some()),
        "upstream_connection_options": {"tcp_keepalive": {}},
        "circuit_breakers": unlimited(),
        "load_assignment": load_assignment(
            names::ADS_CLUSTER,
            params.xds_servers.iter().map(|(host, port)| socket_address(host, *port)),
        ),
        "transport_socket": transport_socket(params),
    })
}

/// TLS that trusts only this CA, for these hosts, and none of the system's CAs.
fn transport_socket(params: &BootstrapParams<'_>) -> Value {
    let san_type = |host: &str| if host.parse::<IpAddr>().is_ok() { "IP_ADDRESS" } else { "DNS" };
    let mut hosts: Vec<&str> = params.xds_servers.iter().map(|(host, _)| *host).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let names = hosts.iter().map(|host| json!({"san_type": san_type(host), "matcher": {"exact": host}}));
    let mut context = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_2",
                "tls_maximum_protocol_version": "TLSv1_3",
                "ecdh_curves": tls::KEY_EXCHANGE,
            },
            "alpn_protocols": ["h2"],
            "validation_context": {
                "trusted_ca": {"inline_string": params.xds_ca_pem},
                "match_typed_subject_alt_names": names.collect::<Vec<_>>(),
            },
        },
    });
    // An IP address is not allowed as SNI (RFC 6066, section 3). With several hosts, one name is right for one only.
    if let [host] = hosts.as_slice()
        && san_type(host) == "DNS"
    {
        context["sni"] = (*host).into();
    }
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

fn access_log_sink(params: &BootstrapParams<'_>) -> Value {
    json!({
        "name": names::ACCESS_LOG_SINK,
        "connect_timeout": "1s",
        "type": "STATIC",
        "circuit_breakers": unlimited(),
        "typed_extension_protocol_options": http2(false),
        "load_assignment": load_assignment(
            names::ACCESS_LOG_SINK,
            [json!({"pipe": {"path": params.access_log_socket}})],
        ),
    })
}

/// HTTP/2, which gRPC needs. With `token`, a filter adds the token from the static secret to every request, as its
/// `authorization` header. This way the token shows in no dump of the configuration.
fn http2(token: bool) -> Value {
    const TYPE: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let mut options = json!({
        "@type": format!("type.googleapis.com/{TYPE}"),
        "explicit_http_config": {
            // Detects a control plane that has vanished without closing the connection.
            "http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "10s"}},
        },
    });
    if token {
        options["http_filters"] = json!([
            {
                "name": "envoy.filters.http.credential_injector",
                "typed_config": {
                    "@type": concat!(
                        "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.",
                        "CredentialInjector",
                    ),
                    "overwrite": true,
                    "credential": {
                        "name": "envoy.http.injected_credentials.generic",
                        "typed_config": {
                            "@type": concat!(
                                "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.",
                                "Generic",
                            ),
                            "credential": {"name": names::DATAPLANE_TOKEN},
                            "header": "authorization",
                        },
                    },
                },
            },
            {
                "name": "envoy.filters.http.upstream_codec",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
                },
            },
        ]);
    }
    json!({(TYPE): options})
}

/// No limit on concurrent connections and requests, as in all clusters (`cluster.rs`): each access log of an outbound
/// is a stream.
fn unlimited() -> Value {
    json!({"thresholds": [{
        "max_connections": u32::MAX,
        "max_pending_requests": u32::MAX,
        "max_requests": u32::MAX,
        "max_retries": u32::MAX,
    }]})
}

fn ads() -> Value {
    json!({"resource_api_version": "V3", "ads": {}})
}

fn load_assignment(cluster: &str, addresses: impl IntoIterator<Item = Value>) -> Value {
    let endpoints = addresses.into_iter().map(|address| json!({"endpoint": {"address": address}}));
    json!({
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": endpoints.collect::<Vec<_>>()}],
    })
}

fn socket_address(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}

/// A duration in the JSON form of protobuf.
fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}
