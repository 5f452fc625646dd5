//! Large answers, within a budget: clients that ask for much and read nothing must not cost the others their control
//! plane.
//!
//! An answer is made off the threads that serve, a few at a time, and the memory of a large one counts until the
//! connection has taken it, piece by piece. Who finds the budget spent is told to try again.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ApiError;

/// Memory of large answers that are under way, in KiB.
const BUDGET_KIB: u32 = 128 * 1024;
/// Answers below this do not count: even one on each connection is less than the budget.
const LARGE: usize = 64 * 1024;
/// What a connection is given at a time, in bytes.
const PIECE: usize = 64 * 1024;
/// How many answers are made at a time. Making one costs its size several times over.
const MAKERS: usize = 2;
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes answers.
#[derive(Debug)]
pub struct Outgoing {
    makers: Arc<Semaphore>,
    kib: Arc<Semaphore>,
}

impl Default for Outgoing {
    fn default() -> Outgoing {
        Outgoing { makers: Arc::new(Semaphore::new(MAKERS)), kib: Arc::new(Semaphore::new(BUDGET_KIB as usize)) }
    }
}

impl Outgoing {
    /// A `200 OK` with the JSON that `make` gives.
    ///
    /// # Errors
    /// 503 when the budget is spent, or when its turn has not come within 10 s.
    pub async fn respond(
        &self,
        title: &str,
        make: impl FnOnce() -> Vec<u8> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let busy = || {
            let details = "Too many large answers are under way. Try again later, or ask for pages with `size`";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, title, details)
        };
        let answer = async {
            let maker = self.makers.clone().acquire_owned().await.map_err(|_| busy())?;
            // Held by the work itself: a client that goes away does not let another one begin beside it.
            let made = tokio::task::spawn_blocking(move || (make(), maker)).await;
            let (text, _maker) = made.map_err(|error| ApiError::internal(title, &error))?;
            let text = Bytes::from(text);
            let permit = if text.len() < LARGE {
                None
            } else {
                let kib = u32::try_from(text.len() / 1024).unwrap_or(BUDGET_KIB).min(BUDGET_KIB);
                // Not waited for: others, with small answers, wait for the maker.
                Some(self.kib.clone().try_acquire_many_owned(kib).map_err(|_| busy())?)
            };
            let body = Body::new(Pieces { rest: text, _permit: permit });
            Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
        };
        tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(busy()))
    }
}

/// A body that is given piece by piece, so that what is left of it is known to be in memory.
struct Pieces {
    rest: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let end = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(end);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn large() -> Vec<u8> {
        vec![b'x'; 96 * 1024 * 1024]
    }

    #[tokio::test]
    async fn large_answers_that_nobody_reads_are_bounded_and_small_ones_go_on() {
        let outgoing = Outgoing::default();
        let unread = outgoing.respond("t", large).await.expect("the first fits");
        let refused = outgoing.respond("t", large).await.expect_err("the second does not");
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        outgoing.respond("t", || "{}".into()).await.expect("a small one needs no budget");

        let read = unread.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(read.len(), large().len());
        outgoing.respond("t", large).await.expect("what was read is free again");
    }
}
