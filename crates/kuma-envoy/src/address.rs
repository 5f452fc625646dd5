//! Addresses in Envoy's form.

use std::net::IpAddr;

use envoy_api::envoy::config::core::v3::{Address, SocketAddress, address, socket_address};

/// A TCP address.
pub(crate) fn tcp(ip: IpAddr, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: ip.to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    }
}
