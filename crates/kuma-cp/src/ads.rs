//! xDS streams of proxies: who may open one, and what becomes of their answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use kuma_ca::{Claims, TokenError, TokenVerifier};
use kuma_envoy::names::IDENTITY_CERT;
use kuma_xds::grpc::{Code, Status};
use kuma_xds::server::{Authority, Peer, StreamHandler};
use kuma_xds::{Event, Node, ResourceType, StreamState, Variant};
use tokio::sync::watch;

use crate::departures::Departures;
use crate::insights::Insights;
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;
use crate::voice::Voice;
use kuma_engine::{Caller, Engine, OpenStream, Settled, StreamId};

/// Decides who may open a stream, and connects streams with the engine.
pub struct Ads {
    /// Where configuration comes from.
    pub engine: Arc<Engine>,
    /// Where answers are noted.
    pub insights: Arc<Insights>,
    /// Where it is noted who is there.
    pub departures: Arc<Departures>,
    /// Who proves to be whom.
    pub tokens: Arc<TokenVerifier>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// The address of each Envoy's admin server, as bootstraps have it.
    pub admin_address: IpAddr,
}

impl Ads {
    /// What the request's token proves; `None` without one.
    ///
    /// # Errors
    /// A token that is not valid, or that came over a connection on which others could have read it.
    pub fn claims(&self, peer: &Peer, headers: &HeaderMap) -> Result<Option<Claims>, Status> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Status::new(Code::Unauthenticated, "more than one authorization header"));
        }
        if !peer.tls {
            return Err(Status::new(Code::Unauthenticated, "a dataplane token must travel over TLS"));
        }
        let token =
            value.to_str().map_err(|_| Status::new(Code::Unauthenticated, "the dataplane token is not valid"))?;
        match self.tokens.verify(token, SystemTime::now()) {
            Ok(claims) => Ok(Some(claims)),
            Err(error) => {
                static LIMIT: LogLimit = LogLimit::new();
                if LIMIT.allows() {
                    tracing::warn!(peer = %peer.address, %error, "refused a dataplane token");
                }
                Err(Status::new(Code::Unauthenticated, format!("the dataplane token is not valid: {error}")))
            }
        }
    }
}

/// Who is at the other end of a connection, with what its token proves.
pub(crate) fn caller(peer: &Peer, claims: Option<&Claims>) -> Caller {
    Caller { authenticated: claims.is_some(), encrypted: peer.tls, address: peer.address.ip() }
}

/// When a token expires, and what its streams are told then.
pub(crate) fn end_of_token(claims: &Claims) -> Option<(SystemTime, Status)> {
    let message = format!("the dataplane token is not valid: {}", TokenError::Expired);
    Some((claims.expires?, Status::new(Code::Unauthenticated, message)))
}

/// The mesh and the name in a node's id, `<mesh>.<name>`. Names may contain dots, meshes may not.
pub fn parse_node_id(id: &str) -> Option<(&str, &str)> {
    let (mesh, name) = id.split_once('.')?;
    are_names(mesh, name).then_some((mesh, name))
}

/// Whether a mesh and a Dataplane may be called so. What is not a name reaches no log.
pub(crate) fn are_names(mesh: &str, name: &str) -> bool {
    // Dataplanes of Kubernetes are called `<pod>.<namespace>`.
    let name_ok = !name.is_empty() && name.split('.').all(|part| kuma_model::check_name(part).is_none());
    kuma_model::check_name(mesh).is_none() && name_ok
}

/// Where a server on this address is reached from its own machine.
fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// The port of its admin server that a node has in its metadata, put there by its bootstrap: a number as text.
fn admin_port(node: &Node) -> Option<u16> {
    use envoy_api::value::Kind;
    let metadata = <envoy_api::Struct as prost::Message>::decode(node.metadata.as_deref()?).ok()?;
    let port = match metadata.fields.get("dataplane.admin.port")?.kind.as_ref()? {
        Kind::StringValue(text) => text.parse().ok()?,
        _ => return None,
    };
    (port != 0).then_some(port)
}

/// Whether the claims of a token, if there is one, are about this proxy.
///
/// # Errors
/// They are about another one.
pub fn check_claims(claims: Option<&Claims>, mesh: &str, name: &str) -> Result<(), Status> {
    match claims {
        Some(claims) if claims.mesh != mesh || claims.name != name => {
            static LIMIT: LogLimit = LogLimit::new();
            if LIMIT.allows() {
                tracing::warn!(%mesh, dataplane = %name, token_mesh = %claims.mesh, token_name = %claims.name,
                    "refused a proxy whose token is of another one");
            }
            Err(Status::new(Code::PermissionDenied, "the dataplane token is of another dataplane"))
        }
        _ => Ok(()),
    }
}

impl Authority for Ads {
    type Stream = AdsStream;
    type Proof = Option<Claims>;

    fn admit(&self, peer: &Peer, headers: &HeaderMap) -> Result<Option<Claims>, Status> {
        self.claims(peer, headers)
    }

    fn is_proof(&self, claims: &Option<Claims>) -> bool {
        claims.is_some()
    }

    fn end_of_proof(&self, claims: &Option<Claims>) -> Option<(SystemTime, Status)> {
        end_of_token(claims.as_ref()?)
    }

