//! Reading request bodies within bounds of size and time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;

use super::ApiError;

/// How long a client may take to send its body.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A client that sends too much is listened to a little longer: if the connection were closed under its hands, it would
/// see a reset instead of the answer.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How many times the limit is thrown away while draining.
const DRAIN_FACTOR: usize = 4;

/// Why there is no body.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Longer than the limit, in bytes.
    TooLarge(usize),
    /// Not complete in time.
    TooSlow,
    /// The connection broke, or the framing is wrong.
    Broken,
}

/// Reads the whole body, at most `limit` bytes of it.
pub async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let too_large = announced.is_some_and(|length| length > limit as u64);
    if too_large && headers.contains_key(EXPECT) {
        // The client waits for our word before it sends anything.
        return Err(BodyError::TooLarge(limit));
    }
    match tokio::time::timeout(TIMEOUT, collect(body, limit, too_large)).await {
        Ok(result) => result,
        Err(_) => Err(BodyError::TooSlow),
    }
}

async fn collect(mut body: Body, limit: usize, too_large: bool) -> Result<Bytes, BodyError> {
    let mut collected = BytesMut::new();
    if !too_large {
        loop {
            match next(&mut body).await? {
                None => return Ok(collected.freeze()),
                Some(chunk) if chunk.len() > limit - collected.len() => break,
                Some(chunk) => collected.extend_from_slice(&chunk),
            }
        }
    }
    drop(collected);
    let drained = async {
        let mut budget = limit.saturating_mul(DRAIN_FACTOR);
        while let Ok(Some(chunk)) = next(&mut body).await {
            match budget.checked_sub(chunk.len()) {
                Some(rest) => budget = rest,
                None => break,
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
    Err(BodyError::TooLarge(limit))
}

/// The next piece of data; trailers are skipped.
async fn next(body: &mut Body) -> Result<Option<Bytes>, BodyError> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(_)) => return Err(BodyError::Broken),
        }
    }
}

impl BodyError {
    /// The answer to the client.
    pub fn into_api_error(self, title: &str) -> ApiError {
        let (status, details) = match self {
            Self::TooLarge(limit) => (StatusCode::PAYLOAD_TOO_LARGE, format!("Body is larger than {limit} bytes")),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "Body did not arrive in time".to_string()),
            Self::Broken => (StatusCode::BAD_REQUEST, "Body could not be read".to_string()),
        };
        ApiError::new(status, title, details)
    }
}
