//! Transparent proxying: the operating system redirects every connection to one port.

use std::net::{IpAddr, Ipv4Addr};

use envoy_api::Any;
use envoy_api::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;

use crate::{address, names};

/// Takes every redirected connection and hands it to the listener of the address that it was going to. One that goes
/// elsewhere passes through.
pub(crate) fn catch_all(port: u16) -> Listener {
    let proxy = TcpProxy {
        stat_prefix: names::PASS_THROUGH.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(names::PASS_THROUGH.to_owned())),
        ..TcpProxy::default()
    };
    Listener {
        name: names::CATCH_ALL.to_owned(),
        address: Some(address::tcp(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.tcp_proxy".into(),
                config_type: Some(filter::ConfigType::TypedConfig(Any::pack(&proxy))),
            }],
            ..FilterChain::default()
        }],
        // The listener filter `original_dst` alone restores the address, but hands nothing on.
        use_original_dst: Some(true),
        enable_reuse_port: Some(false),
        ..Listener::default()
    }
}
