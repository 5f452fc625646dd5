//! Accepts connections and answers requests on them, within bounds.
//!
//! HTTP/1.1 only: nothing that talks to these ports needs HTTP/2, and what is not spoken cannot be abused.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::client_certs::{ClientCertificate, MutualTls};
use super::{ApiError, Connection};

/// Bounds of one server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once; more wait in the kernel's queue.
    pub connections: usize,
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
    let permits = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        let accept = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept => accepted,
            // Finished connections are let go at once, so that the set holds only live ones.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                let (router, watcher, security) = (router.clone(), graceful.watcher(), security.clone());
                connections.spawn(async move {
                    let _permit = permit;
                    connection(name, stream, peer, router, limits, security, watcher).await;
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

async fn connection(
    name: &'static str,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    security: Security,
    watcher: Watcher,
) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    // Answers are small and complete: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let unread = u32::try_from(limits.unread.as_millis()).unwrap_or(u32::MAX);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, unread);
    let service = Service { name, router, ends: Connection { peer, local }, client: None };
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

/// What answers the requests of one connection.
#[derive(Clone)]
struct Service {
    name: &'static str,
    router: Router,
    ends: Connection,
    client: Option<(Arc<MutualTls>, ClientCertificate)>,
}

impl Service {
    async fn run(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, limits: Limits, watcher: Watcher) {
        let (name, peer) = (self.name, self.ends.peer);
        let service = hyper::service::service_fn(move |request| self.clone().answer(request));
        let mut builder = Builder::new(TokioExecutor::new()).http1_only();
        builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(MAX_HEAD);
        let served = builder.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(served).await {
            tracing::debug!(server = name, %peer, %error, "connection ended");
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
        answer(self.name, self.router, request).await
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
