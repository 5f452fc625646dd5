//! Transparent proxying: the operating system redirects connections to one port, and Envoy finds out where each was
//! going.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use envoy_api::Any;
use envoy_api::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, filter};
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use kuma_mesh::MeshDataplane;

use crate::key::ResourceKey;
use crate::{address, names, tcp};

/// The resources for connections that are redirected to this port. The listener for IPv6 exists only if the Dataplane
/// has an IPv6 address: a machine without IPv6 could not open it.
pub(crate) fn keys(dataplane: &MeshDataplane, port: u16) -> Vec<ResourceKey> {
    let inbounds = dataplane.inbounds.iter().map(|inbound| inbound.address);
    let mut addresses = inbounds.chain(dataplane.outbounds.iter().map(|outbound| outbound.address));
    let mut keys = vec![ResourceKey::CatchAllListener { address: Ipv4Addr::UNSPECIFIED.into(), port }];
    if addresses.any(|address| address.is_ipv6()) {
        keys.push(ResourceKey::CatchAllListener { address: Ipv6Addr::UNSPECIFIED.into(), port });
    }
    keys.push(ResourceKey::PassThroughCluster);
    keys
}

/// Accepts every redirected connection and hands it to the listener of its original destination; if there is no such
/// listener, the connection passes through. A connection to this port itself is reset: Envoy would connect to itself
/// without end.
pub(crate) fn catch_all(address: IpAddr, port: u16) -> Listener {
    let name = if address.is_ipv6() { names::CATCH_ALL_IPV6 } else { names::CATCH_ALL };
    let to_itself = FilterChainMatch { destination_port: Some(port.into()), ..FilterChainMatch::default() };
    Listener {
        name: name.to_owned(),
        address: Some(address::tcp(address, port)),
        filter_chains: vec![
            FilterChain { filter_chain_match: Some(to_itself), ..chain(names::NOWHERE) },
            chain(names::PASS_THROUGH),
        ],
        // The listener filter `original_dst` would restore the address, but not hand the connection to another
        // listener.
        use_original_dst: Some(true),
        enable_reuse_port: Some(false),
        // It also holds for the connections that are handed to other listeners.
        tcp_keepalive: Some(tcp::keepalive()),
        ..Listener::default()
    }
}

fn chain(cluster: &str) -> FilterChain {
    let proxy = tcp::proxy(names::stat_prefix(cluster), ClusterSpecifier::Cluster(cluster.to_owned()));
    FilterChain {
        filters: vec![Filter {
            name: "envoy.filters.network.tcp_proxy".into(),
            config_type: Some(filter::ConfigType::TypedConfig(Any::pack(&proxy))),
        }],
        ..FilterChain::default()
    }
}
