//! A Dataplane in the form that matching and generation read: addresses parsed, tags shared.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use kuma_model::{Dataplane, Selector, Tags};
use rustc_hash::FxHashMap;

use crate::services::Service;

/// One inbound of a proxy: where it listens, where its application does, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Address on which the proxy listens.
    pub address: IpAddr,
    /// Address at which its peers reach it.
    pub advertised: IpAddr,
    /// Port on which the proxy listens.
    pub port: u16,
    /// Port of the application, on loopback.
    pub service_port: u16,
    /// Tags, `service` among them.
    pub tags: Arc<Tags>,
    /// The value of the `service` tag.
    pub service: Arc<str>,
}

/// One outbound of a proxy: where its application dials, and which service that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Address on which the proxy listens.
    pub address: IpAddr,
    /// Port on which the proxy listens.
    pub port: u16,
    /// The service that is dialled.
    pub service: Arc<str>,
}

/// A Dataplane of the mesh, read once.
#[derive(Clone, Debug)]
pub struct MeshDataplane {
    /// Name of the Dataplane.
    pub name: Arc<str>,
    /// The document without its outbounds, which are most of it and are below.
    pub spec: Dataplane,
    /// Its inbounds, in the order of the document. Empty in gateway mode.
    pub inbounds: Box<[Inbound]>,
    /// Its outbounds, in the order of the document.
    pub outbounds: Box<[Outbound]>,
    /// Tags of each inbound, or those of the gateway: policies match each set by itself, never a mix of two.
    pub tag_sets: Box<[Arc<Tags>]>,
    /// Every service that it stands for: its identities.
    pub services: BTreeSet<Arc<str>>,
}

impl MeshDataplane {
    /// Reads a Dataplane. What does not parse is left out: validation refused it when it was written.
    pub fn new(name: Arc<str>, mut spec: Dataplane) -> MeshDataplane {
        let tag_sets: Box<[Arc<Tags>]> = spec.tag_sets().into_iter().map(|tags| Arc::new(tags.clone())).collect();
        let shared = |tags: &Tags| match tag_sets.iter().find(|shared| ***shared == *tags) {
            Some(shared) => shared.clone(),
            None => Arc::new(tags.clone()),
        };
        let inbounds = spec
            .inbounds()
            .into_iter()
            .map(|inbound| Inbound {
                address: inbound.address,
                advertised: inbound.advertised,
                port: inbound.port,
                service_port: inbound.service_port,
                tags: shared(inbound.tags),
                service: service_of(inbound.tags),
            })
            .collect();
        let outbounds = spec
            .outbounds()
            .into_iter()
            .map(|outbound| Outbound {
                address: outbound.address,
                port: outbound.port,
                service: Arc::from(outbound.service),
            })
            .collect();
        let services = spec.services().into_iter().map(Arc::from).collect();
        if let Some(networking) = &mut spec.networking {
            networking.outbound = Vec::new();
        }
        MeshDataplane { name, spec, inbounds, outbounds, tag_sets, services }
    }

    /// Takes names and tags that the mesh has already from there, so that a thousand Dataplanes that dial a service, or
    /// are one, hold them once.
    pub(crate) fn share(&mut self, services: &FxHashMap<Arc<str>, Service>) {
        for outbound in &mut self.outbounds {
            if let Some((name, _)) = services.get_key_value(&outbound.service) {
                outbound.service = name.clone();
            }
        }
        for tags in self.tag_sets.iter_mut().chain(self.inbounds.iter_mut().map(|inbound| &mut inbound.tags)) {
            if let Some(shared) = tags.service().and_then(|service| services.get(service)?.shared(tags)) {
                *tags = shared.clone();
            }
        }
    }

    /// Whether one of its tag sets satisfies the selector entirely.
    pub fn matches(&self, selector: &Selector) -> bool {
        self.tag_sets.iter().any(|tags| selector.matches(tags))
    }

    /// The services its application dials, each once.
    pub fn consumed_services(&self) -> BTreeSet<&Arc<str>> {
        self.outbounds.iter().map(|outbound| &outbound.service).collect()
    }
}

fn service_of(tags: &Tags) -> Arc<str> {
    Arc::from(tags.get(kuma_model::SERVICE_TAG).map_or("", String::as_str))
}
