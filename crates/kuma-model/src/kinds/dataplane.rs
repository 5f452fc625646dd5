//! One proxy's place in the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;
use serde_json::Value;

use crate::decode::{self, Decode, Fields};
use crate::kinds::metrics::Metrics;
use crate::omit;
use crate::resource::{Column, Resource};
use crate::tags::Tags;
use crate::violations::Violations;

mod interfaces;
mod validation;

/// Describes what a proxy stands before and what its application dials.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct Dataplane {
    /// Where it listens. Valid documents have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networking: Option<Networking>,
    /// How it offers metrics, where that differs from the Mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
}

/// Where a proxy listens, as written. [`Dataplane::inbounds`] and [`Dataplane::outbounds`] say what it means.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Networking {
    /// Address of the inbounds that have none of their own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Where it takes connections for its application.
    pub inbound: Vec<Inbound>,
    /// Where its application dials other services.
    pub outbound: Vec<Outbound>,
    /// Set where the application takes connections itself, as an API gateway does. Replaces `inbound`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Gateway>,
    /// Set where connections reach the proxy by redirection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transparent_proxying: Option<TransparentProxying>,
}

/// Where a proxy takes connections for its application: either `interface`, or the other three.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inbound {
    /// `ADDRESS:PORT:SERVICE_PORT`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// Address on which the proxy listens; that of `networking` if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Port on which the proxy listens.
    #[serde(skip_serializing_if = "omit::is_zero")]
    pub port: u32,
    /// Port of the application; the same as `port` if 0.
    #[serde(skip_serializing_if = "omit::is_zero")]
    pub service_port: u32,
    /// What the application is; `service` is mandatory.
    pub tags: Tags,
}

/// Where the application dials a service: either `interface`, or `address` and `port`.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outbound {
    /// `ADDRESS:PORT`; without an address, 127.0.0.1.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// Address on which the proxy listens; 127.0.0.1 if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Port on which the proxy listens.
    #[serde(skip_serializing_if = "omit::is_zero")]
    pub port: u32,
    /// The service.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// Kept as written, without effect.
    #[serde(skip_serializing_if = "omit::is_zero")]
    pub service_port: u32,
}

/// What an application that takes connections itself is.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct Gateway {
    /// Its tags; `service` is mandatory.
    pub tags: Tags,
}

/// How connections reach the proxy by redirection.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransparentProxying {
    /// Port to which they are redirected.
    #[serde(skip_serializing_if = "omit::is_zero")]
    pub redirect_port: u32,
    /// Port to which those from other machines are; without it, 5 above the other one.
    #[serde(skip_serializing_if = "omit::is_zero")]
    pub redirect_port_inbound: u32,
}

/// What an [`Inbound`] means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InboundInterface<'a> {
    /// Address on which the proxy listens.
    pub address: IpAddr,
    /// Address at which its peers reach it: the same, or `networking.address` where it listens on all addresses.
    pub advertised: IpAddr,
    /// Port on which the proxy listens.
    pub port: u16,
    /// Port of the application.
    pub service_port: u16,
    /// What the application is.
    pub tags: &'a Tags,
}

/// What an [`Outbound`] means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutboundInterface<'a> {
    /// Address on which the proxy listens.
    pub address: IpAddr,
    /// Port on which the proxy listens.
    pub port: u16,
    /// The service.
    pub service: &'a str,
}

impl Dataplane {
    /// Its inbounds. An entry that does not parse, which validation refuses, is left out.
    pub fn inbounds(&self) -> Vec<InboundInterface<'_>> {
        let Some(networking) = &self.networking else {
            return Vec::new();
        };
        networking.inbound.iter().filter_map(|inbound| inbound.resolve(&networking.address)).collect()
    }

    /// Its outbounds. An entry that does not parse, which validation refuses, is left out.
    pub fn outbounds(&self) -> Vec<OutboundInterface<'_>> {
        let Some(networking) = &self.networking else {
            return Vec::new();
        };
        networking.outbound.iter().filter_map(Outbound::resolve).collect()
    }

    /// The port to which the operating system redirects its connections, if it does.
    pub fn redirect_port(&self) -> Option<u16> {
        self.networking.as_ref()?.redirect_port()
    }

    /// The port to which the operating system redirects connections from other machines, if it does.
    pub fn redirect_port_inbound(&self) -> Option<u16> {
        self.networking.as_ref()?.redirect_port_inbound()
    }

    /// The tags of each inbound, or those of the gateway. Selectors match each set by itself.
    pub fn tag_sets(&self) -> Vec<&Tags> {
        let Some(networking) = &self.networking else {
            return Vec::new();
        };
        let inbounds = networking.inbound.iter().map(|inbound| &inbound.tags);
        inbounds.chain(networking.gateway.iter().map(|gateway| &gateway.tags)).collect()
    }

    /// The services it stands for: its identities.
    pub fn services(&self) -> BTreeSet<&str> {
        self.tag_sets().into_iter().filter_map(Tags::service).collect()
    }

    /// The service it is known by where one must do: the first by name, or `unknown`.
    pub fn identifying_service(&self) -> &str {
        self.services().first().copied().unwrap_or("unknown")
    }

    /// All its tags in one line: sorted by key, the values of a key sorted and joined by commas.
    pub fn display_tags(&self) -> String {
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (key, value) in self.tag_sets().into_iter().flat_map(|tags| tags.iter()) {
            values.entry(key).or_default().insert(value);
        }
        let joined = values.into_iter().map(|(key, values)| {
            let values: Vec<&str> = values.into_iter().collect();
            format!("{key}={}", values.join(","))
        });
        joined.collect::<Vec<String>>().join(" ")
    }
}

