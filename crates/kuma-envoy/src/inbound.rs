//! The listeners for connections from other proxies.

use std::net::IpAddr;

use envoy_api::Any;
use envoy_api::envoy::config::core::v3::TrafficDirection;
use envoy_api::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_api::envoy::extensions::filters::network::rbac::v3::Rbac;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, UpstreamConnectMode};

use crate::{address, ads, names, tcp, tls};

/// The listener of an inbound. With `tls` it names the secret and the extension config that hold the permissions, so
/// that a change of permissions does not change the listener.
pub(crate) fn listener(address: IpAddr, port: u16, service_port: u16, tls: bool, http: bool) -> Listener {
    let name = names::inbound_listener(address, port);
    let proxy = if http {
        ads::filter::<HttpConnectionManager>(names::http(&name))
    } else {
        Filter {
            name: "envoy.filters.network.tcp_proxy".into(),
            config_type: Some(filter::ConfigType::TypedConfig(Any::pack(&tcp_proxy(service_port, tls)))),
        }
    };
    let chain = if tls {
        FilterChain {
            filters: vec![ads::filter::<Rbac>(names::rbac(&name)), proxy],
            transport_socket: Some(tls::downstream(&names::allowed_peers(&name))),
            ..FilterChain::default()
        }
    } else {
        FilterChain { filters: vec![proxy], ..FilterChain::default() }
    };
    Listener {
        name,
        address: Some(address::tcp(address, port)),
        filter_chains: vec![chain],
        traffic_direction: TrafficDirection::Inbound as i32,
        // Otherwise two proxies with the same inbound on one host would share the port, and each get a part of the
        // connections, without an error.
        enable_reuse_port: Some(false),
        tcp_keepalive: Some(tcp::keepalive()),
        ..Listener::default()
    }
}

fn tcp_proxy(service_port: u16, tls: bool) -> TcpProxy {
    let cluster = names::local_cluster(service_port);
    let proxy = tcp::proxy(names::stat_prefix(&cluster), ClusterSpecifier::Cluster(cluster));
    if !tls {
        return proxy;
    }
    // By default Envoy connects to the application as soon as it accepts a connection. If the application sends
    // first, a client without permission would receive that: RBAC waits for the client's first byte.
    TcpProxy {
        upstream_connect_mode: UpstreamConnectMode::OnDownstreamTlsHandshake as i32,
        max_early_data_bytes: Some(0),
        ..proxy
    }
}
