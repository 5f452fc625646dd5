//! What other implementations of HTTP/2 say to ours.

mod hpack;
