//! The parts of gRPC over HTTP/2 that a server without code generation needs: statuses, frames, trailers.
//!
//! The wire format is the one of gRPC's PROTOCOL-HTTP2.md: messages with a five-byte prefix in the body, the outcome in
//! the trailers, and HTTP status 200 throughout.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::{BodyExt, Empty};

/// The body of a response of a [route](crate::server::Routes).
pub type BoxBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The media type of every request and response.
pub const CONTENT_TYPE_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The prefix of a message: a flag for compression, and four bytes of length.
pub const PREFIX_LENGTH: usize = 5;

/// The canonical status codes that are used here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Code {
    /// Success.
    Ok = 0,
    /// The client has gone.
    Cancelled = 1,
    /// The request is invalid, whatever the state of the server.
    InvalidArgument = 3,
    /// It took too long.
    DeadlineExceeded = 4,
    /// The requested object does not exist.
    NotFound = 5,
    /// Authenticated, and still not allowed.
    PermissionDenied = 7,
    /// A limit was reached.
    ResourceExhausted = 8,
    /// The state of the server does not allow it.
    FailedPrecondition = 9,
    /// The method or feature does not exist here.
    Unimplemented = 12,
    /// A fault of the server.
    Internal = 13,
    /// Try again: the server is going away or not ready.
    Unavailable = 14,
    /// The client is not authenticated.
    Unauthenticated = 16,
}

/// The outcome of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Status {
    /// An outcome other than plain success.
    pub fn new(code: Code, message: impl Into<String>) -> Status {
        Status { code, message: message.into() }
    }

    /// Success.
    pub fn ok() -> Status {
        Status { code: Code::Ok, message: String::new() }
    }

    /// The trailers that end a call with this outcome.
    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(2);
        trailers.insert(GRPC_STATUS, HeaderValue::from(self.code as u16));
        if !self.message.is_empty()
            && let Ok(message) = HeaderValue::try_from(percent_encode(&self.message))
        {
            trailers.insert(GRPC_MESSAGE, message);
        }
        trailers
    }

    /// A response that consists of this outcome only ("trailers-only").
    pub fn into_response(self) -> Response<BoxBody> {
        let mut response = Response::new(empty_body());
        *response.headers_mut() = self.trailers();
        response.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
        response
    }

    /// Reads the outcome from trailers, or from the headers of a trailers-only response; for clients.
    pub fn from_headers(headers: &HeaderMap) -> Option<(u16, String)> {
        let code = headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()?;
        let message = headers.get(GRPC_MESSAGE).map(|value| percent_decode(value.as_bytes()));
        Some((code, message.unwrap_or_default()))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

/// A response with one message and then `OK`: the answer to a unary call.
pub fn unary_response(message: &[u8]) -> Response<BoxBody> {
    let frames = http_body_util::Full::new(frame(message))
        .with_trailers(async { Some(Ok(Status::ok().trailers())) })
        .map_err(|never| match never {});
    let mut response = Response::new(BodyExt::boxed_unsync(frames));
    response.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
    response
}

/// An empty body.
pub fn empty_body() -> BoxBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A message with its prefix.
///
/// # Panics
/// If the message has 4 GiB or more, which the format cannot express.
pub fn frame(message: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(PREFIX_LENGTH + message.len());
    frame.extend_from_slice(&prefix(message.len()));
    frame.extend_from_slice(message);
    Bytes::from(frame)
}

/// The prefix of an uncompressed message of this length.
///
/// # Panics
/// If the length is 4 GiB or more, which the format cannot express.
pub fn prefix(length: usize) -> [u8; PREFIX_LENGTH] {
    let length = u32::try_from(length).expect("a gRPC message is shorter than 4 GiB");
    let [a, b, c, d] = length.to_be_bytes();
    [0, a, b, c, d]
}

/// Splits a stream of bytes into messages. It holds no memory between messages, so that an idle stream costs nothing,
/// however large its last message was.
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    /// The received part of the next message; empty and without an allocation between messages.
    pending: Pending,
}

#[derive(Debug)]
enum Pending {
    /// At most one piece of the body, shared with the connection's read buffer.
    Piece(Bytes),
    /// A message that came in several pieces.
    Message(BytesMut),
}

impl FrameDecoder {
    /// Messages of more than `limit` bytes are refused.
    pub fn new(limit: usize) -> FrameDecoder {
        FrameDecoder { limit, pending: Pending::Piece(Bytes::new()) }
    }

