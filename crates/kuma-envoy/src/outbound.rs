//! The listeners that an application connects to, and the destinations of their connections.

use std::net::IpAddr;

use envoy_api::envoy::config::core::v3::TrafficDirection;
use envoy_api::envoy::config::listener::v3::{FilterChain, Listener};
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster as Weights, weighted_cluster::ClusterWeight,
};

use crate::key::{AccessLog, Flow, WeightedCluster};
use crate::{access_log, address, ads, names, tcp};

/// The listener of an outbound. The destinations are an extension config, so that a change of them closes no
/// connection.
pub(crate) fn listener(address: IpAddr, port: u16, flow: &Flow, http: bool) -> Listener {
    let name = names::outbound_listener(address, port);
    let filter = if http {
        ads::filter::<HttpConnectionManager>(names::http(&name))
    } else {
        ads::filter::<TcpProxy>(names::split(&name))
    };
    Listener {
        filter_chains: vec![FilterChain { name: chain_name(flow), filters: vec![filter], ..FilterChain::default() }],
        name,
        address: Some(address::tcp(address, port)),
        traffic_direction: TrafficDirection::Outbound as i32,
        // Otherwise two proxies with the same outbound on one host would share the port, and each get a part of the
        // connections, without an error.
        enable_reuse_port: Some(false),
        tcp_keepalive: Some(tcp::keepalive()),
        ..Listener::default()
    }
}

/// The name of the filter chain. When it changes, Envoy updates the listener in place and drains the old chain: the
/// connections of a revoked flow end within the drain time, and those of other listeners go on. All connections of the
/// chain end, whichever destination of a split they went to: Envoy cannot drain only some of them.
fn chain_name(flow: &Flow) -> String {
    match flow {
        Flow::Open => "open".to_owned(),
        Flow::Permitted => "permitted".to_owned(),
        Flow::Partly(clusters) => format!("permitted:{}", clusters.join(",")),
        Flow::Denied => "denied".to_owned(),
    }
}

/// The destinations and the access log of an outbound's connections.
pub(crate) fn split(service: &str, clusters: &[WeightedCluster], log: Option<&AccessLog>) -> TcpProxy {
    // Envoy refuses a weight of 0, and a list without entries.
    let clusters: Vec<&WeightedCluster> = clusters.iter().filter(|cluster| cluster.weight > 0).collect();
    let specifier = match clusters.as_slice() {
        [] => ClusterSpecifier::Cluster(names::NOWHERE.to_owned()),
        [only] => ClusterSpecifier::Cluster(only.name.to_string()),
        several => ClusterSpecifier::WeightedClusters(Weights {
            clusters: several
                .iter()
                .map(|cluster| ClusterWeight {
                    name: cluster.name.to_string(),
                    weight: cluster.weight,
                    ..ClusterWeight::default()
                })
                .collect(),
        }),
    };
    TcpProxy {
        access_log: log.into_iter().map(access_log::of_connections).collect(),
        ..tcp::proxy_to_instances(names::stat_prefix(service), specifier)
    }
}
