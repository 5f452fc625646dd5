//! One simulated Envoy's side of the protocol, without I/O: responses in, requests out.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::names::{Id, Names};
use crate::node::Node;
use crate::references::{ReferenceCache, References};
use crate::types::{ApiVersion, Type};
use crate::wire::{Fields, Malformed, Value, bytes_field, put_bytes, text_field};

/// Bytes in front of a gRPC message.
pub(crate) const PREFIX: usize = 5;

/// The two variants of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Variant {
    Delta,
    Sotw,
}

impl Variant {
    pub(crate) const fn path(self, api: ApiVersion) -> &'static str {
        match (api, self) {
            (ApiVersion::V2, Variant::Delta) => {
                "/envoy.service.discovery.v2.AggregatedDiscoveryService/DeltaAggregatedResources"
            }
            (ApiVersion::V2, Variant::Sotw) => {
                "/envoy.service.discovery.v2.AggregatedDiscoveryService/StreamAggregatedResources"
            }
            (ApiVersion::V3, Variant::Delta) => {
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
            }
            (ApiVersion::V3, Variant::Sotw) => {
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
            }
        }
    }
}

/// What sessions share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) names: Names,
    pub(crate) references: ReferenceCache,
}

/// What a response brought.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) resources: u64,
    /// Of these, how many the client held already, byte for byte.
    pub(crate) resent: u64,
    pub(crate) resent_bytes: u64,
    pub(crate) removed: u64,
    pub(crate) names: Vec<Id>,
}

/// In what form a client holds a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Form {
    /// What the control plane calls it. Some number their versions anew with everything they do, some leave them out,
    /// and SotW has none: whether two are the same is up to the content, as it is for Envoy.
    pub(crate) version: Id,
    /// The hash of its bytes.
    pub(crate) content: u64,
}

struct Held {
    form: Form,
    references: References,
}

#[derive(Default)]
struct TypeState {
    /// Asked for on this stream.
    asked: bool,
    /// Answered on this stream, or held from an earlier one.
    answered: bool,
    /// Names that are asked for; of a wildcard type none.
    names: BTreeSet<Id>,
    /// Of these, what has not come (again) yet.
    awaited: BTreeSet<Id>,
    held: FxHashMap<Id, Held>,
    nonce: String,
    version: String,
}

/// The state of one client. It survives its streams, as Envoy's does.
pub(crate) struct Session {
    variant: Variant,
    api: ApiVersion,
    node: Node,
    shared: Arc<Shared>,
    types: [TypeState; Type::ALL.len()],
    sent_node: bool,
}

impl Session {
    pub(crate) fn new(variant: Variant, api: ApiVersion, node: Node, shared: Arc<Shared>) -> Session {
        Session { variant, api, node, shared, types: Default::default(), sent_node: false }
    }

    /// Begins a stream: its first requests, framed for gRPC.
    pub(crate) fn start(&mut self, requests: &mut Vec<Vec<u8>>) {
        self.sent_node = false;
        let returns = self.types[Type::Cluster as usize].answered;
        for resource_type in Type::ALL {
            let state = &mut self.types[resource_type as usize];
            state.nonce.clear();
            state.asked = false;
            if resource_type == Type::Cluster || (returns && (resource_type.is_wildcard() || !state.names.is_empty())) {
                let names: Vec<Id> = state.names.iter().copied().collect();
                requests.push(self.subscribe(resource_type, &names, &[]));
            }
        }
    }

