//! One connection: detects TLS, runs HTTP/2, and dispatches requests to ADS streams and to routes.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response};
use kuma_http2::{Connection as Http2, ErrorCode, Event, Limits, StreamId};
use rustls::AlertDescription;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::ads::{AdsStream, Opening};
use super::bounds::Place;
use super::route::{Call, Part, shutting_down};
use super::transport::{GATHERED, Transport};
use super::{Authority, Context, FarEnd, Peer};
use crate::grpc::{BoxError, CONTENT_TYPE_GRPC, Code, Status};
use crate::response::Message;

/// How long the TLS handshake may take in all.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long sending the remaining output and closing the connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

const LIMITS: Limits = Limits {
    // Envoy needs one stream per connection, kuma-dp one of its own; the rest is for tools and reconnects that overlap.
    streams: 16,
    // A token has a kilobyte or two.
    header_list: 16 << 10,
    // Between two timers, so for some 30 s: a client that works sends a handful.
    unproductive_frames: 1000,
};

/// When this many bytes of output are waiting because the peer does not read, no more is read from it: its requests
/// would only add to that output.
const MAX_UNREAD: usize = 128 << 10;

/// How many reads one connection may process before other connections get a turn.
const READS_AT_ONCE: usize = 16;

const TLS_HANDSHAKE: u8 = 0x16;
const HTTP2_PREFACE: u8 = b'P';

thread_local! {
    /// An empty output buffer that connections of this thread reuse.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

pub(super) async fn run<A: Authority>(
    context: Arc<Context<A>>,
    socket: TcpStream,
    address: SocketAddr,
    place: Arc<Place>,
) {
    let served = tokio::select! {
        served = serve(&context, socket, address, place) => served,
        () = context.abort.cancelled() => Err("cut off by the shutdown".into()),
    };
    if let Err(error) = served {
        if is_distrust(error.as_ref()) {
            context.authority.distrusted(address);
        }
        tracing::debug!(peer = %address, %error, "an xDS connection ended");
    }
}

/// Whether a connection ended by the alert of a client that takes the server's certificate for a stranger's. rustls
/// sends `decrypt_error` where the stranger's CA has the name of the trusted one.
fn is_distrust(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref()?.downcast_ref::<rustls::Error>());
    matches!(
        error,
        Some(rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
                | AlertDescription::DecryptError
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
        ))
    )
}

async fn serve<A: Authority>(
    context: &Arc<Context<A>>,
    socket: TcpStream,
    address: SocketAddr,
    place: Arc<Place>,
) -> Result<(), BoxError> {
    socket.set_nodelay(true)?;
    let far_end = FarEnd::default();
    let mut transport = Transport::new(socket, far_end.clone());
    let tls = tokio::select! {
        tls = begin_connection(context, &mut transport) => tls?,
        () = context.shutdown.cancelled() => return Ok(()),
    };
    let peer = Peer { address, tls, key_exchange: transport.key_exchange(), far_end, place };
    // Boxed: its state is larger than all that is needed before, and lives for as long as the connection.
    Box::pin(Connection::new(context, transport, peer).run()).await
}

/// Detects the protocol of the peer by its first byte, and completes the handshake if it is TLS. Returns whether it is.
async fn begin_connection<A>(context: &Context<A>, transport: &mut Transport) -> Result<bool, BoxError> {
    let per_message = context.timeouts.handshake;
    match (timeout(per_message, transport.first_byte()).await??, &context.tls) {
        (TLS_HANDSHAKE, Some(config)) => {
            let config = config.borrow().clone();
            timeout(HANDSHAKE_TIMEOUT, transport.accept_tls(config, per_message)).await??;
            Ok(true)
        }
        (HTTP2_PREFACE, _) => Ok(false),
        (TLS_HANDSHAKE, None) => Err("the peer speaks TLS, which is not set up".into()),
        _ => Err("the peer speaks neither TLS nor HTTP/2".into()),
    }
}

