//! The server: accepts connections, TLS or not, and moves the bytes of sessions.
//!
//! Everything here is HTTP/2, by [`kuma_http2`]. The first byte of a connection tells TLS from the plain preface, so
//! one port takes both; what a plain stream may have is up to the [`Authority`]. An ADS stream takes its requests as
//! they come, and when there is room for more it looks at its state and says what to send. While nothing happens it is
//! not run and holds no buffer, and it has no task of its own beside its connection's.

mod ads;
mod bounds;
mod connection;
mod far_end;
mod route;
mod transport;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use envoy_api::ResourceType;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use rustls::NamedGroup;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::bounds::Place;
use crate::grpc::{BoxBody, Status};
use crate::session::{Event, Session, StreamState, Variant};
use crate::wire::Node;

pub use bounds::Bounds;
pub use far_end::FarEnd;
pub use route::RequestBody;

/// The path of the state-of-the-world variant.
pub const STREAM_PATH: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// The path of the incremental variant.
pub const DELTA_PATH: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// The methods of one discovery service.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// The path of its state-of-the-world variant.
    pub stream: &'static str,
    /// The path of its incremental variant.
    pub delta: &'static str,
    /// The only type that it carries; `None`: all.
    only: Option<ResourceType>,
}

impl Service {
    /// The AggregatedDiscoveryService: all types on one stream.
    pub const ADS: Service = Service { stream: STREAM_PATH, delta: DELTA_PATH, only: None };

    /// The SecretDiscoveryService.
    pub const SECRETS: Service = Service {
        stream: "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
        delta: "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
        only: Some(ResourceType::Secret),
    };

    fn variant(&self, path: &str) -> Option<Variant> {
        match path {
            path if path == self.stream => Some(Variant::Sotw),
            path if path == self.delta => Some(Variant::Delta),
            _ => None,
        }
    }

    fn session(&self, variant: Variant) -> Session {
        match self.only {
            Some(resource_type) => Session::of_type(variant, resource_type),
            None => Session::new(variant),
        }
    }
}

/// How long streams and connections have to end by themselves after a shutdown began.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait after `accept` failed, which it does when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the server waits for a client before it closes the connection.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For its first byte, and for each of its messages in the TLS handshake. The time that the server takes itself,
    /// when thousands of clients connect at once, is not counted.
    pub handshake: Duration,
    /// For its first request after the connection is established.
    pub first_request: Duration,
    /// Without an open stream, whatever else the client sends.
    pub no_stream: Duration,
    /// Without any input. Then the server sends a PING.
    pub idle: Duration,
    /// For the answer to the PING. Together with `idle` this is how long the stream of an unreachable peer stays open.
    pub ping_answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let seconds = Duration::from_secs;
        Timeouts {
            handshake: seconds(10),
            first_request: seconds(15),
            no_stream: seconds(60),
            idle: seconds(30),
            ping_answer: seconds(20),
        }
    }
}

/// Where a connection comes from.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The group of the key exchange, if it is.
    pub key_exchange: Option<NamedGroup>,
    /// The other end of it.
    pub far_end: FarEnd,
    place: Arc<Place>,
}

impl Peer {
    /// Notes that a token has shown who it is: it is not among those who are sent away for want of room.
    pub fn has_proved_itself(&self) {
        self.place.prove();
    }
}

/// Decides who may open a stream, and what that stream is sent. The application's side of the server.
pub trait Authority: Send + Sync + 'static {
    /// The handler of one stream; dropped when the stream ends.
    type Stream: StreamHandler;

    /// What a stream has proved before its first message.
    type Proof: Send + 'static;

    /// Looks at a stream before its first message, and turns away at once who shows a bad token.
    fn admit(&self, peer: &Peer, headers: &HeaderMap) -> Result<Self::Proof, Status>;

    /// Whether that shows who the client is.
    fn is_proof(&self, proof: &Self::Proof) -> bool;

    /// Until when it shows that, and the outcome of streams that are open then; `None` if there is no end.
    fn end_of_proof(&self, _proof: &Self::Proof) -> Option<(SystemTime, Status)> {
        None
    }

    /// Opens a stream, at its first message. An error ends it with this status. The latest state of the receiver
    /// counts, and dropping its sender ends the stream with UNAVAILABLE.
    fn open(
        &self,
        peer: &Peer,
        proof: Self::Proof,
        node: &Node,
        variant: Variant,
    ) -> Result<(Self::Stream, watch::Receiver<StreamState>), Status>;

    /// A client broke off the TLS handshake, because it does not trust the server's certificate.
    fn distrusted(&self, client: SocketAddr) {
        tracing::warn!(%client, "a client does not trust this server's certificate");
    }
}

