//! The rules for Dataplanes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Inbound, InboundInterface, Networking, Outbound, OutboundInterface, interfaces, takes_over};
use crate::decode::{element, entry};
use crate::kinds::metrics::Metrics;
use crate::tags::{HTTP, PROTOCOL_TAG, SERVICE_TAG, TCP, Tags, check_key, check_service, check_value};
use crate::violations::Violations;

const INVALID_ADDRESS: &str = "address has to be valid IP address";

pub(super) fn check_networking(networking: &Networking, metrics: Option<&Metrics>, violations: &mut Violations) {
    match (&networking.gateway, networking.inbound.is_empty()) {
        (None, true) => violations.add("networking", "has to contain at least one inbound interface or gateway"),
        (Some(_), false) => violations.add("networking", "inbound cannot be defined both with gateway"),
        _ => {}
    }
    let needs_address = |inbound: &Inbound| inbound.interface.is_empty() && inbound.address.is_empty();
    if !networking.address.is_empty() || networking.inbound.iter().any(needs_address) {
        match networking.address.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Err(_) => violations.add("networking.address", INVALID_ADDRESS),
            Ok(address) if address.is_unspecified() => violations.add(
                "networking.address",
                format!("{address} is no address at which others reach this proxy: write that of its machine"),
            ),
            Ok(address) => check_unicast("networking.address", address, violations),
        }
    }
    if let Some(gateway) = &networking.gateway {
        check_tags("networking.gateway.tags", &gateway.tags, violations);
    }
    for (index, inbound) in networking.inbound.iter().enumerate() {
        check_inbound(&element("networking.inbound", index), inbound, &networking.address, violations);
    }
    for (index, outbound) in networking.outbound.iter().enumerate() {
        check_outbound(&element("networking.outbound", index), outbound, violations);
    }
    if let Some(proxying) = &networking.transparent_proxying {
        let ports = [("redirectPort", proxying.redirect_port), ("redirectPortInbound", proxying.redirect_port_inbound)];
        for (field, _) in ports.into_iter().filter(|(_, port)| *port > u32::from(u16::MAX)) {
            let path = format!("networking.transparentProxying.{field}");
            violations.add(path, format!("{field} has to be in range of [0, 65535]"));
        }
    }
    check_sockets(networking, metrics, violations);
}

fn check_inbound(path: &str, inbound: &Inbound, networking_address: &str, violations: &mut Violations) {
    if inbound.interface.is_empty() {
        check_port(path, inbound.port, violations);
        check_service_port(path, inbound.service_port, violations);
        check_address(path, &inbound.address, violations);
        check_advertised(&format!("{path}.address"), &inbound.address, networking_address, violations);
    } else {
        for (field, set) in [
            ("port", inbound.port > 0),
            ("servicePort", inbound.service_port > 0),
            ("address", !inbound.address.is_empty()),
            ("networking.address", !networking_address.is_empty()),
        ] {
            if set {
                let instead = "Replace it with port, servicePort and networking.address";
                let message = format!("interface cannot be defined with {field}. {instead}");
                violations.add(format!("{path}.interface"), message);
            }
        }
        let path = format!("{path}.interface");
        match interfaces::parse_inbound(&inbound.interface).map(|(address, ..)| address.to_canonical()) {
            Some(address) if address.is_unspecified() => violations.add(
                path,
                format!(
                    "{address} is no address at which others reach this proxy: write that of its machine. To listen \
                     on all addresses, replace interface with address, port and servicePort, and write the machine's \
                     address into networking.address"
                ),
            ),
            Some(address) => check_unicast(&path, address, violations),
            None => violations.add(
                path,
                "invalid format: expected format is DATAPLANE_IP:DATAPLANE_PORT:WORKLOAD_PORT , \
                 e.g. 192.168.0.100:9090:8080 or [2001:db8::1]:7070:6060",
            ),
        }
    }
    let path = format!("{path}.tags");
    check_tags(&path, &inbound.tags, violations);
    if let Some(protocol) = inbound.tags.get(PROTOCOL_TAG).filter(|protocol| !protocol.is_empty())
        && ![HTTP, TCP].iter().any(|known| known.eq_ignore_ascii_case(protocol))
    {
        let allowed = format!("Allowed values: {HTTP}, {TCP}");
        let message = format!("tag {PROTOCOL_TAG:?} has an invalid value {protocol:?}. {allowed}");
        violations.add(entry(&path, PROTOCOL_TAG), message);
    }
}