/// A connection with HTTP/2 and all of its streams, run by one task. The responses to what one read has brought are
/// sent together.
struct Connection<'a, A: Authority> {
    context: &'a Arc<Context<A>>,
    peer: Peer,
    transport: Transport,
    http2: Http2,
    streams: Vec<Stream<A>>,
    /// Streams that have ended in this turn. They are dropped at the end of the turn: by then it is known whether the
    /// far end has closed the connection with them.
    gone: Vec<Stream<A>>,
    /// Whether the client has sent a request on this connection.
    has_request: bool,
    last_received: Instant,
    /// Since when there has been no open stream, as far as that was noticed.
    unused_since: Option<Instant>,
    /// When a PING was sent that is not answered yet.
    asked: Option<Instant>,
    /// Whether the server is shutting down.
    leaving: bool,
}

/// A request and its response.
struct Stream<A: Authority> {
    id: StreamId,
    work: Work<A>,
    /// The part of the response that is being sent.
    sending: Option<Piece>,
}

enum Work<A: Authority> {
    Ads(Box<AdsStream<A>>),
    Call(Call),
}

enum Piece {
    Message(Message),
    Bytes(Bytes),
}

/// The state of a stream after it was polled.
enum Outcome {
    /// The stream continues.
    Open,
    Finished(Option<HeaderMap>),
    Failed,
    /// The response was complete with its head.
    Gone,
}

impl<'a, A: Authority> Connection<'a, A> {
    fn new(context: &'a Arc<Context<A>>, transport: Transport, peer: Peer) -> Connection<'a, A> {
        Connection {
            context,
            peer,
            transport,
            http2: Http2::new(LIMITS),
            streams: Vec::new(),
            gone: Vec::new(),
            has_request: false,
            last_received: Instant::now(),
            unused_since: None,
            asked: None,
            leaving: false,
        }
    }

    /// Runs until the connection ends.
    async fn run(mut self) -> Result<(), BoxError> {
        let ended = {
            let mut shutdown = pin!(self.context.shutdown.cancelled());
            let mut timer = pin!(sleep(self.context.timeouts.first_request));
            poll_fn(|cx| {
                if !self.leaving && shutdown.as_mut().poll(cx).is_ready() {
                    self.leave();
                }
                let mut ended = self.poll(cx);
                // After reading, since what has come may have waited for us.
                while ended.is_pending() && timer.as_mut().poll(cx).is_ready() {
                    self.on_timer(timer.as_mut())?;
                    ended = self.poll(cx);
                }
                ended
            })
            .await
        };
        // Open streams are dropped before the connection is closed, so that nothing waits for the close.
        self.streams.clear();
        let closed = timeout(CLOSE_TIMEOUT, poll_fn(|cx| self.transport.poll_close(cx, self.http2.output()))).await;
        ended?;
        Ok(closed??)
    }

    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        let output = self.http2.output();
        if output.is_empty() {
            *output = SPARE.take();
        }
        let ended = self.poll_turns(cx);
        self.gone = Vec::new();
        let output = self.http2.output();
        if output.is_empty() {
            let spare = std::mem::take(output);
            if spare.capacity() <= 2 * GATHERED {
                SPARE.set(spare);
            }
        }
        ended
    }

