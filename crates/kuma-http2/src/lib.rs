//! The server's side of HTTP/2 (RFC 9113), as a state machine without I/O.
//!
//! A control plane has a connection for each proxy, on which nothing happens most of the time. So what counts is what
//! an idle connection holds: here a few hundred bytes, and not one buffer. Bytes come in by [`Connection::receive`],
//! which says what they mean; what is to be sent gathers in [`Connection::output`]. Reading, writing, time and tasks
//! are the caller's.
//!
//! It does what a server of gRPC needs, and what the protocol demands of everybody: flow control both ways, header
//! compression ([`hpack`]), the checks of sections 4 to 6 and 8.1 to 8.3. It does not: push, priorities, CONNECT with a
//! protocol, upgrades from HTTP/1.1, the client's side.
//!
//! A peer can make it hold no more than one frame, one header block of 64 KB, and what the windows allow: its buffers
//! are dropped once they are taken. Frames that cause work and carry no data are
//! [counted](Limits::unproductive_frames).

mod connection;
mod error;
mod frame;
pub mod hpack;
mod request;
mod streams;

pub use connection::{Connection, Event, Limits, StreamId};
pub use error::{Error, ErrorCode};
