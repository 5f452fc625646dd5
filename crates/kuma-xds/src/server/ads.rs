//! An ADS stream, as the body of its response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::time::Sleep;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{Authority, Peer, StreamHandler};
use crate::grpc::{Code, FrameDecoder, Status};
use crate::response::Message;
use crate::session::{Event, Session, StreamState, Variant};
use crate::wire::Request;

/// Bytes of one request. After a reconnect Envoy sends the name and version of everything it holds in one message; 16 MiB
/// is that of 100,000 resources with long names.
const MAX_REQUEST: usize = 16 << 20;

/// How long a stream may stay without a first message. Envoy sends it together with the headers.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(15);

/// Pieces of the request body that are read before responses get a turn.
const READS_AT_ONCE: usize = 64;

pub(super) struct AdsBody<A: Authority> {
    variant: Variant,
    requests: Incoming,
    decoder: FrameDecoder,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    phase: Phase<A>,
}

enum Phase<A: Authority> {
    Opening(Box<Waiting<A>>),
    Open(Open<A::Stream>),
    Ended,
}

struct Waiting<A: Authority> {
    opening: Opening<A>,
    session: Session,
}

/// What is needed until the first message came.
pub(super) struct Opening<A: Authority> {
    authority: Arc<A>,
    peer: Peer,
    proof: A::Proof,
    deadline: Pin<Box<Sleep>>,
}

struct Open<S> {
    session: Session,
    states: WatchStream<StreamState>,
    handler: S,
}

impl<A: Authority> Opening<A> {
    pub(super) fn new(authority: Arc<A>, peer: Peer, proof: A::Proof) -> Opening<A> {
        let deadline = Box::pin(tokio::time::sleep(FIRST_MESSAGE_TIMEOUT));
        Opening { authority, peer, proof, deadline }
    }
}

impl<A: Authority> AdsBody<A> {
    pub(super) fn new(
        variant: Variant,
        session: Session,
        requests: Incoming,
        opening: Opening<A>,
        shutdown: CancellationToken,
    ) -> AdsBody<A> {
        AdsBody {
            variant,
            requests,
            decoder: FrameDecoder::new(MAX_REQUEST),
            shutdown: Box::pin(shutdown.cancelled_owned()),
            phase: Phase::Opening(Box::new(Waiting { opening, session })),
        }
    }

    /// Called only when HTTP/2 has room for more, so nothing is made before it can be sent. A client that does not read is
    /// not read from either, and costs no more than its state.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Message>>> {
        if matches!(self.phase, Phase::Ended) {
            return Poll::Ready(None);
        }
        let frame = match ready!(self.poll_message(cx)) {
            Ok(message) => Frame::data(message),
            Err(outcome) => {
                self.phase = Phase::Ended;
                Frame::trailers(outcome.trailers())
            }
        };
        Poll::Ready(Some(frame))
    }

    /// The next message to send, or the outcome of the stream.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Status>> {
        if self.shutdown.as_mut().poll(cx).is_ready() {
            let message = "the control plane is shutting down";
            return Poll::Ready(Err(Status::new(Code::Unavailable, message)));
        }
        self.read(cx)?;
        match &mut self.phase {
            Phase::Opening(waiting) => {
                ready!(waiting.opening.deadline.as_mut().poll(cx));
                let message = "the first request did not come in time";
                Poll::Ready(Err(Status::new(Code::DeadlineExceeded, message)))
            }
            Phase::Open(open) => open.poll_message(cx),
            Phase::Ended => Poll::Pending,
        }
    }

    /// Takes all requests that are there. Before anything is sent, so that after a reconnect, when the client asks for
    /// all types at once, all are known before one is answered.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        for _ in 0..READS_AT_ONCE {
            match Pin::new(&mut self.requests).poll_frame(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => return Err(Status::ok()),
                Poll::Ready(Some(Err(_))) => {
                    return Err(Status::new(Code::Cancelled, "the client has gone"));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(piece) = frame.into_data() else {
                        continue;
                    };
                    self.decoder.push(piece);
                    while let Some(message) = self.decoder.next_message()? {
                        self.on_message(&message)?;
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn on_message(&mut self, message: &Bytes) -> Result<(), Status> {
        let request = Request::decode(self.variant, message)?;
        self.phase = match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Opening(waiting) => {
                let Waiting { opening, session } = *waiting;
                let (handler, states) = opening.open(self.variant, &request)?;
                Phase::Open(Open { session, states: WatchStream::new(states), handler })
            }
            phase => phase,
        };
        if let Phase::Open(open) = &mut self.phase {
            let mut events = Vec::new();
            let taken = open.session.on_request(request, &mut events);
            open.deliver(events);
            taken?;
            if let Some(status) = open.handler.refusal() {
                return Err(status);
            }
        }
        Ok(())
    }
}

impl<A: Authority> Opening<A> {
    fn open(self, variant: Variant, request: &Request) -> Result<(A::Stream, watch::Receiver<StreamState>), Status> {
        let node = request
            .node()
            .filter(|node| !node.id.is_empty())
            .ok_or_else(|| Status::new(Code::InvalidArgument, "the first request must name its node"))?;
        self.authority.open(&self.peer, self.proof, node, variant)
    }
}

impl<S: StreamHandler> Open<S> {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Status>> {
        // Until pending, so that the next state wakes us.
        while let Poll::Ready(state) = Pin::new(&mut self.states).poll_next(cx) {
            match state {
                Some(StreamState::Close(outcome)) => return Poll::Ready(Err(outcome)),
                Some(state) => self.session.on_state(state),
                None => {
                    let message = "the control plane has let go of this stream";
                    return Poll::Ready(Err(Status::new(Code::Unavailable, message)));
                }
            }
        }
        let mut events = Vec::new();
        let response = self.session.poll(&mut events);
        self.deliver(events);
        match response {
            Some(response) => Poll::Ready(Ok(response.into_message())),
            None => Poll::Pending,
        }
    }

    fn deliver(&mut self, events: Vec<Event>) {
        for event in events {
            self.handler.on_event(event);
        }
    }
}
