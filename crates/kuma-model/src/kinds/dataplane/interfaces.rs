//! The `interface` strings of inbounds and outbounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::decode::port;

/// Reads `ADDRESS:PORT:SERVICE_PORT`, an IPv6 address in brackets.
pub(super) fn parse_inbound(interface: &str) -> Option<(IpAddr, u16, u16)> {
    let (rest, service_port) = interface.rsplit_once(':')?;
    let (address, listening_port) = rest.rsplit_once(':')?;
    Some((parse_address(address)?, port(listening_port)?, port(service_port)?))
}

/// Reads `ADDRESS:PORT`, an IPv6 address in brackets; without an address it is 127.0.0.1.
pub(super) fn parse_outbound(interface: &str) -> Option<(IpAddr, u16)> {
    let (address, listening_port) = interface.rsplit_once(':')?;
    let address = if address.is_empty() { Ipv4Addr::LOCALHOST.into() } else { parse_address(address)? };
    Some((address, port(listening_port)?))
}

/// The standard library refuses leading zeros in IPv4, as Envoy does.
fn parse_address(address: &str) -> Option<IpAddr> {
    match address.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => address.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_three_parts_of_an_inbound_are_mandatory() {
        for bad in [
            "",
            "80",
            ":80:8080",
            "localhost:80:81",
            "1.2.3.4::80",
            "1.2.3.4:80",
            "1.2.3.4:80:",
            "1.2.3.4:0:80",
            "1.2.3.4:80:65536",
            "1.2.3.4:80:000080",
            "1.2.3.4:+80:80",
            "1.2.3.4:80:80:80",
            "127.0.0.01:80:80",
            "256.0.0.1:80:80",
            "::1:80:80",
            "[::1:80:80",
            "::1]:80:80",
            "[1.2.3.4]:80:80",
            " 1.2.3.4:80:80",
            "[fe80::1%eth0]:80:80",
        ] {
            assert_eq!(parse_inbound(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_outbound_may_have_no_address() {
        assert_eq!(parse_outbound(":18080"), Some((Ipv4Addr::LOCALHOST.into(), 18080)));
        for bad in ["", ":", "18080", "localhost:80", "[]:80", "::1:80", ":0", ":65536", "1.2.3.4.5:80", "01.2.3.4:80"]
        {
            assert_eq!(parse_outbound(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(address: IpAddr, port in 1..=u16::MAX, service_port in 1..=u16::MAX) {
            let printed = match address {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            };
            prop_assert_eq!(parse_inbound(&format!("{printed}:{port}:{service_port}")),
                Some((address, port, service_port)));
            prop_assert_eq!(parse_outbound(&format!("{printed}:{port}")), Some((address, port)));
        }

        #[test]
        fn no_text_is_a_surprise(text in "[0-9.:\\[\\]a-f%+]{0,30}|.{0,20}") {
            if let Some((address, port, service_port)) = parse_inbound(&text) {
                prop_assert!(port > 0 && service_port > 0);
                prop_assert!(text.contains(':') && (address.is_ipv6() == text.starts_with('[')));
            }
            let _ = parse_outbound(&text);
        }
    }
}
