//! The rules of the protocol, each by its id, with the session alone; random histories; and the server over loopback.

mod common;
mod delta;
mod histories;
mod order;
mod real_envoy;
mod refusals;
mod script;
mod server;
mod sotw;
