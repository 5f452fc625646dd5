//! One stream of the protocol as a state machine, without I/O.
//!
//! A session records what its client has subscribed to and what the client has (what was sent last, or reported after
//! a reconnect). What has to be sent is the difference to the latest [`Snapshot`], computed when the stream can send:
//! there is a dirty set and no queue. Most of the rules are from Envoy's xds_protocol.rst; each is the name of a test:
//!
//! | rule | |
//! | --- | --- |
//! | C1 | The node comes with the first message and never changes. |
//! | C2, C3 | A nonce is unique within its stream and has no meaning in another. |
//! | C4, C15 | An ACK is not answered. Nothing is sent unless something changed or was requested. |
//! | C5, C6 | A NACK is an `error_detail`. Refused content is sent again only by [`retry`](Session::retry). |
//! | C7 | Of several requests in a row only the last state is answered. |
//! | C8, C9 | A newly named resource is sent, unchanged or not; one that does not exist yet is sent when it does. |
//! | C10 | No response names a resource twice. |
//! | C11, C12 | The empty first request of clusters or listeners means all, as `*` does. |
//! | C13 | An unknown type stays unanswered and does not affect the other types. |
//! | C14 | Equal content has equal versions, in every process. |
//! | S1 | SotW: a request with a stale nonce is ignored. |
//! | S2, S3 | SotW: clusters and listeners are sent whole; of endpoints and routes only those that changed. |
//! | S4, S5 | SotW: omission unsubscribes. A version on a new stream avoids sending for a pure wildcard only. |
//! | D1, D2 | Delta: answers match by nonce; a stale nonce cancels no change of a subscription. |
//! | D3, D4, D5 | Delta: a repeated request is answered again. Needless unsubscribing: only under a wildcard. |
//! | D6, D7 | Delta: what does not exist is answered as removed, and what is deleted is removed, except as below. |
//! | D8, D9 | Delta: only what changed is sent; after a reconnect only what differs from what is reported. |
//! | D10 | Each resource has a version of its own. |
//! | O1 | Clusters, endpoints, secrets, listeners, extension configs, routes; removed clusters and endpoints last. |
//! | O2 | What a resource that was sent [requires](crate::Resource::requiring) is sent again after it. |
//! | O3 | What a new resource refers to is provided when it is requested. |
//!
//! Three choices that the protocol leaves open:
//!
//! - Secrets and extension configs are never answered as removed: Envoy resets connections when they are. One that does
//!   not exist is answered once it exists, and the client keeps a deleted one until it unsubscribes.
//! - Clusters and endpoints are taken away once listeners, extension configs and routes have been sent and accepted,
//!   so that nothing the client runs still refers to them. A refused listener delays this as well, because the client
//!   continues with the old one. After a reconnect they wait until the client has asked for listeners.
//! - Listeners, extension configs and routes wait for new clusters: for one that has to wait for an ACK itself, and for
//!   one that was sent and [requires](crate::Resource::requiring) more, until it is accepted. Envoy sends that ACK only
//!   when the cluster is warm, and refuses connections to it before. Endpoints and secrets never wait for clusters,
//!   because they warm them; nothing waits for a cluster that was only changed.

mod core;
mod delta;
mod event;
pub mod limits;
mod sotw;
mod state;
mod view;

use std::sync::Arc;

use envoy_api::ResourceType;

use self::core::Core;
pub use self::event::{Event, Refusal, Subscription, Unanswered};
use crate::grpc::{Code, Status};
use crate::wire::Request;
use crate::{Response, Snapshot};

/// The two variants of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Variant {
    /// State of the world: a response holds all resources of its type, or those of a type that changed.
    Sotw,
    /// Incremental: a response holds what changed.
    Delta,
}

/// The state of a stream, set by the application. Only the latest one counts.
#[derive(Clone, Debug, Default)]
pub enum StreamState {
    /// Send nothing, and record the client's requests and reports.
    #[default]
    Hold,
    /// Send the resources of this snapshot.
    Serve(Arc<Snapshot>),
    /// End the stream with this outcome.
    Close(Status),
}

