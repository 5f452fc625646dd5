//! From a mesh to the configuration of each proxy, in Envoy's terms (xDS v3).
//!
//! Two steps. [`plan`] says, without any protobuf, what a proxy gets: a list of [`ResourceKey`]s. [`encode`] turns one
//! key into bytes; it reads nothing but the key, so equal keys give equal bytes and one encoding serves every proxy.
//! [`bootstrap()`] is what a proxy starts with, before it can ask for anything.
//!
//! ```
//! use kuma_envoy::{ResourceKey, encode};
//!
//! let encoded = encode(&ResourceKey::LocalCluster { port: 8080, http: false });
//! assert_eq!(&*encoded.name, "localhost:8080");
//! ```
//!
//! One file per concern: a cluster, an inbound, an outbound. [`names`] has every name, since others depend on them.
//!
//! A permission takes effect without closing connections that it does not concern. Envoy drains a listener whose bytes
//! change, so the bytes of a listener hold no permission: they name a secret (`allowed:`, the identities that the TLS
//! handshake admits) and an extension config (`rbac:`). Envoy fetches those by SDS and ECDS and replaces them in place.
//! The destinations of an outbound are separate in the same way (`split:`, or `http:` where it carries HTTP, with its
//! routes by RDS). The only fact about permissions that an outbound listener holds is its [`Flow`](key::Flow).
//!
//! Left out: who is connected, versions, the protocol (`kuma-xds`), and keys of certificates (`kuma-ca`).

mod access_log;
mod address;
mod ads;
mod bootstrap;
mod cluster;
mod encode;
mod endpoints;
mod envoy_headers;
mod health_check;
mod http;
mod inbound;
pub mod key;
mod log_line;
mod metrics;
pub mod names;
mod outbound;
mod plan;
pub mod raw;
mod rbac;
mod retry;
mod routes;
mod secret;
mod tcp;
mod tls;
mod tracing;
mod transparent;

pub use bootstrap::{BootstrapParams, bootstrap};
pub use encode::{Encoded, encode};
pub use key::ResourceKey;
pub use metrics::{MetricsPlan, plan_metrics};
pub use plan::{plan, plan_admission, plan_endpoints, plan_flows};
pub use secret::identity_secret;