    /// Takes a response, without its gRPC prefix. The last request is the ACK.
    pub(crate) fn on_response(&mut self, message: &[u8], requests: &mut Vec<Vec<u8>>) -> Result<Received, Malformed> {
        // The same numbers in both variants.
        let (type_url, nonce) = (text_field(message, 4), text_field(message, 5));
        let Some(resource_type) = Type::from_url(type_url, self.api) else { return Ok(Received::default()) };
        let mut changed_references = false;
        let mut received = Received::default();
        let mut present = BTreeSet::new();
        for field in Fields(message) {
            match (self.variant, field?) {
                (Variant::Delta, (2, Value::Bytes(resource))) => {
                    let name = self.shared.names.id(text_field(resource, 3));
                    let version = self.shared.names.id(text_field(resource, 1));
                    let value = bytes_field(bytes_field(resource, 2), 2);
                    changed_references |= self.hold(resource_type, name, version, value, resource.len(), &mut received);
                }
                (Variant::Sotw, (2, Value::Bytes(any))) => {
                    let value = bytes_field(any, 2);
                    let name = self.shared.names.id(text_field(value, 1));
                    let version = self.shared.names.id("");
                    present.insert(name);
                    changed_references |= self.hold(resource_type, name, version, value, any.len(), &mut received);
                }
                (Variant::Delta, (6, Value::Bytes(name))) => {
                    let name = self.shared.names.id(std::str::from_utf8(name).map_err(|_| Malformed)?);
                    received.removed += 1;
                    let state = &mut self.types[resource_type as usize];
                    state.awaited.remove(&name);
                    changed_references |= state.held.remove(&name).is_some_and(|held| !held.references.is_empty());
                }
                _ => {}
            }
        }
        let state = &mut self.types[resource_type as usize];
        if self.variant == Variant::Sotw && resource_type.is_wildcard() {
            let before = state.held.len();
            state.held.retain(|name, _| present.contains(name));
            received.removed += (before - state.held.len()) as u64;
            changed_references |= before != state.held.len();
        }
        state.answered = true;
        state.nonce.clear();
        state.nonce.push_str(nonce);
        if self.variant == Variant::Sotw {
            state.version = text_field(message, 1).to_owned();
        }
        if changed_references {
            self.follow_references(requests);
        }
        let clusters_ready =
            self.types[Type::Cluster as usize].answered && self.types.iter().all(|state| state.awaited.is_empty());
        if clusters_ready && !self.types[Type::Listener as usize].asked {
            requests.push(self.subscribe(Type::Listener, &[], &[]));
        }
        requests.push(self.ack(resource_type));
        Ok(received)
    }

    /// Whether everything that the client asks for has come.
    pub(crate) fn is_complete(&self) -> bool {
        let answered = |resource_type: Type| self.types[resource_type as usize].answered;
        answered(Type::Cluster) && answered(Type::Listener) && self.types.iter().all(|state| state.awaited.is_empty())
    }

    /// What was asked for and has not come, for a report.
    pub(crate) fn missing(&self) -> Vec<String> {
        let of = |resource_type: Type| {
            let state = &self.types[resource_type as usize];
            let nothing = state.asked && resource_type.is_wildcard() && !state.answered;
            let nothing = nothing.then(|| format!("any {resource_type:?}"));
            let names = state.awaited.iter();
            nothing
                .into_iter()
                .chain(names.map(move |&name| format!("{resource_type:?} {}", self.shared.names.text(name))))
        };
        Type::ALL.into_iter().flat_map(of).collect()
    }

    /// Everything that the client holds, and in what form.
    pub(crate) fn resources(&self) -> FxHashMap<(Type, Id), Form> {
        let of = |resource_type: Type| {
            let held = &self.types[resource_type as usize].held;
            held.iter().map(move |(&name, held)| ((resource_type, name), held.form))
        };
        Type::ALL.into_iter().flat_map(of).collect()
    }

    /// Whether what it refers to changed.
    fn hold(
        &mut self,
        resource_type: Type,
        name: Id,
        version: Id,
        value: &[u8],
        size: usize,
        received: &mut Received,
    ) -> bool {
        received.resources += 1;
        received.names.push(name);
        let state = &mut self.types[resource_type as usize];
        state.awaited.remove(&name);
        let content = xxh3_64(value);
        if let Some(before) = state.held.get_mut(&name).filter(|before| before.form.content == content) {
            before.form.version = version;
            received.resent += 1;
            received.resent_bytes += size as u64;
            return false;
        }
        let before = state.held.get(&name);
        let changes = before.is_some();
        let references = self.shared.references.of(resource_type, value, content, &self.shared.names);
        let changed = before.map_or(!references.is_empty(), |before| *before.references != *references);
        if changes && resource_type == Type::Cluster {
            // Envoy warms a changed cluster and waits for its endpoints to come again.
            for &(wanted, name) in references.iter().filter(|(wanted, _)| *wanted == Type::Endpoint) {
                self.types[wanted as usize].awaited.insert(name);
            }
        }
        self.types[resource_type as usize].held.insert(name, Held { form: Form { version, content }, references });
        changed
    }

