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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

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

/// Longest head of a request, in bytes; longer ones get 431.
const MAX_HEAD: usize = 64 * 1024;
/// Pause after a failure to accept, such as "too many open files". It ends by itself when others close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `stop` is cancelled and the requests that are under way are answered, or
/// [`Limits::stop`] has passed. `name` is for the log.
pub async fn serve(name: &'static str, listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
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
                let (router, watcher) = (router.clone(), graceful.watcher());
                connections.spawn(async move {
                    let _permit = permit;
                    connection(name, stream, peer, router, limits, watcher).await;
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
    watcher: Watcher,
) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    // Answers are small and complete: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let unread = u32::try_from(limits.unread.as_millis()).unwrap_or(u32::MAX);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, unread);
    let ends = Connection { peer, local };
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ends);
        answer(name, router.clone(), request)
    });
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(MAX_HEAD);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(server = name, %peer, %error, "connection ended");
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