/// One stream: requests and states in, responses and events out.
#[derive(Debug)]
pub struct Session {
    core: Core,
}

impl Session {
    /// An aggregated stream (ADS), which carries all types.
    pub fn new(variant: Variant) -> Session {
        Session { core: Core::new(variant, None) }
    }

    /// A stream of one type, such as of the SecretDiscoveryService. It may leave the type URL out.
    pub fn of_type(variant: Variant, resource_type: ResourceType) -> Session {
        Session { core: Core::new(variant, Some(resource_type)) }
    }

    /// Handles a request. An error ends the stream with this outcome.
    pub fn on_request(&mut self, request: Request, events: &mut Vec<Event>) -> Result<(), Status> {
        self.core.check_node(request.node())?;
        let Some(resource_type) = self.core.resource_type(request.type_url())? else {
            return Ok(());
        };
        match (self.core.variant, request) {
            (Variant::Delta, Request::Delta(request)) => {
                delta::on_request(&mut self.core, resource_type, request, events)
            }
            (Variant::Sotw, Request::Sotw(request)) => sotw::on_request(&mut self.core, resource_type, request, events),
            (variant, _) => Err(Status::new(
                Code::Internal,
                format!("a {variant:?} stream was given a request of the other variant"),
            )),
        }
    }

    /// Sets the state. The caller ends the stream if it is [`StreamState::Close`].
    pub fn on_state(&mut self, state: StreamState) {
        self.core.on_state(state);
    }

    /// Whether the client has refused a resource without having accepted a later version of it.
    pub fn has_refused(&self) -> bool {
        self.core.has_refused()
    }

    /// Sends refused resources once more: the reason for the refusal may be gone, such as another process on a port.
    /// Extension configs are left out: Envoy accepts one with the same bytes as a refused one without trying it.
    pub fn retry(&mut self) {
        self.core.retry();
    }

    /// The next response, if there is anything to send now. To be called after every request and state, until it
    /// returns `None`, but only when the stream can send: until then, a newer state may replace what would be sent.
    pub fn poll(&mut self, events: &mut Vec<Event>) -> Option<Response> {
        self.core.poll(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resource;
    use crate::wire::DeltaDiscoveryRequest;

    /// There is one per stream, and most streams are idle. Beside this it holds a pointer for each name.
    #[test]
    fn a_session_is_small() {
        assert!(size_of::<Session>() <= 900, "{}", size_of::<Session>());
    }

    /// A client that has what it should have costs no memory for it, also if others were sent the change before it.
    #[test]
    fn what_a_client_holds_is_the_list_of_the_snapshot() {
        let cluster = |name: &str, value: &[u8]| Arc::new(Resource::new(ResourceType::Cluster, name, value));
        let (first, other) = (cluster("a", b"1"), cluster("b", b"1"));
        let before = Arc::new(Snapshot::builder().with(first).with(other.clone()).build());
        let after = Arc::new(Snapshot::builder().with(cluster("a", b"2")).with(other).build());
        let again = Arc::new(Snapshot::builder().with(cluster("a", b"2")).with(cluster("b", b"1")).build());

        let node = Some(crate::Node { id: "default.web".to_owned(), ..Default::default() });
        let type_url = ResourceType::Cluster.type_url().to_owned();
        let request = DeltaDiscoveryRequest { node, type_url, ..DeltaDiscoveryRequest::default() };
        let (mut session, mut events) = (Session::new(Variant::Delta), Vec::new());
        session.on_request(Request::Delta(request.clone()), &mut events).expect("a request");
        for (snapshot, is_sent) in [(before, true), (after, true), (again, false)] {
            session.on_state(StreamState::Serve(snapshot.clone()));
            let response = session.poll(&mut events);
            assert_eq!(response.is_some(), is_sent);
            let held = &session.core.types[ResourceType::Cluster as usize].view;
            assert!(Arc::ptr_eq(held, snapshot.list(ResourceType::Cluster)));
            if let Some(response) = response {
                let request = DeltaDiscoveryRequest { response_nonce: response.nonce(), ..request.clone() };
                session.on_request(Request::Delta(request), &mut events).expect("an ACK");
            }
        }
    }
}