    /// Asks for what is referred to now and was not, and lets go of what is not any more.
    fn follow_references(&mut self, requests: &mut Vec<Vec<u8>>) {
        let mut wanted: [BTreeSet<Id>; Type::ALL.len()] = Default::default();
        for held in self.types.iter().flat_map(|state| state.held.values()) {
            for &(resource_type, name) in held.references.iter() {
                wanted[resource_type as usize].insert(name);
            }
        }
        for (resource_type, wanted) in Type::ALL.into_iter().zip(wanted) {
            let state = &mut self.types[resource_type as usize];
            if resource_type.is_wildcard() || state.names == wanted {
                continue;
            }
            let more: Vec<Id> = wanted.difference(&state.names).copied().collect();
            let less: Vec<Id> = state.names.difference(&wanted).copied().collect();
            state.awaited.extend(&more);
            for name in &less {
                state.awaited.remove(name);
                state.held.remove(name);
            }
            state.names = wanted;
            requests.push(self.subscribe(resource_type, &more, &less));
        }
    }

    fn subscribe(&mut self, resource_type: Type, more: &[Id], less: &[Id]) -> Vec<u8> {
        let mut request = self.request();
        let state = &mut self.types[resource_type as usize];
        let names = &self.shared.names;
        match self.variant {
            Variant::Delta => {
                put_bytes(&mut request, 2, resource_type.url(self.api).as_bytes());
                for &name in more {
                    put_bytes(&mut request, 3, names.text(name).as_bytes());
                }
                for &name in less {
                    put_bytes(&mut request, 4, names.text(name).as_bytes());
                }
                if !state.asked {
                    for (&name, held) in &state.held {
                        let mut entry = Vec::new();
                        put_bytes(&mut entry, 1, names.text(name).as_bytes());
                        put_bytes(&mut entry, 2, names.text(held.form.version).as_bytes());
                        put_bytes(&mut request, 5, &entry);
                    }
                }
            }
            Variant::Sotw => sotw_request(&mut request, resource_type.url(self.api), state, names),
        }
        state.asked = true;
        framed(request)
    }

    fn ack(&mut self, resource_type: Type) -> Vec<u8> {
        let mut request = self.request();
        let state = &self.types[resource_type as usize];
        match self.variant {
            Variant::Delta => {
                put_bytes(&mut request, 2, resource_type.url(self.api).as_bytes());
                put_bytes(&mut request, 6, state.nonce.as_bytes());
            }
            Variant::Sotw => sotw_request(&mut request, resource_type.url(self.api), state, &self.shared.names),
        }
        framed(request)
    }

    /// Room for the prefix, and the node if it is the first of its stream.
    fn request(&mut self) -> Vec<u8> {
        let mut request = vec![0; PREFIX];
        if !std::mem::replace(&mut self.sent_node, true) {
            let number = match self.variant {
                Variant::Delta => 1,
                Variant::Sotw => 2,
            };
            put_bytes(&mut request, number, &self.node.encoded());
        }
        request
    }
}

fn sotw_request(request: &mut Vec<u8>, type_url: &str, state: &TypeState, names: &Names) {
    if !state.version.is_empty() {
        put_bytes(request, 1, state.version.as_bytes());
    }
    for &name in &state.names {
        put_bytes(request, 3, names.text(name).as_bytes());
    }
    put_bytes(request, 4, type_url.as_bytes());
    if !state.nonce.is_empty() {
        put_bytes(request, 5, state.nonce.as_bytes());
    }
}

