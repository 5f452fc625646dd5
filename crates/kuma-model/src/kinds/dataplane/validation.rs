//! The rules for Dataplanes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::{Inbound, Networking, Outbound, interfaces};
use crate::decode::{element, entry};
use crate::tags::{HTTP, PROTOCOL_TAG, SERVICE_TAG, TCP, Tags, check_key, check_service, check_value};
use crate::violations::Violations;

const INVALID_ADDRESS: &str = "address has to be valid IP address";

pub(super) fn check_networking(networking: &Networking, violations: &mut Violations) {
    match (&networking.gateway, networking.inbound.is_empty()) {
        (None, true) => violations.add("networking", "has to contain at least one inbound interface or gateway"),
        (Some(_), false) => violations.add("networking", "inbound cannot be defined both with gateway"),
        _ => {}
    }
    let needs_address = |inbound: &Inbound| inbound.interface.is_empty() && inbound.address.is_empty();
    if (!networking.address.is_empty() || networking.inbound.iter().any(needs_address))
        && networking.address.parse::<IpAddr>().is_err()
    {
        violations.add("networking.address", INVALID_ADDRESS);
    }
    if let Some(gateway) = &networking.gateway {
        check_tags("networking.gateway.tags", &gateway.tags, violations);
    }
    let mut listeners = Listeners::default();
    for (index, inbound) in networking.inbound.iter().enumerate() {
        let path = element("networking.inbound", index);
        check_inbound(&path, inbound, &networking.address, violations);
        if let Some(meaning) = inbound.resolve(&networking.address) {
            listeners.add(meaning.address, meaning.port, &path, &inbound.interface, violations);
        }
    }
    for (index, outbound) in networking.outbound.iter().enumerate() {
        let path = element("networking.outbound", index);
        check_outbound(&path, outbound, violations);
        if let Some(meaning) = outbound.resolve() {
            listeners.add(meaning.address, meaning.port, &path, &outbound.interface, violations);
        }
    }
    if let Some(proxying) = &networking.transparent_proxying
        && proxying.redirect_port > u32::from(u16::MAX)
    {
        violations.add("networking.transparentProxying.redirectPort", "redirectPort has to be in range of [0, 65535]");
    }
}

fn check_inbound(path: &str, inbound: &Inbound, networking_address: &str, violations: &mut Violations) {
    if inbound.interface.is_empty() {
        check_port(path, inbound.port, violations);
        check_service_port(path, inbound.service_port, violations);
        check_address(path, &inbound.address, violations);
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
        if interfaces::parse_inbound(&inbound.interface).is_none() {
            violations.add(
                format!("{path}.interface"),
                "invalid format: expected format is DATAPLANE_IP:DATAPLANE_PORT:WORKLOAD_PORT , \
                 e.g. 192.168.0.100:9090:8080 or [2001:db8::1]:7070:6060",
            );
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
        if interfaces::parse_outbound(&outbound.interface).is_none() {
            violations.add(
                format!("{path}.interface"),
                "invalid format: expected format is DATAPLANE_IP:DATAPLANE_PORT where DATAPLANE_IP is optional. \
                 E.g. 127.0.0.1:9090, :9090, [::1]:8080",
            );
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
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        violations.add(format!("{path}.address"), INVALID_ADDRESS);
    }
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

/// The listeners that a proxy will have. Envoy refuses a second one on an address and port.
#[derive(Default)]
struct Listeners {
    taken: BTreeMap<SocketAddr, String>,
}

impl Listeners {
    fn add(&mut self, address: IpAddr, port: u16, path: &str, interface: &str, violations: &mut Violations) {
        // An IPv4 address written in IPv6 is the same to the operating system.
        let socket = SocketAddr::new(address.to_canonical(), port);
        if let Some(first) = self.taken.get(&socket) {
            let field = if interface.is_empty() { "port" } else { "interface" };
            violations.add(format!("{path}.{field}"), format!("{socket} is already used by {first}"));
        } else {
            self.taken.insert(socket, path.to_owned());
        }
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
            r#"
            networking.address: address has to be valid IP address
            networking.inbound[0].interface: invalid format: expected format is DATAPLANE_IP:DATAPLANE_PORT:WORKLOAD_PORT , e.g. 192.168.0.100:9090:8080 or [2001:db8::1]:7070:6060
            networking.inbound[0].tags["service"]: tag has to exist
            networking.inbound[0].tags["region"]: tag value cannot be empty
            networking.inbound[0].tags["version"]: tag value cannot be empty
            networking.inbound[1].port: port has to be in range of [1, 65535]
            networking.inbound[1].tags["service"]: tag value cannot be empty
            networking.outbound[0].interface: invalid format: expected format is DATAPLANE_IP:DATAPLANE_PORT where DATAPLANE_IP is optional. E.g. 127.0.0.1:9090, :9090, [::1]:8080
            networking.outbound[0].service: cannot be empty
            networking.outbound[1].port: port has to be in range of [1, 65535]
            networking.outbound[1].address: address has to be valid IP address
            networking.outbound[1].service: service name can only consist of latin letters, digits and '.', '_', ':', '-' symbols
            networking.transparentProxying.redirectPort: redirectPort has to be in range of [0, 65535]
            metrics.prometheus.port: port has to be in range of [0, 65535]"#,
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
            networking.inbound[0].interface: interface cannot be defined with port. Replace it with port, servicePort and networking.address
            networking.inbound[0].interface: interface cannot be defined with servicePort. Replace it with port, servicePort and networking.address
            networking.inbound[0].interface: interface cannot be defined with address. Replace it with port, servicePort and networking.address
            networking.inbound[0].interface: interface cannot be defined with networking.address. Replace it with port, servicePort and networking.address
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
        stored::<Dataplane>("networking: {inbound: [{address: '::1', port: 1, tags: {service: a}}]}");
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
            r#"
            networking.inbound[1].tags["stable"]: must be a string, not a boolean: put it in quotes
            networking.inbound[1].tags["version"]: must be a string, not a number: put it in quotes
            networking.inbound[1].tags["zone"]: must be a string, not null
            networking.inbound[0].tags: tag key cannot be empty
            networking.inbound[0].tags["a\nb"]: tag key cannot contain control characters
            networking.inbound[0].tags["a\nb"]: tag value cannot contain control characters
            networking.inbound[0].tags["service"]: service name can only consist of latin letters, digits and '.', '_', ':', '-' symbols
            networking.inbound[0].tags["protocol"]: tag "protocol" has an invalid value "grpc". Allowed values: http, tcp
            networking.inbound[1].tags["service"]: service name cannot be '.' or '..'"#,
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
