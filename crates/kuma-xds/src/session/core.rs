//! The part that both variants share: the node, the order of sending, and responses in flight.

use std::sync::Arc;

use envoy_api::ResourceType;

use super::event::{named, tidy};
use super::limits::{MAX_NAME_LENGTH, MAX_SUBSCRIPTIONS};
use super::state::TypeState;
use super::view::{Due, add_names};
use super::{Event, Refusal, StreamState, Unanswered, Variant, delta, sotw};
use crate::grpc::{Code, Status};
use crate::snapshot::find;
use crate::wire::{ErrorDetail, Node};
use crate::{Resource, Response, Snapshot};

/// Types whose resources refer to clusters.
const REFERRING: [ResourceType; 3] = [ResourceType::Listener, ResourceType::ExtensionConfig, ResourceType::Route];

/// Types whose resources may refer to secrets and extension configs.
const REFERS_TO_UNANSWERED: [ResourceType; 3] =
    [ResourceType::Cluster, ResourceType::Listener, ResourceType::ExtensionConfig];

/// Types whose resources are removed last, because others refer to them.
pub(super) const REFERRED: [ResourceType; 2] = [ResourceType::Cluster, ResourceType::Endpoint];

#[derive(Debug)]
pub(super) struct Core {
    pub(super) variant: Variant,
    only: Option<ResourceType>,
    node_id: Option<Box<str>>,
    state: StreamState,
    pub(super) types: [TypeState; ResourceType::COUNT],
    last_nonce: u64,
    /// Whether the client has clusters from an earlier stream, and so listeners that use them.
    pub(super) is_resumed: bool,
    /// The resources that the client has refused, without having accepted a later version.
    refused: Vec<Refusal>,
    /// The resources that the client has requested and that do not exist.
    unanswered: Vec<Unanswered>,
    /// The revision and generation of the last `Settled` event, unless something has changed since.
    settled: Option<(u64, u64)>,
}

impl Core {
    pub(super) fn new(variant: Variant, only: Option<ResourceType>) -> Core {
        Core {
            variant,
            only,
            node_id: None,
            state: StreamState::Hold,
            types: Default::default(),
            last_nonce: 0,
            is_resumed: false,
            refused: Vec::new(),
            unanswered: Vec::new(),
            settled: None,
        }
    }

    /// C1.
    pub(super) fn check_node(&mut self, node: Option<&Node>) -> Result<(), Status> {
        let refuse = |message: &str| Err(Status::new(Code::InvalidArgument, message));
        let id = node.map(|node| node.id.as_str()).filter(|id| !id.is_empty());
        match (&self.node_id, id) {
            (None, None) => refuse("the first request must name its node"),
            (None, Some(id)) => {
                self.node_id = Some(id.into());
                Ok(())
            }
            (Some(known), Some(id)) if **known != *id => refuse("the node must not change within a stream"),
            (Some(_), _) => Ok(()),
        }
    }

    /// The type of a request; `None` if it is not supported (C13).
    pub(super) fn resource_type(&self, type_url: &str) -> Result<Option<ResourceType>, Status> {
        let refuse = |message: &str| Err(Status::new(Code::InvalidArgument, message));
        match (self.only, ResourceType::from_type_url(type_url)) {
            (None, _) if type_url.is_empty() => refuse("an aggregated stream needs a type URL in each request"),
            (None, resource_type) => Ok(resource_type),
            (Some(only), _) if type_url.is_empty() => Ok(Some(only)),
            (Some(only), Some(asked)) if only == asked => Ok(Some(only)),
            (Some(_), _) => refuse("this stream carries another type"),
        }
    }

