//! What can be wrong with a connection or a stream.

/// Error codes (RFC 9113, section 7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum ErrorCode {
    /// Nothing is.
    NoError = 0x0,
    /// The peer does what the protocol forbids.
    ProtocolError = 0x1,
    /// Our own fault.
    InternalError = 0x2,
    /// The peer sends more than there is room for.
    FlowControlError = 0x3,
    /// A frame on a stream that has ended.
    StreamClosed = 0x5,
    /// A frame of an impossible length.
    FrameSizeError = 0x6,
    /// Not begun: there are too many streams, or the connection is going away.
    RefusedStream = 0x7,
    /// Not needed any more.
    Cancel = 0x8,
    /// A header block that cannot be decoded.
    CompressionError = 0x9,
    /// The peer makes work for nothing.
    EnhanceYourCalm = 0xb,
}

/// Why a connection has to end. The peer is told by a GOAWAY, which is in the output already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason} ({code:?})")]
pub struct Error {
    /// What the peer is told.
    pub code: ErrorCode,
    /// For people.
    pub reason: &'static str,
}

impl Error {
    pub(crate) const fn new(code: ErrorCode, reason: &'static str) -> Error {
        Error { code, reason }
    }

    pub(crate) const fn protocol(reason: &'static str) -> Error {
        Error::new(ErrorCode::ProtocolError, reason)
    }

    pub(crate) const fn size(reason: &'static str) -> Error {
        Error::new(ErrorCode::FrameSizeError, reason)
    }
}
