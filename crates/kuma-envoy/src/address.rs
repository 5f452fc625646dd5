//! Addresses in Envoy's form.

use std::net::IpAddr;

use envoy_api::envoy::config::core::v3::{Address, SocketAddress, address, socket_address};

/// A TCP address.
pub(crate) fn tcp(ip: IpAddr, port: u16) -> Address {
    of_host(&ip.to_string(), port)
}

/// A TCP address whose host is an IP address or a DNS name.
pub(crate) fn of_host(host: &str, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    }
}
