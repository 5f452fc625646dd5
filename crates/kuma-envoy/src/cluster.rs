//! Clusters: the application behind an inbound, and the destinations of an outbound.

use std::net::{IpAddr, Ipv4Addr};

use envoy_api::Duration;
use envoy_api::envoy::config::cluster::v3::Cluster;
use envoy_api::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy};
use envoy_api::envoy::config::endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints};

use crate::key::Health;
use crate::{ads, endpoints, health, names, tls};

/// How long a connection to an endpoint may take to open.
const CONNECT_TIMEOUT: Duration = Duration { seconds: 5, nanos: 0 };

/// The application behind an inbound, on loopback.
pub(crate) fn local(port: u16) -> Cluster {
    on_loopback(names::local_cluster(port), port)
}

/// Envoy's own admin server.
pub(crate) fn admin(port: u16) -> Cluster {
    on_loopback(names::ADMIN_CLUSTER.to_owned(), port)
}

fn on_loopback(name: String, port: u16) -> Cluster {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Cluster {
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.clone(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![endpoints::endpoint(loopback, port, None)],
                ..LocalityLbEndpoints::default()
            }],
            ..ClusterLoadAssignment::default()
        }),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        ..named(name)
    }
}

/// The endpoints of one destination, by EDS. With `tls`, they must prove to be that SPIFFE id.
pub(crate) fn service(name: &str, tls: Option<&str>, checks: Option<&Health>) -> Cluster {
    let cluster = Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads::source()), ..EdsClusterConfig::default() }),
        transport_socket: tls.map(tls::upstream),
        ..named(name.to_owned())
    };
    match checks {
        Some(checks) => health::checked(cluster, checks),
        None => cluster,
    }
}

/// Where the connection was going before it was redirected.
pub(crate) fn pass_through() -> Cluster {
    Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32)),
        lb_policy: LbPolicy::ClusterProvided as i32,
        ..named(names::PASS_THROUGH.to_owned())
    }
}

fn named(name: String) -> Cluster {
    let statistics = names::stat_prefix(&name);
    Cluster {
        alt_stat_name: if statistics == name { String::new() } else { statistics },
        name,
        connect_timeout: Some(CONNECT_TIMEOUT),
        ..Cluster::default()
    }
}
