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
mod health_check;
mod matching;
mod metrics;
mod policies;
mod protocols;
mod proxy_template;
mod services;
mod snapshot;
mod traffic_log;
mod traffic_permission;
mod traffic_route;
mod traffic_trace;

pub use affected::Affected;
pub use dataplane::{Inbound, MeshDataplane, Outbound};
pub use effects::{Applied, EFFECTS, Effect, ReadTemplate};
pub use endpoints::{Endpoint, Endpoints};
pub use matching::{ConnectionPolicy, ProxyPolicy, best_for_proxy, best_policy};
pub use metrics::MetricsEndpoint;
pub use policies::Policies;
pub use proxy_template::{RawResource, Template};
pub use snapshot::{MeshSnapshot, Side};
pub use traffic_permission::{Admitted, Flow, KnownCallers, Peer};
pub use traffic_route::{Destination, Destinations};
