//! What clients say to our side of HTTP/2: as they should, as the protocol forbids it, and to do harm.

mod abuse;
mod client;
mod conformance;
mod echo;
mod hpack;
