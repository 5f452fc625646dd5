//! What the programs of the project say to one another, and nothing else does: each message is here once, for who
//! writes it and who reads it.
//!
//! - [`catalog`]: where the servers of a control plane are (`GET /catalog` of its HTTP API);
//! - [`bootstrap`]: what kuma-dp asks for before it starts Envoy (`POST /bootstrap` of the bootstrap server);
//! - [`lifecycle`]: what kuma-dp reports of its proxy, over gRPC.
//!
//! Left out: what others define (xDS, MADS, Envoy's configuration) and the documents (`kuma-model`).

pub mod bootstrap;
pub mod catalog;
pub mod lifecycle;
