//! Accepts connections and answers requests on them, within bounds.
//!
//! HTTP/1.1 only, unless a server asks for HTTP/2: what is not needed is not spoken, and cannot be abused.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::client_certs::{ClientCertificate, MutualTls};
use super::connection_slots::{ConnectionSlot, ConnectionSlots};
use super::{ApiError, Connection};

/// Bounds of one server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once; for one more, the one that has got nowhere for longest is closed.
    pub connections: usize,
    /// HTTP/2 streams that are open at once on a connection; 0: HTTP/1.1 is all that is spoken.
    pub streams: u32,
    /// How long a client may take to send the head of a request, and may leave the connection unused.
    pub head: Duration,
    /// How long bytes that we sent may stay unacknowledged before the connection is given up.
    pub unread: Duration,
    /// How long requests may go on once the server is asked to stop.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            streams: 0,
            head: Duration::from_secs(10),
            unread: Duration::from_secs(30),
            stop: Duration::from_secs(5),
        }
    }
}

/// How connections of a server are secured.
#[derive(Clone)]
pub enum Security {
    /// Not at all.
    Plain,
    /// TLS, with client certificates.
    MutualTls(Arc<MutualTls>),
    /// Either, as the client begins: the first byte of a TLS connection is that of a handshake record.
    Either(Arc<MutualTls>),
}

/// The first byte of a TLS connection: content type `handshake` (RFC 8446, section 5.1). No HTTP method begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// Longest head of a request, in bytes; longer ones get 431.
const MAX_HEAD: usize = 64 * 1024;
/// How often a client that speaks HTTP/2 is asked whether it is still there, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How much of one HTTP/2 stream is taken in before its handler reads it. Requests are small.
const WINDOW: u32 = 64 * 1024;
/// Pause after a failure to accept, such as "too many open files". It ends by itself when others close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `stop` is cancelled and the requests that are under way are answered, or
/// [`Limits::stop`] has passed. `name` is for the log.
pub async fn serve(name: &'static str, listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    serve_secured(name, listener, router, limits, Security::Plain, stop).await;
}

/// As [`serve`], over connections with this `security`.
pub async fn serve_secured(
    name: &'static str,
    listener: TcpListener,
    router: Router,
    limits: Limits,
    security: Security,
    stop: CancellationToken,
) {
    let slots = ConnectionSlots::new(limits.connections);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            // Finished connections are let go at once, so that the set holds only live ones.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                let Ok(local) = stream.local_addr() else { continue };
                let slot = Arc::new(slots.acquire());
                let evicted = slot.evicted.clone();
                let service =
                    Service { name, router: router.clone(), ends: Connection { peer, local }, client: None, slot };
                let served = connection(stream, service, limits, security.clone(), graceful.watcher());
                connections.spawn(async move {
                    if evicted.run_until_cancelled(served).await.is_none() {
                        tracing::debug!(server = name, %peer, "a connection was closed to free its slot for another");
                    }
                });
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(server = name, %error, "cannot accept connections; trying again");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(limits.stop, graceful.shutdown()).await.is_err() {
        tracing::warn!(server = name, "connections cut: requests did not end in time");
    }
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, service: Service, limits: Limits, security: Security, watcher: Watcher) {
    // Answers are small and complete: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let unread = u32::try_from(limits.unread.as_millis()).unwrap_or(u32::MAX);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, unread);
    let (name, peer) = (service.name, service.ends.peer);
    let tls = match tokio::time::timeout(limits.head, begins_with_tls(&stream, &security)).await {
        Ok(Ok(tls)) => tls,
        // Nothing came.
        _ => return,
    };
    let Some(tls) = tls else {
        return service.run(stream, limits, watcher).await;
    };
    match tokio::time::timeout(limits.head, tls.accept(stream)).await {
        Ok(Ok((stream, client))) => {
            let service = Service { client: Some((tls, client)), ..service };
            service.run(stream, limits, watcher).await;
        }
        Ok(Err(error)) => tracing::info!(server = name, %peer, %error, "refused a TLS connection"),
        Err(_) => tracing::debug!(server = name, %peer, "a TLS handshake took too long"),
    }
}

/// The TLS that the connection is to have, if any.
async fn begins_with_tls(stream: &TcpStream, security: &Security) -> std::io::Result<Option<Arc<MutualTls>>> {
    match security {
        Security::Plain => Ok(None),
        Security::MutualTls(tls) => Ok(Some(tls.clone())),
        Security::Either(tls) => {
            let mut first = [0; 1];
            let read = stream.peek(&mut first).await?;
            Ok((read == 1 && first[0] == TLS_HANDSHAKE).then(|| tls.clone()))
        }
    }
}

fn builder(limits: Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(MAX_HEAD);
    if limits.streams == 0 {
        return builder.http1_only();
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(MAX_HEAD as u32)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// What answers the requests of one connection.
#[derive(Clone)]
struct Service {
    name: &'static str,
    router: Router,
    ends: Connection,
    client: Option<(Arc<MutualTls>, ClientCertificate)>,
    slot: Arc<ConnectionSlot>,
}

impl Service {
    async fn run(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, limits: Limits, watcher: Watcher) {
        let (name, peer) = (self.name, self.ends.peer);
        let asked = Arc::new(AtomicBool::new(false));
        let has_asked = asked.clone();
        let service = hyper::service::service_fn(move |request| {
            has_asked.store(true, Ordering::Relaxed);
            self.clone().answer(request)
        });
        let builder = builder(limits);
        let served = watcher.watch(builder.serve_connection(TokioIo::new(stream), service));
        // HTTP/1.1 sees to this itself, for every request; a client that does not even say which of the two it speaks,
        // or that asks nothing over HTTP/2, is let go here.
        let silence = async {
            tokio::time::sleep(limits.head).await;
            if limits.streams == 0 || asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            ended = served => if let Err(error) = ended {
                tracing::debug!(server = name, %peer, %error, "connection ended");
            },
            () = silence => tracing::debug!(server = name, %peer, "nothing was asked in time"),
        }
    }

    async fn answer(self, mut request: Request<Incoming>) -> Result<Response, Infallible> {
        request.extensions_mut().insert(self.ends);
        if let Some((tls, client)) = self.client {
            if !tls.still_knows(&client).await {
                let details = "The client certificate of this connection is no longer let in";
                let error = ApiError::new(StatusCode::FORBIDDEN, "Administration is not allowed from here", details);
                return Ok(error.into_response());
            }
            request.extensions_mut().insert(client);
        }
        let answering = self.slot.answering();
        let answered = answer(self.name, self.router, request).await?;
        // Until its body has been sent: a stream stays open for days.
        let held = move |frame| {
            let _ = &answering;
            frame
        };
        Ok(answered.map(|body| Body::new(body.map_frame(held))))
    }
}

/// Answers one request. A handler that panics costs its own request and no other.
async fn answer(name: &'static str, mut router: Router, request: Request<Incoming>) -> Result<Response, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_string());
    let handled = AssertUnwindSafe(router.call(request.map(Body::new))).catch_unwind().await;
    handled.unwrap_or_else(|_| {
        tracing::error!(server = name, %method, path, "a request made its handler panic");
        let title = "Could not process the request";
        Ok(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, title, "Internal Server Error").into_response())
    })
}