    /// Adds the next piece of the body. All messages must have been taken out before the next piece is added.
    pub fn push(&mut self, piece: Bytes) {
        match &mut self.pending {
            Pending::Piece(rest) if rest.is_empty() => self.pending = Pending::Piece(piece),
            Pending::Piece(rest) => {
                let mut message = BytesMut::with_capacity(rest.len() + piece.len());
                message.extend_from_slice(rest);
                message.extend_from_slice(&piece);
                self.pending = Pending::Message(message);
            }
            Pending::Message(message) => message.extend_from_slice(&piece),
        }
    }

    /// The next message, once it is complete. RESOURCE_EXHAUSTED if its prefix announces more than the limit,
    /// UNIMPLEMENTED if it is compressed. After an error the stream cannot be used any more.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(length) = self.announced()? else {
            return Ok(None);
        };
        let end = PREFIX_LENGTH + length;
        if self.buffered().len() < end {
            return Ok(None);
        }
        let (mut message, rest) = match std::mem::replace(&mut self.pending, Pending::Piece(Bytes::new())) {
            Pending::Piece(mut piece) => (piece.split_to(end), piece),
            Pending::Message(mut buffer) => {
                let message = buffer.split_to(end).freeze();
                // The rest is copied, so that it does not keep the memory of the whole buffer.
                (message, Bytes::copy_from_slice(&buffer))
            }
        };
        if !rest.is_empty() {
            self.pending = Pending::Piece(rest);
        }
        message.advance(PREFIX_LENGTH);
        Ok(Some(message))
    }

    /// How many bytes are held of messages that have begun and not ended.
    pub fn held(&self) -> usize {
        self.buffered().len()
    }

    /// Whether a message has begun and not ended.
    pub fn is_partial(&self) -> bool {
        !self.buffered().is_empty()
    }

    fn buffered(&self) -> &[u8] {
        match &self.pending {
            Pending::Piece(piece) => piece,
            Pending::Message(message) => message,
        }
    }

    fn announced(&self) -> Result<Option<usize>, Status> {
        let [flag, a, b, c, d, ..] = *self.buffered() else {
            return Ok(None);
        };
        if flag != 0 {
            return Err(Status::new(Code::Unimplemented, "compressed messages are not supported"));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > self.limit {
            let limit = self.limit;
            return Err(Status::new(
                Code::ResourceExhausted,
                format!("a message of {length} bytes is over the limit of {limit}"),
            ));
        }
        Ok(Some(length))
    }
}

/// Encodes everything but printable ASCII, and the percent sign, as %XX of its UTF-8 bytes, as the format requires.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | ..0x20 | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

/// Decodes %XX. Other characters are kept, also invalid sequences, as the format requires.
fn percent_decode(text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let digits = (*first == b'%').then(|| tail.get(..2)).flatten();
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_in_pieces(stream: &[u8], size: usize) -> Vec<Bytes> {
        let mut decoder = FrameDecoder::new(1 << 20);
        let mut messages = Vec::new();
        for piece in stream.chunks(size) {
            decoder.push(Bytes::copy_from_slice(piece));
            while let Some(message) = decoder.next_message().expect("well-formed") {
                messages.push(message);
            }
        }
        assert!(!decoder.is_partial());
        messages
    }

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let messages = [&b"first"[..], b"", &[9; 3000], b"last"];
        let stream: Vec<u8> = messages.iter().flat_map(|message| frame(message)).collect();
        for size in [1, 2, 3, 5, 7, 100, 3001, stream.len()] {
            assert_eq!(decode_in_pieces(&stream, size), messages, "pieces of {size}");
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_prefix() {
        let mut decoder = FrameDecoder::new(10);
        decoder.push(frame(&[0; 10]));
        assert!(decoder.next_message().expect("at the limit").is_some());
        decoder.push(Bytes::copy_from_slice(&prefix(11)));
        let error = decoder.next_message().expect_err("over the limit");
        assert_eq!(error.code, Code::ResourceExhausted);
    }

    #[test]
    fn a_compressed_message_is_refused() {
        let mut decoder = FrameDecoder::new(10);
        decoder.push(Bytes::from_static(&[1, 0, 0, 0, 0]));
        assert_eq!(decoder.next_message().expect_err("compressed").code, Code::Unimplemented);
    }

    #[test]
    fn messages_of_a_status_survive_the_trailers() {
        for text in ["plain", "100% of \"café\"\nnext line", "", "%", "%4"] {
            let trailers = Status::new(Code::NotFound, text).trailers();
            assert_eq!(Status::from_headers(&trailers), Some((5, text.to_owned())));
        }
        let trailers = Status::new(Code::NotFound, "é\n").trailers();
        assert_eq!(trailers["grpc-message"], "%C3%A9%0A");
    }
}
