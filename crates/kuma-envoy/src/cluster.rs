//! Clusters: the application behind an inbound, and the destinations of an outbound.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use envoy_api::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_api::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy};
use envoy_api::envoy::config::cluster::v3::{CircuitBreakers, Cluster};
use envoy_api::envoy::config::endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints};

use envoy_api::envoy::config::core::v3::{Http2ProtocolOptions, HttpProtocolOptions as CommonOptions};
use envoy_api::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_api::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    UpstreamProtocolOptions, UseDownstreamHttpConfig,
};
use envoy_api::{Any, Duration, Packed as _};

use crate::key::Health;
use crate::{address, ads, endpoints, health_check, http, names, tcp, tls};

/// How long a connection to an endpoint may take to open.
const CONNECT_TIMEOUT: Duration = Duration { seconds: 5, nanos: 0 };

/// How long an idle HTTP connection to an application is kept. It is shorter than the idle timeout of common servers
/// (Node 5 s, Gunicorn 2 s), so that no request is sent on a connection that the application is just closing.
const APPLICATION_IDLE: Duration = Duration { seconds: 1, nanos: 0 };

/// The application behind an inbound, on loopback.
pub(crate) fn local(port: u16, http: bool) -> Cluster {
    let mut cluster = at(names::local_cluster(port), SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    // For an application that listens on `::1` only. Envoy tries it at once when 127.0.0.1 refuses.
    for endpoint in cluster.load_assignment.iter_mut().flat_map(|assignment| &mut assignment.endpoints) {
        endpoint
            .lb_endpoints
            .iter_mut()
            .for_each(|endpoint| endpoints::add_address(endpoint, address::of_host("::1", port)));
    }
    if http { speaking_http(cluster, Some(APPLICATION_IDLE)) } else { cluster }
}

/// Envoy's own admin server.
pub(crate) fn admin(address: SocketAddr) -> Cluster {
    at(names::ADMIN_CLUSTER.to_owned(), address)
}

fn at(name: String, address: SocketAddr) -> Cluster {
    Cluster {
        load_assignment: Some(one_endpoint(&name, &address.ip().to_string(), address.port())),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        ..named(name)
    }
}

/// The one endpoint of a static cluster.
pub(crate) fn one_endpoint(cluster: &str, host: &str, port: u16) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![endpoints::at(address::of_host(host, port))],
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

/// The cluster of one destination, whose endpoints come by EDS. `tls` is the SPIFFE id that they have to prove.
pub(crate) fn service(name: &str, tls: Option<&str>, checks: Option<&Health>, http: bool) -> Cluster {
    let cluster = Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads::source()), ..EdsClusterConfig::default() }),
        transport_socket: tls.map(tls::upstream),
        ..remote(name.to_owned())
    };
    let cluster = if http { speaking_http(cluster, None) } else { cluster };
    match checks {
        Some(checks) => health_check::checked(cluster, checks),
        None => cluster,
    }
}

/// Connects to the address that a connection had before the firewall redirected it.
pub(crate) fn pass_through() -> Cluster {
    Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32)),
        lb_policy: LbPolicy::ClusterProvided as i32,
        ..remote(names::PASS_THROUGH.to_owned())
    }
}

/// Requests are sent in the HTTP version in which they came, which gRPC needs. `idle` is the idle timeout of a
/// connection; without it, Envoy's default of an hour holds.
fn speaking_http(cluster: Cluster, idle: Option<Duration>) -> Cluster {
    let options = HttpProtocolOptions {
        common_http_protocol_options: Some(CommonOptions {
            idle_timeout: idle,
            max_response_headers_kb: Some(http::MAX_HEADERS_KB),
            ..http::limits()
        }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(
            UseDownstreamHttpConfig {
                http_protocol_options: Some(http::trailers()),
                http2_protocol_options: Some(Http2ProtocolOptions::default()),
                ..UseDownstreamHttpConfig::default()
            },
        )),
        ..HttpProtocolOptions::default()
    };
    let name = HttpProtocolOptions::TYPE_URL.trim_start_matches("type.googleapis.com/");
    Cluster { typed_extension_protocol_options: BTreeMap::from([(name.to_owned(), Any::pack(&options))]), ..cluster }
}

/// A cluster on other machines, with TCP keepalive, since a machine can vanish without closing its connections.
pub(crate) fn remote(name: String) -> Cluster {
    Cluster { upstream_connection_options: Some(tcp::upstream_keepalive()), ..named(name) }
}

fn named(name: String) -> Cluster {
    let statistics = names::stat_prefix(&name);
    Cluster {
        alt_stat_name: if statistics == name { String::new() } else { statistics },
        name,
        connect_timeout: Some(CONNECT_TIMEOUT),
        circuit_breakers: Some(unlimited()),
        ..Cluster::default()
    }
}

/// By default Envoy allows a cluster 1,024 connections, 1,024 requests and 1,024 requests that wait for a connection at
/// a time, and three retries.
fn unlimited() -> CircuitBreakers {
    CircuitBreakers {
        thresholds: vec![Thresholds {
            max_connections: Some(u32::MAX),
            max_pending_requests: Some(u32::MAX),
            max_requests: Some(u32::MAX),
            max_retries: Some(u32::MAX),
            ..Thresholds::default()
        }],
        ..CircuitBreakers::default()
    }
}
