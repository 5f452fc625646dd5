//! v1alpha1 over gRPC.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderMap, Method, Request, StatusCode, Version};
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use kuma_xds::grpc::{CONTENT_TYPE_GRPC, Code, FrameDecoder, Status};
use kuma_xds::{DiscoveryRequest, Request as AnyRequest, Variant};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::list::Message;
use super::session::{Heard, Session};
use super::{List, Mads};
use crate::http::ApiError;
use crate::metrics::{Answer, Discovery, StreamMetrics};

/// Largest request, in bytes: the names of some thousand proxies.
const MAX_REQUEST: usize = 64 * 1024;

/// How long a client may take to send its first request.
const FIRST_MESSAGE: Duration = Duration::from_secs(15);

/// The answer for an unknown path.
pub(super) fn no_such_method(request: &Request<Body>) -> Response {
    if is_grpc(request.headers()) {
        return respond(Status::new(Code::Unimplemented, "there is no such method").into_response());
    }
    ApiError::no_such_path().into_response()
}

impl Mads {
    /// Serves a stream: sends the list, and again whenever it changes.
    pub(super) fn stream(self: &Arc<Self>, request: Request<Body>) -> Response {
        if let Err(refusal) = check_call(&request) {
            return *refusal;
        }
        let peer = request.extensions().get::<crate::http::Connection>().map(|ends| ends.peer.to_string());
        let stream = Stream {
            requests: request.into_body(),
            decoder: FrameDecoder::new(MAX_REQUEST),
            session: Session::default(),
            sending: None,
            list: self.list.clone(),
            stop: self.stop.clone(),
            silence: Some(Instant::now() + FIRST_MESSAGE),
            metrics: self.metrics.stream(Discovery::Mads),
            peer: peer.unwrap_or_default(),
        };
        grpc_response(stream::unfold(Some(stream), |stream| async {
            let mut stream = stream?;
            match stream.next().await {
                Ok(piece) => Some((Ok(Frame::data(piece)), Some(stream))),
                Err(outcome) => Some((Ok(Frame::trailers(outcome.trailers())), None)),
            }
        }))
    }

    /// Answers one request with the list.
    pub(super) fn fetch(self: &Arc<Self>, request: Request<Body>) -> Response {
        if let Err(refusal) = check_call(&request) {
            return *refusal;
        }
        let mads = self.clone();
        let answer = async move {
            let asked = tokio::time::timeout(FIRST_MESSAGE, one_request(request.into_body())).await;
            let asked = asked.unwrap_or_else(|_| Err(late()))?;
            Ok(mads.list.borrow().message(&asked.resource_names.into_iter().collect(), &mads.life))
        };
        grpc_response(stream::once(answer).flat_map(|answer: Result<Message, Status>| {
            let (message, outcome) = match answer {
                Ok(message) => (Some(message), Status::ok()),
                Err(status) => (None, status),
            };
            let pieces = message.into_iter().flat_map(|mut message| std::iter::from_fn(move || message.next_piece()));
            let end = Frame::trailers(outcome.trailers());
            stream::iter(pieces.map(Frame::data).chain([end]).map(Ok))
        }))
    }
}

fn late() -> Status {
    Status::new(Code::DeadlineExceeded, "the first request did not come in time")
}

/// A running stream, as the body of its response. HTTP/2 requests the next piece when it can send it, so a client that
/// does not read is not read from either.
struct Stream {
    requests: Body,
    decoder: FrameDecoder,
    session: Session,
    sending: Option<Message>,
    list: watch::Receiver<Arc<List>>,
    stop: CancellationToken,
    /// The deadline for the first request of the client.
    silence: Option<Instant>,
    metrics: StreamMetrics,
    peer: String,
}

impl Stream {
    /// The next piece to send, or the outcome of the stream.
    async fn next(&mut self) -> Result<Bytes, Status> {
        loop {
            if let Some(piece) = self.sending.as_mut().and_then(Message::next_piece) {
                return Ok(piece);
            }
            self.sending = None;
            let list = self.list.borrow_and_update().clone();
            let now = Instant::now();
            let due = self.session.due(&list, now);
            if due.is_some_and(|due| due <= now) {
                self.sending = Some(self.session.send(&list, now));
                self.metrics.assignments(Answer::Sent);
                continue;
            }
            tokio::select! {
                () = self.stop.cancelled() => {
                    return Err(Status::new(Code::Unavailable, "the control plane is shutting down"));
                }
                frame = self.requests.frame() => match frame {
                    None => return Err(Status::ok()),
                    Some(Err(_)) => return Err(Status::new(Code::Cancelled, "the client has gone")),
                    Some(Ok(frame)) => self.take(frame)?,
                },
                changed = self.list.changed() => if changed.is_err() {
                    return Err(Status::new(Code::Unavailable, "the control plane is shutting down"));
                },
                () = until(due) => {}
                () = until(self.silence) => return Err(late()),
            }
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), Status> {
        let Ok(piece) = frame.into_data() else { return Ok(()) };
        self.decoder.push(piece);
        while let Some(message) = self.decoder.next_message()? {
            let request = read_request(&message)?;
            if self.silence.take().is_some() {
                let client = request.node.as_ref().map(|node| node.id.as_str()).unwrap_or_default();
                tracing::info!(client, peer = %self.peer, "a monitoring client connected");
            }
            let error = request.error_detail.as_ref().map(|error| error.message.clone());
            match self.session.on_request(request)? {
                Heard::Ack => self.metrics.assignments(Answer::Acked),
                Heard::Nack => {
                    tracing::warn!(peer = %self.peer, error,
                        "a monitoring client refused a list and keeps what it had");
                    self.metrics.assignments(Answer::Nacked);
                }
                Heard::Question | Heard::Stale => {}
            }
        }
        Ok(())
    }
}

/// Waits until a time; forever if there is none.
pub(super) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The one message of a unary call.
async fn one_request(mut body: Body) -> Result<DiscoveryRequest, Status> {
    let mut decoder = FrameDecoder::new(MAX_REQUEST);
    loop {
        if let Some(message) = decoder.next_message()? {
            return read_request(&message);
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(piece) = frame.into_data() {
                    decoder.push(piece);
                }
            }
            _ => return Err(Status::new(Code::InvalidArgument, "there is no request")),
        }
    }
}

fn read_request(message: &[u8]) -> Result<DiscoveryRequest, Status> {
    match AnyRequest::decode(Variant::Sotw, message)? {
        AnyRequest::Sotw(request) => Ok(request),
        AnyRequest::Delta(_) => Err(Status::new(Code::InvalidArgument, "not a discovery request")),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(CONTENT_TYPE_GRPC.as_bytes()))
}

/// Checks that this is a gRPC call. A client with plain HTTP gets a message that says what to use.
fn check_call(request: &Request<Body>) -> Result<(), Box<Response>> {
    if request.method() != Method::POST {
        return Err(Box::new(ApiError::method_not_allowed("POST").into_response()));
    }
    if request.version() != Version::HTTP_2 || !is_grpc(request.headers()) {
        let details =
            format!("This is a method of gRPC (application/grpc over HTTP/2); {} is for HTTP", kuma_mads::v1::PATH);
        let error = ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type", details);
        return Err(Box::new(error.into_response()));
    }
    Ok(())
}

fn grpc_response(
    frames: impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static,
) -> Response {
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
    response
}

fn respond(response: ::http::Response<kuma_xds::grpc::BoxBody>) -> Response {
    response.map(Body::new)
}
