//! Transparent proxying: the operating system redirects connections to two ports, one for those that this machine
//! dials and one for those of other machines, and Envoy finds out where each was going.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use envoy_api::Any;
use envoy_api::envoy::config::core::v3::CidrRange;
use envoy_api::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, filter};
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use kuma_mesh::MeshDataplane;

use crate::key::{PassThrough, ResourceKey};
use crate::{address, names, tcp};

/// The resources for connections that are redirected to these ports. The listeners for IPv6 exist only if the Dataplane
/// has an IPv6 address: a machine without IPv6 could not open them. `closed`: the mesh has mTLS, and connections from
/// other machines never pass through; otherwise plain text would reach applications without passing an inbound.
pub(crate) fn keys(dataplane: &MeshDataplane, port: u16, inbound_port: Option<u16>, closed: bool) -> Vec<ResourceKey> {
    let own: BTreeSet<IpAddr> =
        dataplane.inbounds.iter().map(|inbound| inbound.advertised).chain(networking_address(dataplane)).collect();
    let outbounds = dataplane.outbounds.iter().map(|outbound| outbound.address);
    let has_ipv6 = dataplane.inbounds.iter().map(|inbound| inbound.address).chain(outbounds).any(|one| one.is_ipv6());
    let mut keys = Vec::new();
    let families = [(IpAddr::from(Ipv4Addr::UNSPECIFIED), true), (Ipv6Addr::UNSPECIFIED.into(), has_ipv6)];
    for (address, _) in families.into_iter().filter(|(_, wanted)| *wanted) {
        let of_family = |one: &&IpAddr| one.is_ipv4() == address.is_ipv4() && !one.is_unspecified();
        // The operator's own firewall rules may redirect both directions to one port.
        let refused: Arc<[IpAddr]> =
            if closed { own.iter().filter(of_family).copied().collect() } else { Arc::default() };
        let passes = PassThrough::AllBut(refused);
        keys.push(ResourceKey::CatchAllListener { address, port, inbound: false, passes });
        if let Some(port) = inbound_port {
            let passes = if closed { PassThrough::Nothing } else { PassThrough::AllBut(Arc::default()) };
            keys.push(ResourceKey::CatchAllListener { address, port, inbound: true, passes });
        }
    }
    keys.push(ResourceKey::PassThroughCluster);
    keys
}

fn networking_address(dataplane: &MeshDataplane) -> Option<IpAddr> {
    dataplane.spec.networking.as_ref()?.address.parse().ok()
}

/// Accepts redirected connections and hands each to the listener of its original destination; if there is no such
/// listener, the connection passes through or is reset. A connection to this port itself is reset: Envoy would connect
/// to itself without end.
pub(crate) fn catch_all(address: IpAddr, port: u16, inbound: bool, passes: &PassThrough) -> Listener {
    let name = match (inbound, address.is_ipv6()) {
        (false, false) => names::CATCH_ALL,
        (false, true) => names::CATCH_ALL_IPV6,
        (true, false) => names::CATCH_ALL_INBOUND,
        (true, true) => names::CATCH_ALL_INBOUND_IPV6,
    };
    let to_itself = FilterChainMatch { destination_port: Some(port.into()), ..FilterChainMatch::default() };
    let mut filter_chains = vec![FilterChain { filter_chain_match: Some(to_itself), ..chain(names::NOWHERE) }];
    match passes {
        PassThrough::Nothing => filter_chains.push(chain(names::NOWHERE)),
        PassThrough::AllBut(refused) => {
            if !refused.is_empty() {
                let prefix_ranges = refused.iter().map(|address| host(*address)).collect();
                let to_them = FilterChainMatch { prefix_ranges, ..FilterChainMatch::default() };
                filter_chains.push(FilterChain { filter_chain_match: Some(to_them), ..chain(names::NOWHERE) });
            }
            filter_chains.push(chain(names::PASS_THROUGH));
        }
    }
    Listener {
        name: name.to_owned(),
        address: Some(address::tcp(address, port)),
        filter_chains,
        // The listener filter `original_dst` would restore the address, but not hand the connection to another
        // listener.
        use_original_dst: Some(true),
        enable_reuse_port: Some(false),
        // It also holds for the connections that are handed to other listeners.
        tcp_keepalive: Some(tcp::keepalive()),
        ..Listener::default()
    }
}

/// One address as a network.
fn host(address: IpAddr) -> CidrRange {
    let length = if address.is_ipv4() { 32 } else { 128 };
    CidrRange { address_prefix: address.to_string(), prefix_len: Some(length) }
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