    /// Refuses names that no resource can have, and more names than a stream may subscribe to. Called before the names
    /// are stored.
    pub(super) fn check_names<'a>(
        &self,
        names: impl ExactSizeIterator<Item = &'a String>,
        replaced: usize,
    ) -> Result<(), Status> {
        let subscribed: usize = self.types.iter().map(|state| state.names.len()).sum();
        if subscribed - replaced + names.len() > MAX_SUBSCRIPTIONS {
            return Err(Status::new(
                Code::ResourceExhausted,
                format!("a stream may subscribe to at most {MAX_SUBSCRIPTIONS} resources"),
            ));
        }
        check_lengths(names, MAX_NAME_LENGTH, "name")
    }

    /// A name as shared memory: that of the resource's own name, if there is such a resource.
    pub(super) fn intern(&self, resource_type: ResourceType, name: &str) -> Arc<str> {
        let known = match &self.state {
            StreamState::Serve(snapshot) => snapshot.get(resource_type, name),
            StreamState::Hold | StreamState::Close(_) => None,
        };
        known.map_or_else(|| Arc::from(name), |resource| resource.name().clone())
    }

    pub(super) fn on_state(&mut self, state: StreamState) {
        if let StreamState::Serve(next) = &state {
            for resource_type in ResourceType::ALL {
                let known = &mut self.types[resource_type as usize];
                let list = next.list(resource_type);
                match &self.state {
                    StreamState::Serve(last) => known.dirty |= !Arc::ptr_eq(last.list(resource_type), list),
                    StreamState::Hold | StreamState::Close(_) => {
                        known.dirty = true;
                        for name in &mut known.names {
                            if let Some(resource) = find(list, name) {
                                *name = resource.name().clone();
                            }
                        }
                    }
                }
            }
        }
        self.state = state;
    }

    /// Removes refusals and unanswered names of resources to which the client is not subscribed any more.
    fn forget_unsubscribed(&mut self) {
        if self.refused.is_empty() && self.unanswered.is_empty() {
            return;
        }
        let StreamState::Serve(snapshot) = &self.state else { return };
        let wants = |resource_type: ResourceType, name: &str| self.types[resource_type as usize].is_subscribed(name);
        let before = self.refused.len() + self.unanswered.len();
        self.refused.retain(|one| wants(one.resource_type, &one.name));
        // A resource without a body is one that the client already has, so it is not unanswered.
        let is_open =
            |one: &Unanswered| snapshot.get(one.resource_type, &one.name).is_none_or(|resource| resource.has_body());
        self.unanswered.retain(|one| wants(one.resource_type, &one.name) && is_open(one));
        if before != self.refused.len() + self.unanswered.len() {
            self.settled = None;
        }
    }

    /// Removes refusals of resources that are removed from the client.
    pub(super) fn forget_refusals(&mut self, resource_type: ResourceType, is_gone: impl Fn(&str) -> bool) {
        self.refused.retain(|one| one.resource_type != resource_type || !is_gone(&one.name));
    }

    /// The revision of the current snapshot.
    fn revision(&self) -> u64 {
        match &self.state {
            StreamState::Serve(snapshot) => snapshot.revision(),
            StreamState::Hold | StreamState::Close(_) => 0,
        }
    }

    /// Handles an ACK or NACK (C5), if it belongs to a response in flight.
    pub(super) fn on_answer(
        &mut self,
        resource_type: ResourceType,
        nonce: &str,
        error: Option<ErrorDetail>,
        events: &mut Vec<Event>,
    ) {
        let Ok(nonce) = nonce.parse() else {
            return;
        };
        let parts = self.types[resource_type as usize].answer(nonce);
        let Some(revision) = parts.iter().map(|part| part.revision).max() else {
            return;
        };
        self.settled = None;
        let is_answered =
            |one: &mut Refusal| one.resource_type == resource_type && parts.iter().any(|part| part.has(&one.name));
        let before: Vec<Refusal> = self.refused.extract_if(.., is_answered).collect();
        let Some(error) = error else {
            events.push(Event::Acked { resource_type });
            return;
        };
        let sent = || parts.iter().flat_map(|part| &part.resources).map(|resource| resource.name());
        let mut names = named(&error.message, sent());
        if names.is_empty() {
            names = sent().cloned().collect();
        }
        let message: Arc<str> = tidy(&error.message).into();
        let refusal = |name: &Arc<str>| {
            let (name, message) = (name.clone(), message.clone());
            match before.iter().find(|one| one.name == name) {
                // It was sent once more and refused again: the refusal keeps its revision.
                Some(before) if parts.iter().any(|part| part.repeats(&name)) => Refusal { message, ..before.clone() },
                // If it replaced a refused version, what counts is whether the client had a version before that.
                Some(Refusal { has_older, .. }) => {
                    Refusal { resource_type, name, revision, message, has_older: *has_older }
                }
                None => {
                    let has_older = parts.iter().any(|part| part.replaces(&name));
                    Refusal { resource_type, name, revision, message, has_older }
                }
            }
        };
        self.refused.extend(names.iter().map(refusal));
        events.push(Event::Nacked { resource_type, names, message });
    }

    /// Whether the client has refused something.
    pub(super) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Sends refused resources once more: the reason for the refusal may be gone, such as another process on a port.
    pub(super) fn retry(&mut self) {
        // Envoy 1.40 accepts an extension config that it has refused, without trying it, if the same bytes come again.
        let is_looked_at = |one: &&Refusal| one.resource_type != ResourceType::ExtensionConfig;
        for Refusal { resource_type, name, .. } in self.refused.iter().filter(is_looked_at) {
            let state = &mut self.types[*resource_type as usize];
            add_names(&mut state.pending, [name.clone()]);
            state.dirty = true;
        }
    }

    /// Records names that the client requests and that do not exist.
    pub(super) fn leave_unanswered(
        &mut self,
        resource_type: ResourceType,
        names: Vec<Arc<str>>,
        events: &mut Vec<Event>,
    ) {
        let revision = self.revision();
        for name in &names {
            self.unanswered.retain(|one| one.resource_type != resource_type || one.name != *name);
            self.unanswered.push(Unanswered { resource_type, name: name.clone(), revision });
        }
        self.settled = None;
        events.push(Event::Unknown { resource_type, names });
    }

    /// Records that a response is sent.
    pub(super) fn record_sent(
        &mut self,
        resource_type: ResourceType,
        nonce: u64,
        resources: &[Arc<Resource>],
        cursor: Option<Arc<str>>,
    ) {
        let revision = self.revision();
        self.unanswered.retain(|one| one.resource_type != resource_type || find(resources, &one.name).is_none());
        if REFERS_TO_UNANSWERED.contains(&resource_type) && !resources.is_empty() {
            for one in &mut self.unanswered {
                one.revision = revision;
            }
        }
        self.types[resource_type as usize].record_sent(nonce, revision, resources, cursor);
    }

    pub(super) fn poll(&mut self, events: &mut Vec<Event>) -> Option<Response> {
        let StreamState::Serve(snapshot) = &self.state else {
            return None;
        };
        let snapshot = Arc::clone(snapshot);
        self.forget_unsubscribed();
        // O1: resources that may refer to a new cluster wait until the client has that cluster and can use it.
        let mut is_blocked = false;
        for resource_type in ResourceType::ALL {
            let state = &self.types[resource_type as usize];
            is_blocked |= resource_type == ResourceType::Cluster && state.is_warming();
            let is_pending = state.seen && (state.dirty || state.has_more_parts());
            if !is_pending || (is_blocked && REFERRING.contains(&resource_type)) {
                continue;
            }
            let list = snapshot.list(resource_type);
            if state.must_wait() {
                is_blocked |= REFERRED.contains(&resource_type) && state.has_new(list);
                continue;
            }
            let response = match self.variant {
                Variant::Delta => delta::update(self, resource_type, list, events),
                Variant::Sotw => sotw::update(self, resource_type, list, events),
            };
            if response.is_some() {
                return response;
            }
        }
        if self.may_take_away() {
            for resource_type in REFERRED {
                let state = &self.types[resource_type as usize];
                if !state.has_removals || state.dirty || state.flight.is_some() {
                    continue;
                }
                let list = snapshot.list(resource_type);
                let response = match self.variant {
                    Variant::Delta => delta::take_away(self, resource_type, list, events),
                    Variant::Sotw => sotw::take_away(self, resource_type, list, events),
                };
                if response.is_some() {
                    return response;
                }
            }
        }
        self.settle(&snapshot, events);
        None
    }

    /// O1: whether no resource of the client can refer to a removed cluster any more.
    fn may_take_away(&self) -> bool {
        let is_settled = |resource_type: &ResourceType| {
            let state = &self.types[*resource_type as usize];
            let is_refused = self.refused.iter().any(|one| one.resource_type == *resource_type);
            state.flight.is_none() && !is_refused && !(state.seen && state.dirty)
        };
        let listeners = &self.types[ResourceType::Listener as usize];
        REFERRING.iter().all(is_settled) && (listeners.seen || !self.is_resumed)
    }

    fn settle(&mut self, snapshot: &Snapshot, events: &mut Vec<Event>) {
        let accepted = self.refused.is_empty();
        let is_settled = |state: &TypeState| {
            state.flight.is_none() && !(state.seen && state.dirty) && !(state.has_removals && accepted)
        };
        let (revision, generation) = (snapshot.revision(), snapshot.generation());
        let settled = Some((revision, generation));
        if self.settled != settled && self.node_id.is_some() && self.types.iter().all(is_settled) {
            self.settled = settled;
            let (refused, unanswered) = (self.refused.clone(), self.unanswered.clone());
            events.push(Event::Settled { revision, generation, refused, unanswered });
        }
    }

    /// A nonce for the next response (C2).
    pub(super) fn next_nonce(&mut self) -> u64 {
        self.last_nonce += 1;
        self.settled = None;
        self.last_nonce
    }

    /// O2: marks the resources that these resources require as pending, unless the client is not subscribed to them.
    /// For a type that the client has not requested yet they stay pending until it does, since a client that reconnects
    /// may have all of it already. A resource that is only sent because it is pending adds no requirements, so that
    /// this ends.
    pub(super) fn request_requirements(&mut self, due: &[(Arc<Resource>, Due)]) {
        let mut pending: [Vec<Arc<str>>; ResourceType::COUNT] = Default::default();
        let changed = due.iter().filter(|(_, due)| *due == Due::Changed);
        for (resource_type, name) in changed.flat_map(|(resource, _)| resource.requires()) {
            let state = &self.types[*resource_type as usize];
            if !state.seen || state.is_subscribed(name) {
                pending[*resource_type as usize].push(name.clone());
            }
        }
        for (state, names) in self.types.iter_mut().zip(pending) {
            if !names.is_empty() {
                add_names(&mut state.pending, names);
                state.dirty = true;
            }
        }
    }
}

/// Refuses strings that are longer than any that this server could have sent.
pub(super) fn check_lengths<'a>(
    mut texts: impl Iterator<Item = &'a String>,
    limit: usize,
    what: &str,
) -> Result<(), Status> {
    if texts.any(|text| text.len() > limit) {
        let message = format!("a {what} may have at most {limit} bytes");
        return Err(Status::new(Code::InvalidArgument, message));
    }
    Ok(())
}
