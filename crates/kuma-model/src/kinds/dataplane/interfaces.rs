//! The `interface` strings of inbounds and outbounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::decode::port;

/// Reads `ADDRESS:PORT:SERVICE_PORT`, an IPv6 address in brackets.
pub(super) fn parse_inbound(interface: &str) -> Option<(IpAddr, u16, u16)> {
    let (rest, service_port) = interface.rsplit_once(':')?;
    let (address, listening_port) = rest.rsplit_once(':')?;
    Some((
        parse_address(address)?,
        port(listening_port)?,
        port(service_port)?,
    ))
}

/// Reads `ADDRESS:PORT`, an IPv6 address in brackets; without an address it is 127.0.0.1.
pub(super) fn parse_outbound(interface: &str) -> Option<(IpAddr, u16)> {
    let (address, listening_port) = interface.rsplit_once(':')?;
    let address = if address.is_empty() {
        Ipv4Addr::LOCALHOST.into()
    } else {
        parse_address(address)?
    };
    Some((address, port(listening_port)?))
}

/// The standard library refuses leading zeros in IPv4, as Envoy does.
fn parse_address(address: &str) -> Option<IpAddr> {
    match address.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')?
            .parse::<Ipv6Addr>()
            .ok()
            .map(IpAddr::V6),
        None => address.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}