impl Networking {
    fn redirect_port(&self) -> Option<u16> {
        real_port(self.transparent_proxying.as_ref()?.redirect_port)
    }

    fn redirect_port_inbound(&self) -> Option<u16> {
        let other = self.redirect_port()?;
        match self.transparent_proxying.as_ref()?.redirect_port_inbound {
            // 15006, beside 15001.
            0 => other.checked_add(5),
            port => real_port(port),
        }
    }
}

/// Whether the connections of an inbound can come by redirection alone: the application itself may listen on its port.
/// Where the proxy has a port of its own it opens that as well, for the machine's own connections, which nothing
/// redirects.
pub fn takes_over(address: IpAddr, port: u16, service_port: u16) -> bool {
    !address.is_loopback() && port == service_port
}

impl Inbound {
    fn resolve(&self, networking_address: &str) -> Option<InboundInterface<'_>> {
        let (address, port, service_port) = if self.interface.is_empty() {
            let address = if self.address.is_empty() { networking_address } else { &self.address };
            let port = real_port(self.port)?;
            let service_port = if self.service_port == 0 { port } else { real_port(self.service_port)? };
            (address.parse::<IpAddr>().ok()?, port, service_port)
        } else {
            interfaces::parse_inbound(&self.interface)?
        };
        // An IPv4 address written in IPv6 is the same to the operating system, but no socket takes it.
        let address = address.to_canonical();
        let machine = || networking_address.parse::<IpAddr>().ok().filter(|machine| !machine.is_unspecified());
        let advertised = if address.is_unspecified() { machine().unwrap_or(address) } else { address };
        Some(InboundInterface { address, advertised, port, service_port, tags: &self.tags })
    }
}

impl Outbound {
    fn resolve(&self) -> Option<OutboundInterface<'_>> {
        let (address, port) = if !self.interface.is_empty() {
            interfaces::parse_outbound(&self.interface)?
        } else if self.address.is_empty() {
            (Ipv4Addr::LOCALHOST.into(), real_port(self.port)?)
        } else {
            (self.address.parse().ok()?, real_port(self.port)?)
        };
        Some(OutboundInterface { address: address.to_canonical(), port, service: &self.service })
    }
}

fn real_port(port: u32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}

impl Resource for Dataplane {
    const KIND: &'static str = "Dataplane";
    const API_PATH: &'static str = "dataplanes";
    const CLI_LIST: &'static str = "dataplanes";
    const CLI_ONE: &'static str = "dataplane";
    const COLUMNS: &'static [Column<Dataplane>] = &[Column { title: "TAGS", cell: Dataplane::display_tags }];

    fn decode(fields: &mut Fields<'_>) -> Dataplane {
        Dataplane { networking: fields.opt("networking"), metrics: fields.opt("metrics") }
    }

    fn validate(&self, violations: &mut Violations) {
        let networking = self.networking.clone().unwrap_or_default();
        validation::check_networking(&networking, self.metrics.as_ref(), violations);
        if let Some(metrics) = &self.metrics {
            metrics.validate(violations);
        }
    }
}

impl Decode for Networking {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Networking> {
        decode::object(value, path, violations, |fields| Networking {
            address: fields.get("address"),
            inbound: fields.get("inbound"),
            outbound: fields.get("outbound"),
            gateway: fields.object("gateway", |gateway| Gateway { tags: gateway.get("tags") }),
            transparent_proxying: fields.object("transparentProxying", |proxying| TransparentProxying {
                redirect_port: proxying.get("redirectPort"),
                redirect_port_inbound: proxying.get("redirectPortInbound"),
            }),
        })
    }
}

impl Decode for Inbound {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Inbound> {
        decode::object(value, path, violations, |fields| Inbound {
            interface: fields.get("interface"),
            address: fields.get("address"),
            port: fields.get("port"),
            service_port: fields.get("servicePort"),
            tags: fields.get("tags"),
        })
    }
}