/// Takes the events of one stream, in order. Called from within the stream's own poll: it must not block.
pub trait StreamHandler: Send + 'static {
    /// Takes an event.
    fn on_event(&mut self, event: Event);

    /// Why the stream has to end, if an event was such that it has to. Asked after the events of each request.
    fn refusal(&mut self) -> Option<Status> {
        None
    }
}

/// Answers the requests of one path.
pub type Handler = Arc<dyn Fn(Peer, Request<RequestBody>) -> BoxFuture<'static, Response<BoxBody>> + Send + Sync>;

/// Paths of further gRPC methods on the same port. Each handler sees to authentication itself.
#[derive(Clone, Default)]
pub struct Routes {
    handlers: HashMap<&'static str, Handler>,
}

impl Routes {
    /// No further paths.
    pub fn new() -> Routes {
        Routes::default()
    }

    /// Adds the method of a path, such as `/package.Service/Method`.
    #[must_use]
    pub fn with<F>(
        mut self,
        path: &'static str,
        handler: impl Fn(Peer, Request<RequestBody>) -> F + Send + Sync + 'static,
    ) -> Routes
    where
        F: Future<Output = Response<BoxBody>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |peer, request| Box::pin(handler(peer, request)));
        self.handlers.insert(path, handler);
        self
    }

    /// The paths, beside those of ADS.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.handlers.keys().copied()
    }

    fn get(&self, path: &str) -> Option<&Handler> {
        self.handlers.get(path)
    }
}

/// The server; see [`Server::serve`].
pub struct Server<A> {
    authority: Arc<A>,
    service: Service,
    routes: Routes,
    tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
    timeouts: Timeouts,
    bounds: Arc<Bounds>,
}

/// Connections of a server that is given no bounds.
const CONNECTIONS: usize = 65_536;

impl<A: Authority> Server<A> {
    /// A server of plain HTTP/2, for ADS only.
    pub fn new(authority: Arc<A>) -> Server<A> {
        let timeouts = Timeouts::default();
        let bounds = Bounds::new(CONNECTIONS);
        Server { authority, service: Service::ADS, routes: Routes::new(), tls: None, timeouts, bounds }
    }

    /// Replaces the default bounds.
    #[must_use]
    pub fn bounds(mut self, bounds: Arc<Bounds>) -> Server<A> {
        self.bounds = bounds;
        self
    }

    /// Serves this service instead of ADS.
    #[must_use]
    pub fn service(mut self, service: Service) -> Server<A> {
        self.service = service;
        self
    }

    /// Takes further paths.
    #[must_use]
    pub fn routes(mut self, routes: Routes) -> Server<A> {
        self.routes = routes;
        self
    }

    /// Takes TLS connections too, each with the configuration that is the latest when it comes. The configuration
    /// should offer `h2` by ALPN.
    #[must_use]
    pub fn tls(mut self, config: watch::Receiver<Arc<rustls::ServerConfig>>) -> Server<A> {
        self.tls = Some(config);
        self
    }

    /// Replaces the default timeouts.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Server<A> {
        self.timeouts = timeouts;
        self
    }

    /// Serves until `shutdown` is cancelled. Then streams end with UNAVAILABLE, which makes a client come back, and
    /// whoever has not gone after five seconds is cut off.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let context = Arc::new(Context {
            authority: self.authority,
            service: self.service,
            routes: self.routes,
            tls: self.tls,
            timeouts: self.timeouts,
            bounds: self.bounds,
            tasks: TaskTracker::new(),
            shutdown,
            abort: CancellationToken::new(),
        });
        // Unconstrained: it takes all connections that wait whenever it has a turn. When thousands come at once turns
        // are rare, and what overflows the kernel's queue meanwhile comes back after one, three, seven and fifteen
        // seconds.
        tokio::task::unconstrained(accept(&context, listener)).await;
        context.tasks.close();
        if tokio::time::timeout(GRACE, context.tasks.wait()).await.is_err() {
            context.abort.cancel();
            context.tasks.wait().await;
        }
    }
}

/// Accepts connections, each into a task of its own, until the server is to shut down.
async fn accept<A: Authority>(context: &Arc<Context<A>>, listener: TcpListener) {
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((socket, address)) => {
                    let Some(place) = context.bounds.admit(address.ip()) else {
                        tracing::debug!(peer = %address, "no room for another xDS connection");
                        continue;
                    };
                    let task = context.tasks.spawn(connection::run(context.clone(), socket, address, place.clone()));
                    place.runs(task.abort_handle());
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an xDS connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// What all connections of a server share.
struct Context<A> {
    authority: Arc<A>,
    service: Service,
    routes: Routes,
    tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
    timeouts: Timeouts,
    bounds: Arc<Bounds>,
    /// One for each connection.
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// Ends what has not ended by itself.
    abort: CancellationToken,
}