fn framed(mut message: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(message.len() - PREFIX).unwrap_or(u32::MAX);
    message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(resource_type: Type, nonce: &str, resources: &[(&str, &str, &[u8])]) -> Vec<u8> {
        let mut message = Vec::new();
        for (name, version, value) in resources {
            let mut any = Vec::new();
            put_bytes(&mut any, 1, resource_type.url(ApiVersion::V3).as_bytes());
            put_bytes(&mut any, 2, value);
            let mut resource = Vec::new();
            put_bytes(&mut resource, 3, name.as_bytes());
            put_bytes(&mut resource, 1, version.as_bytes());
            put_bytes(&mut resource, 2, &any);
            put_bytes(&mut message, 2, &resource);
        }
        put_bytes(&mut message, 4, resource_type.url(ApiVersion::V3).as_bytes());
        put_bytes(&mut message, 5, nonce.as_bytes());
        message
    }

    fn node() -> Node {
        crate::node::Pattern::new("default.dp-{i}", 0).node(0).expect("a node")
    }

    fn eds_cluster(name: &str) -> Vec<u8> {
        let mut cluster = Vec::new();
        put_bytes(&mut cluster, 1, name.as_bytes());
        // EDS, over ADS.
        cluster.extend_from_slice(&[0x10, 3, 0x1a, 4, 0x0a, 2, 0x1a, 0]);
        cluster
    }

    #[test]
    fn asks_for_clusters_then_endpoints_then_listeners() {
        let mut session = Session::new(Variant::Delta, ApiVersion::V3, node(), Arc::default());
        let mut requests = Vec::new();
        session.start(&mut requests);
        let asked = |requests: &mut Vec<Vec<u8>>| -> Vec<(String, String, String)> {
            let field = |request: &[u8], number| text_field(&request[PREFIX..], number).to_owned();
            requests
                .drain(..)
                .map(|request| {
                    let url = field(&request, 2);
                    (url.rsplit('.').next().unwrap_or_default().to_owned(), field(&request, 3), field(&request, 6))
                })
                .collect()
        };
        let triple = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(asked(&mut requests), [triple("Cluster", "", "")]);

        let clusters = response(Type::Cluster, "1", &[("web", "v1", &eds_cluster("web"))]);
        session.on_response(&clusters, &mut requests).expect("a response");
        assert_eq!(asked(&mut requests), [triple("ClusterLoadAssignment", "web", ""), triple("Cluster", "", "1")]);
        assert_eq!(session.missing(), ["Endpoint web"]);

        let endpoints = response(Type::Endpoint, "2", &[("web", "v1", b"")]);
        session.on_response(&endpoints, &mut requests).expect("a response");
        assert_eq!(asked(&mut requests), [triple("Listener", "", ""), triple("ClusterLoadAssignment", "", "2")]);
        assert!(!session.is_complete());

        session.on_response(&response(Type::Listener, "3", &[]), &mut requests).expect("a response");
        assert!(session.is_complete());
        requests.clear();

        let again = session.on_response(&clusters, &mut requests).expect("a response");
        assert_eq!((again.resources, again.resent), (1, 1));
        let renamed = response(Type::Cluster, "4", &[("web", "v1.1", &eds_cluster("web"))]);
        session.on_response(&renamed, &mut requests).expect("a response");
        assert!(session.is_complete(), "the same bytes in another version are no change");
        let changed = response(Type::Cluster, "5", &[("web", "v2", &[eds_cluster("web"), vec![0x20, 5]].concat())]);
        session.on_response(&changed, &mut requests).expect("a response");
        assert!(!session.is_complete(), "a changed cluster waits for its endpoints");
        requests.clear();

        session.on_response(&endpoints, &mut requests).expect("a response");
        assert!(session.is_complete());
        requests.clear();
        session.start(&mut requests);
        let first = &requests[0][PREFIX..];
        assert_eq!(text_field(bytes_field(first, 1), 1), "default.dp-0");
        assert_eq!(text_field(bytes_field(first, 5), 2), "v2", "tells what it holds");
        assert_eq!(requests.len(), 3);
    }
}
