//! A call of a method other than ADS.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Response};
use http_body::{Body, Frame};

use crate::grpc::{BoxBody, Code, Status};

/// The body of a request, for the handler of a [route](super::Routes). It ends where the client has ended it, or when
/// the stream is no more.
pub struct RequestBody(Arc<Mutex<Pieces>>);

/// What has come and is not read yet. HTTP/2 gives the client room for more only when it is.
#[derive(Default)]
struct Pieces {
    pieces: VecDeque<Bytes>,
    ended: bool,
    /// Bytes that were read since it was last asked.
    read: usize,
    reader: Option<Waker>,
    /// The connection, which has to give room for what was read.
    connection: Option<Waker>,
}

/// One call.
pub(super) struct Call {
    body: Arc<Mutex<Pieces>>,
    phase: Phase,
}

enum Phase {
    Answering(BoxFuture<'static, Response<BoxBody>>),
    Sending(BoxBody),
}

/// What comes next of a response.
pub(super) enum Part {
    /// With the end, if there is nothing more.
    Head(Response<()>, bool),
    Data(Bytes),
    End(Option<HeaderMap>),
    Failed,
}

impl Call {
    /// A call that `handle` answers, given its body.
    pub(super) fn new(handle: impl FnOnce(RequestBody) -> BoxFuture<'static, Response<BoxBody>>) -> Call {
        let body = Arc::<Mutex<Pieces>>::default();
        Call { phase: Phase::Answering(handle(RequestBody(body.clone()))), body }
    }

    /// Takes a piece of the request body.
    pub(super) fn receive(&mut self, data: Bytes, end: bool) {
        let mut body = lock(&self.body);
        if !data.is_empty() {
            body.pieces.push_back(data);
        }
        body.ended |= end;
        body.wake_reader();
    }

    /// How many bytes of the body were read since the last time.
    pub(super) fn take_read(&mut self, cx: &mut Context<'_>) -> usize {
        let mut body = lock(&self.body);
        body.connection = Some(cx.waker().clone());
        std::mem::take(&mut body.read)
    }

    /// How many bytes of the body nobody will read any more.
    pub(super) fn take_unread(&mut self) -> usize {
        let mut body = lock(&self.body);
        std::mem::take(&mut body.read) + body.pieces.drain(..).map(|piece| piece.len()).sum::<usize>()
    }

    /// The next part of the response. With `leaving`, an answer that is not complete is cut short.
    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>, leaving: bool) -> Poll<Part> {
        match &mut self.phase {
            Phase::Answering(answer) => {
                let answer = match answer.as_mut().poll(cx) {
                    Poll::Pending if leaving => shutting_down().into_response(),
                    answer => ready!(answer),
                };
                let (head, body) = answer.into_parts();
                // A status without a body has to be one frame, else clients do not take it for one.
                let is_all = body.is_end_stream();
                self.phase = Phase::Sending(body);
                Poll::Ready(Part::Head(Response::from_parts(head, ()), is_all))
            }
            Phase::Sending(body) => {
                let frame = match Pin::new(body).poll_frame(cx) {
                    Poll::Pending if leaving => return Poll::Ready(Part::End(Some(shutting_down().trailers()))),
                    frame => ready!(frame),
                };
                Poll::Ready(match frame.map(|frame| frame.map(Frame::into_data)) {
                    None => Part::End(None),
                    Some(Err(_)) => Part::Failed,
                    Some(Ok(Ok(data))) => Part::Data(data),
                    Some(Ok(Err(frame))) => Part::End(frame.into_trailers().ok()),
                })
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut body = lock(&self.body);
        body.ended = true;
        body.wake_reader();
    }
}

impl Pieces {
    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut body = lock(&self.0);
        match body.pieces.pop_front() {
            Some(piece) => {
                body.read += piece.len();
                if let Some(connection) = body.connection.take() {
                    connection.wake();
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            None if body.ended => Poll::Ready(None),
            None => {
                body.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Why streams end when the server does.
pub(super) fn shutting_down() -> Status {
    Status::new(Code::Unavailable, "the control plane is shutting down")
}

fn lock(body: &Mutex<Pieces>) -> MutexGuard<'_, Pieces> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}