    fn poll_turns(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        let mut are_due = true;
        for _ in 0..READS_AT_ONCE {
            let mut is_blocked = self.transport.poll_flush(cx)?.is_pending();
            let mut has_read = false;
            if self.http2.output().len() < MAX_UNREAD {
                match self.poll_receive(cx)? {
                    Poll::Ready(true) => has_read = true,
                    Poll::Ready(false) => return Poll::Ready(Ok(())),
                    Poll::Pending => {}
                }
            }
            // If the socket is blocked, streams are polled when it accepts more.
            if !is_blocked {
                if are_due || has_read {
                    self.poll_streams(cx);
                }
                // Streams may have more to send than the buffer had room for.
                are_due = self.http2.output().len() >= GATHERED;
                is_blocked = self.transport.poll_send(cx, self.http2.output())?.is_pending();
                if !is_blocked && self.http2.is_done() {
                    return Poll::Ready(Ok(()));
                }
            }
            if !has_read && (is_blocked || !are_due) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once from the socket and processes what was read. False when the peer has finished sending.
    fn poll_receive(&mut self, cx: &mut TaskContext<'_>) -> Result<Poll<bool>, BoxError> {
        let Connection { context, peer, transport, http2, streams, gone, has_request, .. } = self;
        let received = transport.poll_receive(cx, &mut |mut bytes| {
            while let Some(event) = http2.receive(&mut bytes).map_err(io::Error::other)? {
                match event {
                    Event::Request { stream, request, end } => {
                        *has_request = true;
                        streams.extend(begin(context, peer, http2, stream, request, end));
                    }
                    Event::Data { stream, data, end } => {
                        if on_data(streams, http2, stream, data, end).is_err() {
                            http2.reset(stream, ErrorCode::InternalError);
                            gone.extend(remove(streams, http2, stream));
                        }
                    }
                    Event::Reset { stream } => gone.extend(remove(streams, http2, stream)),
                }
            }
            Ok(())
        });
        if received.is_ready() {
            self.last_received = Instant::now();
        }
        match received {
            Poll::Ready(received) => Ok(Poll::Ready(received?)),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Polls all streams, and removes those that have ended.
    fn poll_streams(&mut self, cx: &mut TaskContext<'_>) {
        let Connection { http2, streams, gone, leaving, .. } = self;
        gone.extend(streams.extract_if(.., |stream| {
            // A panic ends the stream, and hurts no other.
            let outcome = catch_unwind(AssertUnwindSafe(|| stream.poll(cx, http2, *leaving)));
            match outcome.unwrap_or(Outcome::Failed) {
                Outcome::Open => return false,
                Outcome::Finished(trailers) => http2.finish(stream.id, trailers.as_ref()),
                Outcome::Failed => http2.reset(stream.id, ErrorCode::InternalError),
                Outcome::Gone => {}
            }
            stream.discard(http2);
            true
        }));
    }

    /// Begins the shutdown: sends GOAWAY and ends the ADS streams. The connection closes after its last stream.
    fn leave(&mut self) {
        self.leaving = true;
        self.http2.go_away();
        for stream in &mut self.streams {
            if let Work::Ads(stream) = &mut stream.work {
                stream.end(shutting_down());
            }
        }
    }

    fn on_timer(&mut self, mut timer: Pin<&mut Sleep>) -> Result<(), BoxError> {
        if !self.has_request {
            return Err("the first request did not come in time".into());
        }
        let now = Instant::now();
        match self.unused_since {
            _ if !self.streams.is_empty() => self.unused_since = None,
            None => self.unused_since = Some(now),
            Some(since) if now - since >= self.context.timeouts.no_stream => {
                return Err("the peer has no stream".into());
            }
            Some(_) => {}
        }
        if self.asked.take().is_some_and(|asked| self.last_received <= asked) {
            return Err("the peer does not answer".into());
        }
        self.http2.reset_counters();
        let due = self.last_received + self.context.timeouts.idle;
        if due > now {
            timer.as_mut().reset(due);
        } else {
            self.asked = Some(now);
            self.http2.ping();
            timer.as_mut().reset(now + self.context.timeouts.ping_answer);
        }
        Ok(())
    }
}

/// Starts to answer a request. `None` if it is answered already.
fn begin<A: Authority>(
    context: &Arc<Context<A>>,
    peer: &Peer,
    http2: &mut Http2,
    id: StreamId,
    request: Request<()>,
    end: bool,
) -> Option<Stream<A>> {
    let started = catch_unwind(AssertUnwindSafe(|| start(context, peer, request)));
    let mut work = match started {
        Ok(Ok(work)) => work,
        Ok(Err(status)) => {
            http2.reject(id, &status.into_response().map(drop));
            return None;
        }
        Err(_) => {
            http2.reset(id, ErrorCode::InternalError);
            return None;
        }
    };
    if let Work::Ads(_) = work {
        let mut response = Response::new(());
        response.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
        http2.respond(id, &response, false);
    }
    if end {
        work.receive(Bytes::new(), true);
    }
    Some(Stream { id, work, sending: None })
}

fn start<A: Authority>(context: &Arc<Context<A>>, peer: &Peer, request: Request<()>) -> Result<Work<A>, Status> {
    let Some(variant) = context.service.variant(request.uri().path()) else {
        let handler = context.routes.get(request.uri().path());
        let handler = handler.ok_or_else(|| Status::new(Code::Unimplemented, "there is no such method"))?;
        return Ok(Work::Call(Call::new(|body| handler(peer.clone(), request.map(|()| body)))));
    };
    check_call(request.method(), request.headers())?;
    let proof = context.authority.admit(peer, request.headers())?;
    if context.authority.is_proof(&proof) {
        peer.has_proved_itself();
    }
    let opening = Opening::new(context.authority.clone(), peer.clone(), proof);
    Ok(Work::Ads(Box::new(AdsStream::new(variant, context.service.session(variant), opening))))
}

fn check_call(method: &Method, headers: &HeaderMap) -> Result<(), Status> {
    let is_grpc =
        headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(CONTENT_TYPE_GRPC.as_bytes()));
    if method != Method::POST || !is_grpc {
        return Err(Status::new(Code::Unimplemented, "this is a gRPC method"));
    }
    Ok(())
}

/// Passes a piece of a request body to its stream.
///
/// # Errors
/// The code that handles the request has panicked.
fn on_data<A: Authority>(
    streams: &mut [Stream<A>],
    http2: &mut Http2,
    id: StreamId,
    data: &[u8],
    end: bool,
) -> std::thread::Result<()> {
    let Some(stream) = streams.iter_mut().find(|stream| stream.id == id) else {
        http2.release(id, data.len());
        return Ok(());
    };
    if let Work::Ads(_) = stream.work {
        http2.release(id, data.len());
    }
    catch_unwind(AssertUnwindSafe(|| stream.work.receive(Bytes::copy_from_slice(data), end)))
}

fn remove<A: Authority>(streams: &mut Vec<Stream<A>>, http2: &mut Http2, id: StreamId) -> Option<Stream<A>> {
    let position = streams.iter().position(|stream| stream.id == id)?;
    let mut stream = streams.swap_remove(position);
    stream.discard(http2);
    Some(stream)
}

impl<A: Authority> Work<A> {
    fn receive(&mut self, data: Bytes, end: bool) {
        match self {
            Work::Ads(stream) => stream.receive(data, end),
            Work::Call(call) => call.receive(data, end),
        }
    }
}

impl<A: Authority> Stream<A> {
    /// Sends what the stream produces until the output buffer is full or the stream has nothing to send.
    fn poll(&mut self, cx: &mut TaskContext<'_>, http2: &mut Http2, leaving: bool) -> Outcome {
        while self.send(http2) && http2.output().len() < GATHERED {
            let part = match &mut self.work {
                Work::Ads(stream) => match stream.poll_message(cx) {
                    Poll::Ready(Ok(message)) => Piece::Message(message),
                    Poll::Ready(Err(outcome)) => return Outcome::Finished(Some(outcome.trailers())),
                    Poll::Pending => return Outcome::Open,
                },
                Work::Call(call) => match call.poll_part(cx, leaving) {
                    Poll::Ready(Part::Head(head, is_all)) => {
                        http2.respond(self.id, &head, is_all);
                        if is_all {
                            return Outcome::Gone;
                        }
                        continue;
                    }
                    Poll::Ready(Part::Data(data)) => Piece::Bytes(data),
                    Poll::Ready(Part::End(trailers)) => return Outcome::Finished(trailers),
                    Poll::Ready(Part::Failed) => return Outcome::Failed,
                    Poll::Pending => {
                        http2.release(self.id, call.take_read(cx));
                        return Outcome::Open;
                    }
                },
            };
            self.sending = Some(part);
        }
        Outcome::Open
    }

    /// Sends the rest of the current part. False if the output buffer or a window has no room for all of it.
    fn send(&mut self, http2: &mut Http2) -> bool {
        while let Some(piece) = &mut self.sending {
            let room = GATHERED.saturating_sub(http2.output().len());
            let (sent, left) = match piece {
                Piece::Message(message) => (http2.send(self.id, message, room), message.remaining()),
                Piece::Bytes(bytes) => (http2.send(self.id, bytes, room), bytes.remaining()),
            };
            if left == 0 {
                self.sending = None;
            } else if !sent {
                return false;
            }
        }
        true
    }

    /// Releases the unread rest of the request body in the flow control windows; the stream has ended.
    fn discard(&mut self, http2: &mut Http2) {
        if let Work::Call(call) = &mut self.work {
            http2.release(self.id, call.take_unread());
        }
    }
}
