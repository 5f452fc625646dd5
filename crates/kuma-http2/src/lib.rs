//! The server's side of HTTP/2 (RFC 9113), as much of it as long-lived gRPC streams need.
//!
//! The crate is pure: bytes go in, bytes and events come out. It has no sockets, no tasks and no clock, and an idle
//! connection costs what its state costs and no more.

pub mod hpack;
