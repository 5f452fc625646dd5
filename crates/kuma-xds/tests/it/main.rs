//! The rules of the protocol, each by its id, on the pure session; histories at random; and the server over loopback.

mod common;
mod delta;
mod envoy;
mod histories;
mod order;
mod refusals;
mod script;
mod server;
mod sotw;