impl Decode for Outbound {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Outbound> {
        decode::object(value, path, violations, |fields| Outbound {
            interface: fields.get("interface"),
            address: fields.get("address"),
            port: fields.get("port"),
            service: fields.get("service"),
            service_port: fields.get("servicePort"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{read, stored};

    #[test]
    fn documents_are_stored_as_written() {
        let yaml = "
            networking:
              inbound:
              - interface: 127.0.0.1:11011:11012
                tags: {service: backend, version: '2.0', env: production}
              outbound:
              - {interface: ':33033', service: database}
              - {interface: ':44044', service: user}
            metrics: {prometheus: {port: 1234}}";
        let expected = r#"{"networking":{"inbound":[{"interface":"127.0.0.1:11011:11012","#.to_owned()
            + r#""tags":{"env":"production","service":"backend","version":"2.0"}}],"#
            + r#""outbound":[{"interface":":33033","service":"database"},{"interface":":44044","service":"user"}]},"#
            + r#""metrics":{"prometheus":{"port":1234}}}"#;
        assert_eq!(stored::<Dataplane>(yaml), expected);
    }

    #[test]
    fn a_gateway_needs_no_address_and_empty_lists_are_kept() {
        for (yaml, expected) in [
            (
                "networking: {gateway: {tags: {service: kong}}}",
                r#"{"networking":{"gateway":{"tags":{"service":"kong"}}}}"#,
            ),
            (
                "networking: {inbound: [], outbound: [], gateway: {tags: {service: kong}}, transparentProxying: {}}",
                concat!(
                    r#"{"networking":{"inbound":[],"outbound":[],"gateway":{"tags":{"service":"kong"}},"#,
                    r#""transparentProxying":{}}}"#,
                ),
            ),
            (
                "networking: {address: '::1', gateway: {tags: {service: kong}}, transparent_proxying: {redirect_port: \
                 15001}}",
                concat!(
                    r#"{"networking":{"address":"::1","gateway":{"tags":{"service":"kong"}},"#,
                    r#""transparentProxying":{"redirectPort":15001}}}"#,
                ),
            ),
        ] {
            assert_eq!(stored::<Dataplane>(yaml), expected);
        }
    }

    #[test]
    fn both_spellings_mean_the_same() {
        let strings: Dataplane = read(
            "
            networking:
              inbound:
              - {interface: '10.0.0.1:80:8080', tags: {service: web}}
              - {interface: '[2001:db8::1]:81:81', tags: {service: api}}
              outbound:
              - {interface: ':1000', service: a}
              - {interface: '10.0.0.1:1001', service: b}",
        );
        let fields: Dataplane = read(
            "
            networking:
              address: 10.0.0.1
              inbound:
              - {port: 80, servicePort: 8080, tags: {service: web}}
              - {address: '2001:db8::1', port: '81', tags: {service: api}}
              outbound:
              - {port: 1000, service: a}
              - {address: 10.0.0.1, port: 1001, service: b}",
        );
        assert_eq!(strings.inbounds(), fields.inbounds());
        assert_eq!(strings.outbounds(), fields.outbounds());
        let inbounds: Vec<String> = strings
            .inbounds()
            .iter()
            .map(|inbound| format!("{} {} {} {}", inbound.address, inbound.port, inbound.service_port, inbound.tags))
            .collect();
        assert_eq!(inbounds, ["10.0.0.1 80 8080 service=web", "2001:db8::1 81 81 service=api"]);
        let outbounds: Vec<String> = strings
            .outbounds()
            .iter()
            .map(|outbound| format!("{} {} {}", outbound.address, outbound.port, outbound.service))
            .collect();
        assert_eq!(outbounds, ["127.0.0.1 1000 a", "10.0.0.1 1001 b"]);
    }

    #[test]
    fn entries_that_do_not_parse_are_left_out() {
        let inbound = |interface: &str| Inbound { interface: interface.into(), ..Inbound::default() };
        let networking = Networking {
            inbound: vec![inbound("nonsense"), inbound("10.0.0.1:1:2"), Inbound { port: 70_000, ..Inbound::default() }],
            outbound: vec![Outbound::default()],
            ..Networking::default()
        };
        let dataplane = Dataplane { networking: Some(networking), metrics: None };
        assert_eq!(dataplane.inbounds().len(), 1);
        assert!(dataplane.outbounds().is_empty());
    }

    #[test]
    fn tags_of_all_inbounds_make_one_line() {
        let dataplane: Dataplane = read(
            "
            networking:
              inbound:
              - {interface: '10.0.0.1:1:1', tags: {version: v1, service: mobile}}
              - {interface: '10.0.0.1:2:2', tags: {version: v1, service: metrics}}",
        );
        assert_eq!(dataplane.display_tags(), "service=metrics,mobile version=v1");
        assert_eq!(dataplane.identifying_service(), "metrics");
        assert_eq!(dataplane.services(), BTreeSet::from(["metrics", "mobile"]));
        assert_eq!(dataplane.tag_sets().len(), 2);

        let gateway: Dataplane = read("networking: {gateway: {tags: {service: kong}}}");
        assert_eq!(gateway.display_tags(), "service=kong");
        assert_eq!(gateway.identifying_service(), "kong");
        assert_eq!(Dataplane::default().identifying_service(), "unknown");
    }
}