fn check_outbound(path: &str, outbound: &Outbound, violations: &mut Violations) {
    if outbound.interface.is_empty() {
        check_port(path, outbound.port, violations);
        check_address(path, &outbound.address, violations);
    } else {
        for (field, set) in [("port", outbound.port > 0), ("address", !outbound.address.is_empty())] {
            if set {
                let message = format!("interface cannot be defined with {field}. Replace it with port and address");
                violations.add(format!("{path}.interface"), message);
            }
        }
        let path = format!("{path}.interface");
        match interfaces::parse_outbound(&outbound.interface) {
            Some((address, _)) => check_unicast(&path, address.to_canonical(), violations),
            None => violations.add(
                path,
                "invalid format: expected format is DATAPLANE_IP:DATAPLANE_PORT where DATAPLANE_IP is optional. \
                 E.g. 127.0.0.1:9090, :9090, [::1]:8080",
            ),
        }
    }
    if outbound.service.is_empty() {
        violations.add(format!("{path}.service"), "cannot be empty");
    } else if let Some(problem) = check_service(&outbound.service) {
        violations.add(format!("{path}.service"), problem);
    }
    check_service_port(path, outbound.service_port, violations);
}

fn check_port(path: &str, port: u32, violations: &mut Violations) {
    if port == 0 || port > u32::from(u16::MAX) {
        violations.add(format!("{path}.port"), "port has to be in range of [1, 65535]");
    }
}

fn check_service_port(path: &str, port: u32, violations: &mut Violations) {
    if port > u32::from(u16::MAX) {
        violations.add(format!("{path}.servicePort"), "servicePort has to be in range of [0, 65535]");
    }
}

fn check_address(path: &str, address: &str, violations: &mut Violations) {
    if address.is_empty() {
        return;
    }
    let path = format!("{path}.address");
    match address.parse::<IpAddr>() {
        Ok(address) => check_unicast(&path, address.to_canonical(), violations),
        Err(_) => violations.add(path, INVALID_ADDRESS),
    }
}

/// An inbound that listens on all addresses is reached at that of the machine, which has to be written and of the same
/// family: a socket of IPv6 takes no connections over IPv4.
fn check_advertised(path: &str, address: &str, networking_address: &str, violations: &mut Violations) {
    let unspecified = address.parse().map(|address: IpAddr| address.to_canonical()).ok().filter(IpAddr::is_unspecified);
    let Some(address) = unspecified else { return };
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let machine = networking_address.parse().map(|address: IpAddr| address.to_canonical());
    if machine.is_ok_and(|machine| machine.is_ipv4() != address.is_ipv4()) || networking_address.is_empty() {
        let message = format!(
            "{address} is no address at which others reach this proxy: write that of its machine, an {family} address, \
             into networking.address"
        );
        violations.add(path, message);
    }
}

/// Refuses what is the address of no single interface.
fn check_unicast(path: &str, address: IpAddr, violations: &mut Violations) {
    let problem = match address {
        IpAddr::V4(address) if address.is_broadcast() => "is the broadcast address",
        IpAddr::V4(address) if address.is_multicast() => "is a multicast address",
        IpAddr::V4(address) if address.octets()[0] == 0 && !address.is_unspecified() => "is in 0.0.0.0/8, no machine's",
        IpAddr::V6(address) if address.is_multicast() => "is a multicast address",
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            "is link-local: it means nothing without an interface"
        }
        _ => return,
    };
    violations.add(path, format!("{address} {problem}, and nothing can listen there"));
}

