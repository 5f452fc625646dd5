//! The secret discovery service (5677): the certificates of a mesh for any Envoy that somebody has configured by hand.
//!
//! Our own proxies get their secrets on their one aggregated stream. Here a dataplane token is always required, and it
//! opens two names and no other: `mesh_ca`, and `identity_cert` of the token's own Dataplane. Where the mesh has no
//! mTLS, both stay unanswered until it has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use kuma_ca::Claims;
use kuma_envoy::names::{IDENTITY_CERT, MESH_CA};
use kuma_xds::grpc::{Code, Status};
use kuma_xds::server::{Authority, Peer, StreamHandler};
use kuma_xds::{Event, Node, StreamState, Variant};
use tokio::sync::watch;

use crate::ads::{Ads, caller, check_claims, end_of_token, parse_node_id, warn_of_distrust};
use crate::metrics::{Discovery, StreamMetrics};
use kuma_engine::{Engine, OpenStream, Settled, StreamId};

/// Decides who may ask for secrets.
pub struct Sds(pub Arc<Ads>);

impl Sds {
    fn claims(&self, peer: &Peer, headers: &HeaderMap) -> Result<Claims, Status> {
        let claims = self.0.claims(peer, headers)?;
        claims.ok_or_else(|| {
            Status::new(Code::Unauthenticated, "a dataplane token is required: metadata `authorization`")
        })
    }
}

impl Authority for Sds {
    type Stream = SdsStream;
    type Proof = Claims;

    fn admit(&self, peer: &Peer, headers: &HeaderMap) -> Result<Claims, Status> {
        self.claims(peer, headers)
    }

    fn is_proof(&self, _: &Claims) -> bool {
        true
    }

    fn end_of_proof(&self, claims: &Claims) -> Option<(SystemTime, Status)> {
        end_of_token(claims)
    }

    fn open(
        &self,
        peer: &Peer,
        claims: Claims,
        node: &Node,
        _: Variant,
    ) -> Result<(SdsStream, watch::Receiver<StreamState>), Status> {
        let Some((mesh, name)) = parse_node_id(&node.id) else {
            return Err(Status::new(Code::InvalidArgument, "node.id has to be <mesh>.<name of the Dataplane>"));
        };
        check_claims(Some(&claims), mesh, name)?;
        let (mesh, proxy): (Arc<str>, Arc<str>) = (Arc::from(mesh), Arc::from(name));
        let (state, receiver) = watch::channel(StreamState::Hold);
        let engine = self.0.engine.clone();
        let id = engine.next_stream();
        let stream = OpenStream {
            id,
            proxy: proxy.clone(),
            caller: caller(peer, Some(&claims)),
            admin: None,
            on_standing: None,
            returning: false,
            only_secrets: true,
            state,
        };
        let metrics = self.0.metrics.stream(Discovery::Sds);
        let peer = peer.clone();
        Ok((SdsStream { id, mesh, proxy, peer, opening: Some(stream), engine, metrics, refusal: None }, receiver))
    }

    fn distrusted(&self, client: SocketAddr) {
        warn_of_distrust(client);
    }
}

/// One stream of secrets. Dropped when the stream ends.
pub struct SdsStream {
    id: StreamId,
    mesh: Arc<str>,
    proxy: Arc<str>,
    /// What the engine is told with the first event.
    opening: Option<OpenStream>,
    engine: Arc<Engine>,
    peer: Peer,
    metrics: StreamMetrics,
    refusal: Option<Status>,
}

impl StreamHandler for SdsStream {
    fn on_event(&mut self, event: Event) {
        if let Event::Subscribed { subscriptions, .. } = &event
            && let Some(foreign) = subscriptions.iter().find(|one| !matches!(&*one.name, MESH_CA | IDENTITY_CERT))
        {
            tracing::warn!(mesh = %self.mesh, dataplane = %self.proxy, name = %foreign.name, "refused a secret");
            let text = format!("this stream may ask for {MESH_CA} and {IDENTITY_CERT} alone");
            self.refusal = Some(Status::new(Code::PermissionDenied, text));
            return;
        }
        if let Some(mut stream) = self.opening.take() {
            stream.returning = matches!(event, Event::Reported { .. });
            self.engine.open(&self.mesh, stream);
        }
        self.metrics.on_event(&event);
        match event {
            Event::Reported { resource_type, versions } => {
                self.engine.reported(&self.mesh, self.id, resource_type, versions);
            }
            Event::Subscribed { subscriptions, .. }
                if subscriptions.iter().any(|subscription| &*subscription.name == IDENTITY_CERT) =>
            {
                self.engine.wants_identity(&self.mesh, self.id);
            }
            Event::Settled { revision, generation, refused, unanswered } => {
                self.engine.settled(&self.mesh, self.id, Settled { revision, generation, refused, unanswered });
            }
            Event::Nacked { message, .. } => {
                tracing::warn!(mesh = %self.mesh, dataplane = %self.proxy, %message, "a client refused its secrets");
            }
            _ => {}
        }
    }

    fn refusal(&mut self) -> Option<Status> {
        self.refusal.take()
    }
}

impl Drop for SdsStream {
    fn drop(&mut self) {
        self.engine.close(&self.mesh, self.id, self.peer.far_end.has_closed());
    }
}
