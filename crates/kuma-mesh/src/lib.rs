//! One mesh as a value.
//!
//! [`MeshSnapshot`] holds the documents of one mesh together with the indexes that answer, without a scan of the whole
//! mesh, the two questions everything else is made of: *what does this proxy see* (its endpoints, the policies that
//! match it, the peers it admits) and *which proxies does this change concern* ([`Affected`]).
//!
//! The crate is pure: no clock, no I/O, no Envoy. `kuma-envoy` turns what it answers into configuration; the engine of
//! `kuma-cp` owns one snapshot per mesh and applies commits to it.
//!
//! What it leaves out: Envoy's names and messages, certificates, and who is connected.

mod affected;
mod dataplane;
mod effects;
pub mod endpoints;
mod health_checks;
mod logs;
mod matching;
mod metrics;
mod permissions;
mod policies;
mod protocols;
mod routes;
mod services;
mod snapshot;
mod templates;
mod traces;

pub use affected::Affected;
pub use dataplane::{Inbound, MeshDataplane, Outbound};
pub use effects::{Applied, EFFECTS, Effect, ReadTemplate};
pub use endpoints::{Endpoint, Endpoints};
pub use matching::{ConnectionPolicy, ProxyPolicy, best_for_proxy, best_policy};
pub use metrics::MetricsEndpoint;
pub use permissions::{Admitted, Flow, KnownCallers, Peer};
pub use policies::Policies;
pub use routes::Destination;
pub use snapshot::{MeshSnapshot, Side};
pub use templates::{RawResource, Template};