fn check_tags(path: &str, tags: &Tags, violations: &mut Violations) {
    if !tags.contains_key(SERVICE_TAG) {
        violations.add(entry(path, SERVICE_TAG), "tag has to exist");
    }
    for (key, value) in tags.iter() {
        let at = || entry(path, key);
        if key.is_empty() {
            violations.add(path, "tag key cannot be empty");
        } else if let Some(problem) = check_key(key) {
            violations.add(at(), problem);
        }
        if value.is_empty() {
            violations.add(at(), "tag value cannot be empty");
        } else if let Some(problem) = check_value(key, value) {
            violations.add(at(), problem);
        }
    }
}

/// What opens or needs a socket on the proxy's machine.
struct Socket {
    address: SocketAddr,
    /// Whether it is opened. What only takes redirected connections has a name alone.
    bound: bool,
    /// As messages call it.
    user: String,
}

impl Socket {
    /// Whether both cannot be: the same address twice, or one that is part of the other's.
    fn clashes(&self, other: &Socket) -> bool {
        let (one, two) = (self.address, other.address);
        let overlaps = one.is_ipv4() == two.is_ipv4() && (one.ip().is_unspecified() || two.ip().is_unspecified());
        one == two || one.port() == two.port() && overlaps && self.bound && other.bound
    }
}

/// Refuses sockets of which Envoy could open but one, and those of the applications behind the inbounds, which the
/// applications have opened.
fn check_sockets(networking: &Networking, metrics: Option<&Metrics>, violations: &mut Violations) {
    let redirect_port = networking.redirect_port();
    let resolve = |(index, inbound): (usize, &Inbound)| {
        let field = if inbound.interface.is_empty() { "port" } else { "interface" };
        let resolved = inbound.resolve(&networking.address)?;
        let InboundInterface { address, port, service_port, .. } = resolved;
        Some((element("networking.inbound", index), field, address, port, service_port))
    };
    let inbounds: Vec<_> = networking.inbound.iter().enumerate().filter_map(resolve).collect();
    let mut used: Vec<Socket> = Vec::new();
    // An application may listen on either loopback address, and is looked for on both.
    for (path, .., service_port) in &inbounds {
        for loopback in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let address = SocketAddr::new(loopback, *service_port);
            if !used.iter().any(|socket| socket.address == address) {
                used.push(Socket { address, bound: true, user: format!("the application of {path}") });
            }
        }
    }
    let mut add = |path: &str, field: &str, address: IpAddr, port: u16, bound: bool| {
        let socket = Socket { address: SocketAddr::new(address, port), bound, user: path.to_owned() };
        match used.iter().find(|other| other.clashes(&socket)) {
            Some(other) => {
                let message = format!("{} is already used by {}", socket.address, other.user);
                let to_itself = other.user == format!("the application of {path}");
                let why = if to_itself { ": the proxy would connect to itself without end" } else { "" };
                violations.add(format!("{path}.{field}"), message + why);
                false
            }
            None => {
                used.push(socket);
                true
            }
        }
    };
    let mut has_ipv6 = false;
    for (path, field, address, port, service_port) in inbounds {
        has_ipv6 |= address.is_ipv6();
        let bound = redirect_port.is_none() || !takes_over(address, port, service_port);
        add(&path, field, address, port, bound);
    }
    for (index, outbound) in networking.outbound.iter().enumerate() {
        if let Some(OutboundInterface { address, port, .. }) = outbound.resolve() {
            has_ipv6 |= address.is_ipv6();
            let field = if outbound.interface.is_empty() { "port" } else { "interface" };
            let bound = redirect_port.is_none() || address.is_loopback();
            add(&element("networking.outbound", index), field, address, port, bound);
        }
    }
    let redirected = [("redirectPort", redirect_port), ("redirectPortInbound", networking.redirect_port_inbound())];
    for (field, port) in redirected {
        let Some(port) = port else { continue };
        let is_free = add("networking.transparentProxying", field, Ipv4Addr::UNSPECIFIED.into(), port, true);
        if has_ipv6 && is_free {
            add("networking.transparentProxying", field, Ipv6Addr::UNSPECIFIED.into(), port, true);
        }
    }
    let own = metrics.and_then(|metrics| metrics.prometheus.as_ref()).and_then(|own| u16::try_from(own.port).ok());
    if let Some(port) = own.filter(|port| *port > 0) {
        add("metrics.prometheus", "port", Ipv4Addr::UNSPECIFIED.into(), port, true);
    }
}

