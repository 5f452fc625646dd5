//! An ADS stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep};
use tokio_stream::wrappers::WatchStream;

use super::bounds::Held;
use super::{Authority, Peer, StreamHandler};
use crate::grpc::{Code, FrameDecoder, Status};
use crate::response::Message;
use crate::session::{Event, Session, StreamState, Variant};
use crate::wire::Request;

/// Bytes of one request. After a reconnect Envoy sends the name and version of everything it holds in one message; 16
/// MiB is that of 100,000 resources with long names.
const MAX_REQUEST: usize = 16 << 20;

/// The same of a client that shows no token. 2 MiB is that of 10,000 resources with long names.
const MAX_UNPROVED_REQUEST: usize = 2 << 20;

/// Bytes of the metadata of a node. Envoy's own have some hundred, kuma-dp adds less.
const MAX_METADATA: usize = 64 << 10;

/// How long a stream may stay without a first message. Envoy sends it together with the headers.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(15);

/// Pause before what a client has refused is sent to it once more. Doubled each time, up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// One stream: takes its client's requests as they come, and says what to send when there is room for it.
pub(super) struct AdsStream<A: Authority> {
    variant: Variant,
    decoder: FrameDecoder,
    /// What is held of a message of a client that has proved nothing; `None` if it has.
    held: Option<Held>,
    phase: Phase<A>,
    /// When its proof ends, if it does.
    end: Option<Box<End>>,
    /// How the stream ends, once that is known. What belongs to it is dropped with it, and not before.
    outcome: Option<Box<Status>>,
}

enum Phase<A: Authority> {
    Opening(Box<Waiting<A>>),
    Open(Open<A::Stream>),
    /// Could not be opened.
    Refused,
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
    /// When what the client has refused is sent again, if it has refused something.
    retry: Option<Box<Retry>>,
}

/// The end of what a client has proved.
struct End {
    at: Pin<Box<Sleep>>,
    outcome: Status,
}

struct Retry {
    at: Pin<Box<Sleep>>,
    pause: Duration,
}

impl Retry {
    fn new() -> Retry {
        Retry { at: Box::pin(tokio::time::sleep(FIRST_RETRY)), pause: FIRST_RETRY }
    }

    /// Whether it is time; then the next time is later.
    fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        let mut is_due = false;
        // Until pending, so that the next time wakes us.
        while self.at.as_mut().poll(cx).is_ready() {
            is_due = true;
            self.pause = (self.pause * 2).min(LONGEST_RETRY);
            self.at.as_mut().reset(Instant::now() + self.pause);
        }
        is_due
    }
}

impl<A: Authority> Opening<A> {
    pub(super) fn new(authority: Arc<A>, peer: Peer, proof: A::Proof) -> Opening<A> {
        let deadline = Box::pin(tokio::time::sleep(FIRST_MESSAGE_TIMEOUT));
        Opening { authority, peer, proof, deadline }
    }
}

impl<A: Authority> AdsStream<A> {
    pub(super) fn new(variant: Variant, session: Session, opening: Opening<A>) -> AdsStream<A> {
        let place = &opening.peer.place;
        let held = (!place.is_proved()).then(|| Held::new(place.clone()));
        let decoder = FrameDecoder::new(if held.is_some() { MAX_UNPROVED_REQUEST } else { MAX_REQUEST });
        let end = opening.authority.end_of_proof(&opening.proof).map(|(end, outcome)| {
            let left = end.duration_since(SystemTime::now()).unwrap_or_default();
            Box::new(End { at: Box::pin(tokio::time::sleep(left)), outcome })
        });
        let phase = Phase::Opening(Box::new(Waiting { opening, session }));
        AdsStream { variant, decoder, held, phase, end, outcome: None }
    }

    /// Takes a piece of the request body. All that has come is taken before anything is sent, so that after a
    /// reconnect, when the client asks for all types at once, all are known before one is answered.
    pub(super) fn receive(&mut self, data: Bytes, end: bool) {
        if self.outcome.is_some() {
            return;
        }
        self.decoder.push(data);
        match self.read() {
            Err(outcome) => self.end(outcome),
            Ok(()) if end => self.end(Status::ok()),
            Ok(()) => {}
        }
    }

    /// Lets the stream end with this outcome, unless it has one.
    pub(super) fn end(&mut self, outcome: Status) {
        self.outcome.get_or_insert_with(|| Box::new(outcome));
    }

    /// The next message to send, or the outcome of the stream. Called only when there is room for more, so nothing is
    /// made before it can be sent: a client that does not read costs no more than its state.
    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Status>> {
        if let Some(outcome) = &self.outcome {
            return Poll::Ready(Err(Status::clone(outcome)));
        }
        if let Some(end) = &mut self.end
            && end.at.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(end.outcome.clone()));
        }
        match &mut self.phase {
            Phase::Opening(waiting) => {
                ready!(waiting.opening.deadline.as_mut().poll(cx));
                let message = "the first request did not come in time";
                Poll::Ready(Err(Status::new(Code::DeadlineExceeded, message)))
            }
            Phase::Open(open) => {
                let polled = open.poll_message(cx);
                match (&polled, &self.held) {
                    (Poll::Ready(Ok(_)), Some(held)) => {
                        held.serve().map_or_else(|full| Poll::Ready(Err(full)), |()| polled)
                    }
                    _ => polled,
                }
            }
            Phase::Refused => Poll::Pending,
        }
    }

    fn read(&mut self) -> Result<(), Status> {
        while let Some(message) = self.decoder.next_message()? {
            let request = Request::decode(self.variant, &message)?;
            self.on_request(request)?;
        }
        match &mut self.held {
            Some(held) => held.set(self.decoder.held()),
            None => Ok(()),
        }
    }

    fn on_request(&mut self, request: Request) -> Result<(), Status> {
        if let Phase::Opening(_) = self.phase {
            let phase = std::mem::replace(&mut self.phase, Phase::Refused);
            if let Phase::Opening(waiting) = phase {
                self.phase = Phase::Open(waiting.open(self.variant, &request)?);
            }
        }
        if let Phase::Open(open) = &mut self.phase {
            open.on_request(request)?;
        }
        Ok(())
    }
}

impl<A: Authority> Waiting<A> {
    fn open(self, variant: Variant, request: &Request) -> Result<Open<A::Stream>, Status> {
        let Waiting { opening: Opening { authority, peer, proof, .. }, session } = self;
        let node = request
            .node()
            .filter(|node| !node.id.is_empty())
            .ok_or_else(|| Status::new(Code::InvalidArgument, "the first request must name its node"))?;
        if node.metadata.as_ref().is_some_and(|metadata| metadata.len() > MAX_METADATA) {
            let message = format!("node.metadata may have at most {MAX_METADATA} bytes");
            return Err(Status::new(Code::InvalidArgument, message));
        }
        let (handler, states) = authority.open(&peer, proof, node, variant)?;
        Ok(Open { session, states: WatchStream::new(states), handler, retry: None })
    }
}

impl<S: StreamHandler> Open<S> {
    fn on_request(&mut self, request: Request) -> Result<(), Status> {
        let mut events = Vec::new();
        let taken = self.session.on_request(request, &mut events);
        self.deliver(events);
        taken?;
        self.handler.refusal().map_or(Ok(()), Err)
    }

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
        if !self.session.has_refused() {
            self.retry = None;
        } else if self.retry.get_or_insert_with(|| Box::new(Retry::new())).is_due(cx) {
            self.session.retry();
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
