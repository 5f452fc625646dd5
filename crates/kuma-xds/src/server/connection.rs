//! One connection: what it speaks, and what its requests get.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ads::{AdsBody, Opening};
use super::body::ResponseBody;
use super::transport::{Shared, Transport};
use super::{Authority, Context, FarEnd, Peer};
use crate::grpc::{CONTENT_TYPE_GRPC, Code, Status};

/// How often an idle connection is asked whether its peer is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long the peer may take to answer. With the interval, a peer that vanished holds its stream for 50 s at most.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection may take for its first byte, and again for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may stay without a first request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Envoy needs one stream per connection, kuma-dp one of its own; the rest is for tools and reconnects that overlap.
const MAX_STREAMS: u32 = 16;

/// Receive window of streams and connections. A cap on what a peer can make us buffer; requests are small, and a large
/// one after a reconnect takes some round trips more.
const WINDOW: u32 = 64 << 10;

/// How much of a response may wait in HTTP/2 before the stream is asked for more.
const SEND_BUFFER: usize = 256 << 10;

/// All headers of a request; a token has a kilobyte or two.
const MAX_HEADERS: u32 = 16 << 10;

const TLS_HANDSHAKE: u8 = 0x16;
const HTTP2_PREFACE: u8 = b'P';

pub(super) async fn run<A: Authority>(context: Arc<Context<A>>, socket: TcpStream, address: SocketAddr) {
    let served = tokio::select! {
        served = serve(&context, socket, address) => served,
        () = context.abort.cancelled() => Err("cut off by the shutdown".into()),
    };
    if let Err(error) = served {
        tracing::debug!(peer = %address, %error, "an xDS connection ended");
    }
}

async fn serve<A: Authority>(
    context: &Arc<Context<A>>,
    socket: TcpStream,
    address: SocketAddr,
) -> Result<(), crate::grpc::BoxError> {
    socket.set_nodelay(true)?;
    let far_end = FarEnd::default();
    let mut transport = Transport::new(socket, far_end.clone());
    let shutdown = context.shutdown.cancelled();
    let first = tokio::select! {
        first = timeout(HANDSHAKE_TIMEOUT, transport.first_byte()) => first??,
        () = shutdown => return Ok(()),
    };
    let tls = match (first, &context.tls) {
        (TLS_HANDSHAKE, Some(config)) => {
            let config = config.borrow().clone();
            timeout(HANDSHAKE_TIMEOUT, transport.accept_tls(config)).await??;
            true
        }
        (HTTP2_PREFACE, _) => false,
        (TLS_HANDSHAKE, None) => return Err("the peer speaks TLS, which is not set up".into()),
        _ => return Err("the peer speaks neither TLS nor HTTP/2".into()),
    };
    // Boxed: its state is larger than all that is needed before, and lives for as long as the connection.
    Box::pin(serve_http2(context, transport.share(), Peer { address, tls, far_end })).await
}

async fn serve_http2<A: Authority>(
    context: &Arc<Context<A>>,
    transport: Shared,
    peer: Peer,
) -> Result<(), crate::grpc::BoxError> {
    let has_request = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        has_request.store(true, Ordering::Relaxed);
        respond(context.clone(), peer.clone(), request)
    });
    let bodies = Bodies::default();
    let http2 = http2::Builder::new(bodies.clone())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(transport.clone()), service);
    let mut connection = Connection { http2: pin!(http2), bodies, running: FuturesUnordered::new(), transport };

    tokio::select! {
        ended = connection.run() => return ended,
        () = tokio::time::sleep(FIRST_REQUEST_TIMEOUT) => {}
        () = context.shutdown.cancelled() => {}
    }
    if !has_request.load(Ordering::Relaxed) && !context.shutdown.is_cancelled() {
        return Err("the first request did not come in time".into());
    }
    tokio::select! {
        ended = connection.run() => return ended,
        () = context.shutdown.cancelled() => {}
    }
    // Streams end by themselves; hyper ends the connection after the last.
    connection.http2.as_mut().graceful_shutdown();
    connection.run().await
}

/// HTTP/2 and the streams on it, all in one task: what a request brings about goes out in the same turn, and in one piece.
struct Connection<'a, H> {
    http2: Pin<&'a mut H>,
    bodies: Bodies,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
    transport: Shared,
}

impl<H: Future<Output = hyper::Result<()>>> Connection<'_, H> {
    /// Runs until the connection ends.
    async fn run(&mut self) -> Result<(), crate::grpc::BoxError> {
        poll_fn(|cx| {
            let mut ended = self.http2.as_mut().poll(cx);
            loop {
                self.running.extend(self.bodies.take());
                while let Poll::Ready(Some(())) = self.running.poll_next_unpin(cx) {}
                self.transport.resume();
                // Takes up what they have written, and may bring new streams.
                if ended.is_pending() {
                    ended = self.http2.as_mut().poll(cx);
                }
                if ended.is_ready() || !(self.transport.is_paused() || self.bodies.are_some()) {
                    break;
                }
            }
            // Pending only means that the rest has to wait.
            if let Poll::Ready(sent) = self.transport.poll_send(cx) {
                sent?;
            }
            ended.map_err(Into::into)
        })
        .await
    }
}

/// The streams that hyper has begun, on their way into the task of their connection.
#[derive(Clone, Default)]
struct Bodies(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Bodies {
    fn take(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn are_some(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl<F> hyper::rt::Executor<F> for Bodies
where
    F: Future + Send + 'static,
{
    fn execute(&self, body: F) {
        // A panic ends the stream, and hurts no other.
        let body = AssertUnwindSafe(body).catch_unwind().map(drop);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(body));
    }
}

async fn respond<A: Authority>(
    context: Arc<Context<A>>,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody<A>>, Infallible> {
    let path = request.uri().path();
    let Some(variant) = context.service.variant(path) else {
        let response = match context.routes.get(path) {
            Some(handler) => handler(peer, request).await,
            None => Status::new(Code::Unimplemented, "there is no such method").into_response(),
        };
        return Ok(response.map(ResponseBody::Other));
    };
    let admitted = check_call(request.method(), request.headers())
        .and_then(|()| context.authority.admit(&peer, request.headers()));
    let proof = match admitted {
        Ok(proof) => proof,
        Err(status) => return Ok(status.into_response().map(ResponseBody::Other)),
    };
    let requests = request.into_body();
    let opening = Opening::new(context.authority.clone(), peer, proof);
    let session = context.service.session(variant);
    let body = AdsBody::new(variant, session, requests, opening, context.shutdown.clone());
    let mut response = Response::new(ResponseBody::Ads(Box::new(body)));
    response.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
    Ok(response)
}

fn check_call(method: &Method, headers: &HeaderMap) -> Result<(), Status> {
    let is_grpc =
        headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(CONTENT_TYPE_GRPC.as_bytes()));
    if method != Method::POST || !is_grpc {
        return Err(Status::new(Code::Unimplemented, "this is a gRPC method"));
    }
    Ok(())
}
