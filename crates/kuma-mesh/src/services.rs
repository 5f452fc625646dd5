//! Services: who stands for them, who dials them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kuma_model::Tags;

use crate::{Endpoint, Endpoints, Inbound, MeshDataplane};

/// One service of the mesh.
#[derive(Clone, Debug, Default)]
pub(crate) struct Service {
    /// Its endpoints by the Dataplane and the inbound that offers each.
    members: BTreeMap<(Arc<str>, usize), Endpoint>,
    /// All of them, sorted and distinct.
    endpoints: Arc<Endpoints>,
    /// Their tag sets, sorted and distinct.
    tag_sets: Vec<Arc<Tags>>,
    /// Dataplanes with an outbound to it.
    pub(crate) consumers: BTreeSet<Arc<str>>,
    /// Dataplanes that stand for it: by an inbound or as a gateway.
    pub(crate) providers: BTreeSet<Arc<str>>,
    /// Whether a Dataplane that stands for it has ever been seen.
    pub(crate) seen: bool,
    /// Its inbounds in all Dataplanes, whether they take traffic or not.
    inbounds: usize,
    /// Those of them that speak HTTP.
    http_inbounds: usize,
    /// What it spoke when the list of endpoints was last made.
    protocol: Protocol,
}

/// What a service speaks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    /// It has no inbound that could tell.
    #[default]
    Unknown,
    /// Not every inbound says HTTP.
    Tcp,
    /// Every inbound says HTTP.
    Http,
}

/// What became of a service when Dataplanes changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refreshed {
    /// Nothing that anyone could see.
    Nothing,
    /// It has other endpoints, with the same tag sets as before.
    Endpoints,
    /// It has other tag sets, by which policies choose, speaks something else, or became known.
    Nature,
}

impl Service {
    /// Every endpoint.
    pub(crate) fn endpoints(&self) -> &Arc<Endpoints> {
        &self.endpoints
    }

    /// The endpoints that carry all the given tags; `*` asks only that the key is there.
    pub(crate) fn endpoints_with(&self, tags: &Tags) -> Arc<Endpoints> {
        let selector = kuma_model::Selector { tags: tags.clone() };
        if self.endpoints.iter().all(|endpoint| selector.matches(&endpoint.tags)) {
            return self.endpoints.clone();
        }
        let matching = self.endpoints.iter().filter(|endpoint| selector.matches(&endpoint.tags));
        Arc::new(Endpoints::new(matching.cloned().collect()))
    }

    /// The distinct tag sets of its endpoints.
    pub(crate) fn tag_sets(&self) -> &[Arc<Tags>] {
        &self.tag_sets
    }

    /// The tag set of an endpoint that equals this one.
    pub(crate) fn shared(&self, tags: &Tags) -> Option<&Arc<Tags>> {
        let at = self.tag_sets.binary_search_by(|shared| (**shared).cmp(tags)).ok()?;
        Some(&self.tag_sets[at])
    }

    /// Enters a Dataplane's inbounds of this service, of which those that take traffic are endpoints;
    /// [`Service::refresh`] makes them count.
    pub(crate) fn enter(&mut self, service: &str, dataplane: &MeshDataplane, takes_traffic: impl Fn(&Inbound) -> bool) {
        self.providers.insert(dataplane.name.clone());
        for inbound in inbounds_of(service, dataplane) {
            self.inbounds += 1;
            self.http_inbounds += usize::from(inbound.tags.speaks_http());
        }
        for (index, inbound) in dataplane.inbounds.iter().enumerate() {
            if inbound.service.as_ref() == service && takes_traffic(inbound) {
                let endpoint = Endpoint { address: inbound.advertised, port: inbound.port, tags: inbound.tags.clone() };
                self.members.insert((dataplane.name.clone(), index), endpoint);
            }
        }
    }

    /// Takes a Dataplane's inbounds of this service out, which has entered before; [`Service::refresh`] makes it count.
    pub(crate) fn leave(&mut self, service: &str, dataplane: &MeshDataplane) {
        self.providers.remove(&dataplane.name);
        for inbound in inbounds_of(service, dataplane) {
            self.inbounds -= 1;
            self.http_inbounds -= usize::from(inbound.tags.speaks_http());
        }
        for index in 0..dataplane.inbounds.len() {
            self.members.remove(&(dataplane.name.clone(), index));
        }
    }

    /// Makes the list of endpoints anew, and says what that changed.
    pub(crate) fn refresh(&mut self) -> Refreshed {
        let first_seen = !self.seen && !self.providers.is_empty();
        self.seen |= first_seen;
        let protocol = match self.http_inbounds {
            _ if self.inbounds == 0 => Protocol::Unknown,
            all if all == self.inbounds => Protocol::Http,
            _ => Protocol::Tcp,
        };
        let is_other = first_seen || protocol != self.protocol;
        self.protocol = protocol;
        let endpoints = Endpoints::new(self.members.values().cloned().collect());
        if endpoints == *self.endpoints {
            return if is_other { Refreshed::Nature } else { Refreshed::Nothing };
        }
        let mut tag_sets: Vec<Arc<Tags>> = endpoints.iter().map(|endpoint| endpoint.tags.clone()).collect();
        tag_sets.sort_unstable();
        tag_sets.dedup();
        self.endpoints = Arc::new(endpoints);
        if tag_sets == self.tag_sets && !is_other {
            return Refreshed::Endpoints;
        }
        self.tag_sets = tag_sets;
        Refreshed::Nature
    }

    /// What it speaks.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether nothing refers to it any more.
    pub(crate) fn is_unused(&self) -> bool {
        self.members.is_empty() && self.consumers.is_empty() && self.providers.is_empty()
    }
}

fn inbounds_of<'a>(service: &'a str, dataplane: &'a MeshDataplane) -> impl Iterator<Item = &'a Inbound> {
    dataplane.inbounds.iter().filter(move |inbound| inbound.service.as_ref() == service)
}