    fn open(
        &self,
        peer: &Peer,
        claims: Option<Claims>,
        node: &Node,
        _: Variant,
    ) -> Result<(AdsStream, watch::Receiver<StreamState>), Status> {
        let Some((mesh, name)) = parse_node_id(&node.id) else {
            return Err(Status::new(Code::InvalidArgument, "node.id has to be <mesh>.<name of the Dataplane>"));
        };
        check_claims(claims.as_ref(), mesh, name)?;
        let (mesh, proxy): (Arc<str>, Arc<str>) = (Arc::from(mesh), Arc::from(name));
        let (state, receiver) = watch::channel(StreamState::Hold);
        let id = self.engine.next_stream();
        let (voice, dataplane) = (Arc::<Voice>::default(), (mesh.clone(), proxy.clone()));
        let stream = OpenStream {
            id,
            proxy: proxy.clone(),
            caller: caller(peer, claims.as_ref()),
            on_standing: Some(voice.on_standing(self, &dataplane, id, peer, claims.is_some())),
            admin: admin_port(node).map(|port| SocketAddr::new(reachable(self.admin_address), port)),
            returning: false,
            only_secrets: false,
            state,
        };
        let engine = self.engine.clone();
        let stream = AdsStream {
            id,
            mesh,
            proxy,
            opening: Some(Box::new(stream)),
            engine,
            start: Start::Configuring,
            state: receiver.clone(),
            voice,
            peer: peer.clone(),
        };
        Ok((stream, receiver))
    }

    fn distrusted(&self, client: SocketAddr) {
        warn_of_distrust(client);
    }
}

/// Says that a proxy trusts another CA, at most once a minute: each of them comes back every few seconds.
pub(crate) fn warn_of_distrust(client: SocketAddr) {
    static SAID: Mutex<Option<Instant>> = Mutex::new(None);
    const PAUSE: Duration = Duration::from_secs(60);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.is_some_and(|said| said.elapsed() < PAUSE) {
        return;
    }
    *said = Some(Instant::now());
    tracing::warn!(%client,
        "a proxy does not trust this control plane's certificate: it was started when the control plane had another \
         state folder (KUMA_GENERAL_WORK_DIR), or belongs to another control plane. It goes on with what it has, and \
         takes no change. Put the old state folder back; or, if the new one is meant, start its kuma-dp again, with a \
         new dataplane token. There may be others: this is said at most once a minute"
    );
}

/// One stream of a proxy. Dropped when the stream ends.
pub struct AdsStream {
    id: StreamId,
    mesh: Arc<str>,
    proxy: Arc<str>,
    /// What the engine is told with the first event, which says whether the client comes back with configuration.
    opening: Option<Box<OpenStream>>,
    engine: Arc<Engine>,
    start: Start,
    state: watch::Receiver<StreamState>,
    voice: Arc<Voice>,
    peer: Peer,
}

/// How far a proxy is from taking connections. One that has left is dialled again when it does, and not before.
#[derive(PartialEq, Eq)]
enum Start {
    Configuring,
    /// It has listeners, which may wait for secrets.
    Listeners,
    Done,
}

impl Start {
    /// Whether this is the event from which on the proxy takes connections: because it has just been given all that it
    /// needs (`Some(true)`), or because it comes back with listeners that it has had before (`Some(false)`).
    fn ends_with(&mut self, event: &Event) -> Option<bool> {
        let fresh = match (&self, event) {
            (
                Start::Configuring,
                Event::Acked { resource_type: ResourceType::Listener }
                | Event::Nacked { resource_type: ResourceType::Listener, .. },
            ) => {
                *self = Start::Listeners;
                return None;
            }
            (Start::Configuring, Event::Reported { resource_type: ResourceType::Listener, .. }) => false,
            (Start::Listeners, Event::Settled { .. }) => true,
            _ => return None,
        };
        *self = Start::Done;
        Some(fresh)
    }
}

impl StreamHandler for AdsStream {
    fn on_event(&mut self, event: Event) {
        if let Some(mut stream) = self.opening.take() {
            stream.returning = matches!(event, Event::Reported { .. });
            self.engine.open(&self.mesh, *stream);
        }
        let shown = |revision| self.engine.store_revision(revision);
        let speaks = self.voice.on_event(&event, self.start.ends_with(&event), shown);
        match event {
            Event::Reported { resource_type, versions } => {
                self.engine.reported(&self.mesh, self.id, resource_type, versions);
            }
            Event::Subscribed { resource_type: ResourceType::Secret, subscriptions } => {
                if subscriptions.iter().any(|subscription| subscription.name.as_ref() == IDENTITY_CERT) {
                    self.engine.wants_identity(&self.mesh, self.id);
                }
            }
            Event::Unknown { resource_type, names } => {
                tracing::debug!(mesh = %self.mesh, dataplane = %self.proxy, r#type = resource_type.type_url(), ?names,
                    "the proxy asks for what it has no right to, or what does not exist yet");
            }
            Event::Settled { revision, generation, refused, unanswered } => {
                self.engine.settled(&self.mesh, self.id, Settled { revision, generation, refused, unanswered });
            }
            Event::Nacked { resource_type, names, message } if speaks => {
                tracing::warn!(mesh = %self.mesh, dataplane = %self.proxy, r#type = resource_type.type_url(), ?names,
                    %message,
                    "the proxy refused a response and keeps what it had");
            }
            Event::Subscribed { .. }
            | Event::Unsubscribed { .. }
            | Event::Sent { .. }
            | Event::Acked { .. }
            | Event::Nacked { .. } => {}
        }
    }
}

impl Drop for AdsStream {
    fn drop(&mut self) {
        if self.voice.end() {
            tracing::info!(mesh = %self.mesh, dataplane = %self.proxy, "proxy disconnected");
        } else if let StreamState::Close(status) = &*self.state.borrow() {
            static LIMIT: LogLimit = LogLimit::new();
            if LIMIT.allows() {
                let (mesh, dataplane, peer) = (&self.mesh, &self.proxy, self.peer.address);
                tracing::warn!(%mesh, %dataplane, %peer, reason = %status.message, "refused a proxy");
            }
        }
        self.engine.close(&self.mesh, self.id, self.peer.far_end.has_closed());
    }
}