#[cfg(test)]
mod tests {
    use crate::kinds::Dataplane;
    use crate::kinds::testing::{refused, stored};

    #[test]
    fn there_is_an_inbound_or_a_gateway() {
        let missing = "networking: has to contain at least one inbound interface or gateway";
        for yaml in ["", "networking: null", "networking: {}", "networking: {inbound: []}", "metrics: {}"] {
            refused::<Dataplane>(yaml, missing);
        }
        refused::<Dataplane>(
            "networking: {gateway: {}, inbound: [{interface: '1.1.1.1:1:1', tags: {service: a}}]}",
            r#"
            networking: inbound cannot be defined both with gateway
            networking.gateway.tags["service"]: tag has to exist"#,
        );
        refused::<Dataplane>("networking: []", "networking: must be an object, not a list");
        refused::<Dataplane>("networking: {inbound: {}}", "networking.inbound: must be a list, not an object");
    }

    #[test]
    fn several_problems_come_together() {
        refused::<Dataplane>(
            "
            networking:
              inbound:
              - {interface: '127.0.0.1:80', tags: {version: '', region: ''}}
              - {tags: {service: ''}}
              outbound:
              - {interface: '18080'}
              - {service: a/b, port: 65536, address: localhost}
              transparentProxying: {redirectPort: 65536}
            metrics: {prometheus: {port: 65536}}",
            "
            networking.address: address has to be valid IP address
            networking.inbound[0].interface: invalid format: expected format is \
            DATAPLANE_IP:DATAPLANE_PORT:WORKLOAD_PORT , e.g. 192.168.0.100:9090:8080 or [2001:db8::1]:7070:6060
            networking.inbound[0].tags[\"service\"]: tag has to exist
            networking.inbound[0].tags[\"region\"]: tag value cannot be empty
            networking.inbound[0].tags[\"version\"]: tag value cannot be empty
            networking.inbound[1].port: port has to be in range of [1, 65535]
            networking.inbound[1].tags[\"service\"]: tag value cannot be empty
            networking.outbound[0].interface: invalid format: expected format is DATAPLANE_IP:DATAPLANE_PORT where \
            DATAPLANE_IP is optional. E.g. 127.0.0.1:9090, :9090, [::1]:8080
            networking.outbound[0].service: cannot be empty
            networking.outbound[1].port: port has to be in range of [1, 65535]
            networking.outbound[1].address: address has to be valid IP address
            networking.outbound[1].service: service name can only consist of latin letters, digits and '.', '_', ':', \
            '-' symbols
            networking.transparentProxying.redirectPort: redirectPort has to be in range of [0, 65535]
            metrics.prometheus.port: port has to be in range of [0, 65535]",
        );
    }

    #[test]
    fn an_interface_excludes_the_fields_that_replace_it() {
        refused::<Dataplane>(
            "
            networking:
              address: 1.1.1.1
              inbound:
              - {interface: '1.1.1.1:1:1', address: 1.1.1.1, port: 1, servicePort: 1, tags: {service: a}}
              outbound:
              - {interface: ':2', address: 127.0.0.1, port: 2, servicePort: 70000, service: a}",
            "
            networking.inbound[0].interface: interface cannot be defined with port. Replace it with port, servicePort \
            and networking.address
            networking.inbound[0].interface: interface cannot be defined with servicePort. Replace it with port, \
            servicePort and networking.address
            networking.inbound[0].interface: interface cannot be defined with address. Replace it with port, \
            servicePort and networking.address
            networking.inbound[0].interface: interface cannot be defined with networking.address. Replace it with \
            port, servicePort and networking.address
            networking.outbound[0].interface: interface cannot be defined with port. Replace it with port and address
            networking.outbound[0].interface: interface cannot be defined with address. Replace it with port and address
            networking.outbound[0].servicePort: servicePort has to be in range of [0, 65535]",
        );
    }

    #[test]
    fn ports_and_addresses_are_in_range() {
        refused::<Dataplane>(
            "
            networking:
              address: 300.0.0.1
              inbound:
              - {port: 65536, servicePort: 65536, address: 127.0.0.01, tags: {service: a}}
              - {port: -1, servicePort: 1.5, tags: {service: a}}",
            "
            networking.inbound[1].port: must be a whole number from 0 to 4294967295
            networking.inbound[1].servicePort: must be a whole number from 0 to 4294967295
            networking.address: address has to be valid IP address
            networking.inbound[0].port: port has to be in range of [1, 65535]
            networking.inbound[0].servicePort: servicePort has to be in range of [0, 65535]
            networking.inbound[0].address: address has to be valid IP address",
        );
    }

    #[test]
    fn an_inbound_with_its_own_address_needs_no_other() {
        stored::<Dataplane>("networking: {inbound: [{address: '::1', port: 1, servicePort: 2, tags: {service: a}}]}");
    }

    #[test]
    fn tags_are_checked() {
        refused::<Dataplane>(
            r#"
            networking:
              inbound:
              - interface: '1.1.1.1:1:1'
                tags: {service: '*', protocol: grpc, '': x, "a\nb": "c\0"}
              - interface: '1.1.1.1:2:1'
                tags: {service: ., version: 1.0, stable: true, protocol: HTTP, zone: null}"#,
            "
            networking.inbound[1].tags[\"stable\"]: must be a string, not a boolean: put it in quotes
            networking.inbound[1].tags[\"version\"]: must be a string, not a number: put it in quotes
            networking.inbound[1].tags[\"zone\"]: must be a string, not null
            networking.inbound[0].tags: tag key cannot be empty
            networking.inbound[0].tags[\"a\\nb\"]: tag key cannot contain control characters
            networking.inbound[0].tags[\"a\\nb\"]: tag value cannot contain control characters
            networking.inbound[0].tags[\"service\"]: service name can only consist of latin letters, digits and '.', \
            '_', ':', '-' symbols
            networking.inbound[0].tags[\"protocol\"]: tag \"protocol\" has an invalid value \"grpc\". Allowed values: \
            http, tcp
            networking.inbound[1].tags[\"service\"]: service name cannot be '.' or '..'",
        );
    }

    #[test]
    fn a_listener_is_there_once() {
        refused::<Dataplane>(
            "
            networking:
              inbound:
              - {interface: '127.0.0.1:1:10', tags: {service: a}}
              - {interface: '127.0.0.1:1:11', tags: {service: b}}
              - {interface: '[::ffff:127.0.0.1]:1:11', tags: {service: b}}
              - {interface: '127.0.0.2:1:11', tags: {service: b}}
              outbound:
              - {interface: ':1', service: c}
              - {port: 2, service: c}
              - {port: 2, service: d}",
            "
            networking.inbound[1].interface: 127.0.0.1:1 is already used by networking.inbound[0]
            networking.inbound[2].interface: 127.0.0.1:1 is already used by networking.inbound[0]
            networking.outbound[0].interface: 127.0.0.1:1 is already used by networking.inbound[0]
            networking.outbound[2].port: 127.0.0.1:2 is already used by networking.outbound[1]",
        );
    }

    #[test]
    fn sockets_that_overlap_are_told_like_those_that_are_the_same() {
        refused::<Dataplane>(
            "
            networking:
              address: 10.0.0.1
              inbound:
              - {address: 0.0.0.0, port: 1, servicePort: 10, tags: {service: a}}
              - {port: 1, servicePort: 10, tags: {service: a}}
              - {port: 2, servicePort: 10, tags: {service: a}}
              - {address: '::1', port: 1, servicePort: 10, tags: {service: a}}
              outbound:
              - {interface: ':3', service: c}
              - {interface: '0.0.0.0:3', service: c}
              - {interface: '[::]:3', service: c}
              - {interface: '[::1]:3', service: c}
              - {interface: '0.0.0.0:2', service: c}
              - {interface: ':10', service: c}
              - {address: '::ffff:127.0.0.1', port: 10, service: c}
            metrics: {prometheus: {port: 3}}",
            "
            networking.inbound[1].port: 10.0.0.1:1 is already used by networking.inbound[0]
            networking.outbound[1].interface: 0.0.0.0:3 is already used by networking.outbound[0]
            networking.outbound[3].interface: [::1]:3 is already used by networking.outbound[2]
            networking.outbound[4].interface: 0.0.0.0:2 is already used by networking.inbound[2]
            networking.outbound[5].interface: 127.0.0.1:10 is already used by the application of networking.inbound[0]
            networking.outbound[6].port: 127.0.0.1:10 is already used by the application of networking.inbound[0]
            metrics.prometheus.port: 0.0.0.0:3 is already used by networking.outbound[0]",
        );
    }

    #[test]
    fn an_inbound_does_not_forward_to_a_proxy() {
        refused::<Dataplane>(
            "
            networking:
              address: 10.0.0.1
              inbound:
              - {address: 127.0.0.1, port: 80, tags: {service: a}}
              - {address: 0.0.0.0, port: 81, servicePort: 81, tags: {service: a}}
              - {address: 127.0.0.1, port: 82, servicePort: 83, tags: {service: a}}
              - {address: '::1', port: 84, tags: {service: a}}
              - {address: 127.0.0.1, port: 83, servicePort: 82, tags: {service: a}}",
            "
            networking.inbound[0].port: 127.0.0.1:80 is already used by the application of networking.inbound[0]: the \
             proxy would connect to itself without end
            networking.inbound[1].port: 0.0.0.0:81 is already used by the application of networking.inbound[1]: the \
             proxy would connect to itself without end
            networking.inbound[2].port: 127.0.0.1:82 is already used by the application of networking.inbound[4]
            networking.inbound[3].port: [::1]:84 is already used by the application of networking.inbound[3]: the \
             proxy would connect to itself without end
            networking.inbound[4].port: 127.0.0.1:83 is already used by the application of networking.inbound[2]",
        );
        // Applications on loopback behind a proxy on another address of the machine.
        stored::<Dataplane>(
            "networking: {address: 10.0.0.1, inbound: [{port: 80, tags: {service: a}}, {port: 81, servicePort: 80, \
             tags: {service: b}}]}",
        );
    }

    #[test]
    fn what_is_redirected_needs_no_socket_but_one() {
        stored::<Dataplane>(
            "
            networking:
              address: 10.0.0.1
              transparentProxying: {redirectPort: 15001}
              inbound:
              - {port: 80, tags: {service: a}}
              - {address: 0.0.0.0, port: 81, tags: {service: a}}
              outbound:
              - {interface: '10.96.0.1:80', service: c}
              - {interface: '0.0.0.0:3306', service: c}
              - {interface: '10.96.0.1:3306', service: c}
              - {interface: '10.96.0.1:15001', service: c}
              - {interface: ':3306', service: c}",
        );
        refused::<Dataplane>(
            "
            networking:
              transparentProxying: {redirectPort: 15001}
              inbound:
              - {interface: '10.0.0.1:15001:80', tags: {service: a}}
              - {interface: '[fd00::1]:80:15001', tags: {service: a}}
              outbound:
              - {interface: '10.96.0.1:80', service: c}
              - {interface: '10.96.0.1:80', service: d}",
            "
            networking.outbound[1].interface: 10.96.0.1:80 is already used by networking.outbound[0]
            networking.transparentProxying.redirectPort: 0.0.0.0:15001 is already used by the application of \
            networking.inbound[1]",
        );
        refused::<Dataplane>(
            "networking: {transparentProxying: {redirectPort: 15001}, inbound: [{interface: '10.0.0.1:15001:80', \
             tags: {service: a}}]}",
            "networking.transparentProxying.redirectPort: 0.0.0.0:15001 is already used by networking.inbound[0]",
        );
    }

    #[test]
    fn a_proxy_says_where_others_reach_it() {
        let inbound = "{address: 0.0.0.0, port: 80, servicePort: 8080, tags: {service: a}}";
        stored::<Dataplane>(&format!("networking: {{address: 10.0.0.1, inbound: [{inbound}]}}"));
        refused::<Dataplane>(
            &format!("networking: {{inbound: [{inbound}]}}"),
            "networking.inbound[0].address: 0.0.0.0 is no address at which others reach this proxy: \
             write that of its machine, an IPv4 address, into networking.address",
        );
        refused::<Dataplane>(
            "networking: {address: 10.0.0.1, inbound: [{address: '::', port: 80, servicePort: 8080, tags: {service: \
             a}}]}",
            "networking.inbound[0].address: :: is no address at which others reach this proxy: \
             write that of its machine, an IPv6 address, into networking.address",
        );
        refused::<Dataplane>(
            "networking: {address: 0.0.0.0, inbound: [{port: 80, servicePort: 8080, tags: {service: a}}]}",
            "networking.address: 0.0.0.0 is no address at which others reach this proxy: write that of its machine",
        );
        refused::<Dataplane>(
            "networking: {inbound: [{interface: '0.0.0.0:80:8080', tags: {service: a}}]}",
            "networking.inbound[0].interface: 0.0.0.0 is no address at which others reach this proxy: write that of \
             its machine. To listen on all addresses, replace interface with address, port and servicePort, and write \
             the machine's address into networking.address",
        );
    }

    #[test]
    fn addresses_are_those_of_an_interface() {
        let refusal = |address: &str| {
            let yaml = format!(
                "networking: {{inbound: [{{address: '{address}', port: 1, servicePort: 2, tags: {{service: a}}}}]}}"
            );
            crate::kinds::testing::violations_of::<Dataplane>(&yaml)
        };
        for (address, expected) in [
            ("255.255.255.255", "255.255.255.255 is the broadcast address, and nothing can listen there"),
            ("224.0.0.1", "224.0.0.1 is a multicast address, and nothing can listen there"),
            ("0.0.0.1", "0.0.0.1 is in 0.0.0.0/8, no machine's, and nothing can listen there"),
            ("ff02::1", "ff02::1 is a multicast address, and nothing can listen there"),
            ("fe80::1", "fe80::1 is link-local: it means nothing without an interface, and nothing can listen there"),
            ("::ffff:224.0.0.1", "224.0.0.1 is a multicast address, and nothing can listen there"),
        ] {
            assert_eq!(refusal(address), format!("networking.inbound[0].address: {expected}"));
        }
        for good in ["127.0.0.2", "10.0.0.255", "240.0.0.1", "169.254.0.1", "::1", "fd00::1"] {
            assert_eq!(refusal(good), "", "{good}");
        }
        refused::<Dataplane>(
            "networking: {address: 224.0.0.1, gateway: {tags: {service: a}}, outbound: [{interface: \
             '255.255.255.255:1', service: b}]}",
            "
            networking.address: 224.0.0.1 is a multicast address, and nothing can listen there
            networking.outbound[0].interface: 255.255.255.255 is the broadcast address, and nothing can listen there",
        );
    }

    #[test]
    fn mistyped_fields_are_refused_and_the_nearest_named() {
        refused::<Dataplane>(
            "
            networking:
              adress: 1.1.1.1
              inbound: [{interface: '1.1.1.1:1:1', servcePort: 5, tags: {service: a}, x.y: 1}]
              gateways: {}
            network: {}",
            r#"
            networking.inbound[0].servcePort: unknown field; did you mean "servicePort"?
            networking.inbound[0]["x.y"]: unknown field
            networking.adress: unknown field; did you mean "address"?
            networking.gateways: unknown field; did you mean "gateway"?
            network: unknown field; did you mean "networking"?"#,
        );
    }
}
