//! The kinds of resource, one file each, and the one list of them.
//!
//! A new kind is a file here and its lines in this file; REST, kumactl, stores and tables loop over the list.

use crate::resource::Kind;

mod dataplane;
mod dataplane_insight;
mod health_check;
mod mesh;
mod metrics;
mod proxy_template;
#[cfg(test)]
mod testing;
mod traffic_log;
mod traffic_permission;
mod traffic_route;
mod traffic_trace;

pub use dataplane::{
    Dataplane, Gateway, Inbound, InboundInterface, Networking, Outbound, OutboundInterface, TransparentProxying,
    takes_over,
};
pub use dataplane_insight::{
    Counters, DataplaneInsight, Departure, Rejection, Subscription, SubscriptionStatus, UNENCRYPTED, UnsettledResource,
};
pub use health_check::{ActiveChecks, HealthCheck, HealthCheckConf, HttpChecks, PassiveChecks};
pub use mesh::{
    Ca, Collector, DEFAULT_METRICS_PATH, DEFAULT_METRICS_PORT, LogSink, Logging, LoggingBackend, Mesh, Mtls, Tracing,
    TracingBackend, Zipkin, ZipkinAddress,
};
pub use metrics::{Metrics, PrometheusMetrics};
pub use proxy_template::{DEFAULT_PROXY, ProxyTemplate, ProxyTemplateConf, RawResource};
pub use traffic_log::{TrafficLog, TrafficLogConf};
pub use traffic_permission::TrafficPermission;
pub use traffic_route::{TrafficRoute, WeightedDestination};
pub use traffic_trace::{TrafficTrace, TrafficTraceConf};

/// Every kind of resource that people or the control plane write as documents.
pub static KINDS: &[Kind] = &[
    Kind::of::<Mesh>(),
    Kind::of::<Dataplane>(),
    Kind::of::<DataplaneInsight>(),
    Kind::of::<HealthCheck>(),
    Kind::of::<ProxyTemplate>(),
    Kind::of::<TrafficLog>(),
    Kind::of::<TrafficPermission>(),
    Kind::of::<TrafficRoute>(),
    Kind::of::<TrafficTrace>(),
];

/// The kind under which stores keep keys and certificates. It is in no list, so that no API serves it.
pub const SECRET_KIND: &str = "Secret";

/// The kind under which stores keep that the proxy of a Dataplane has left, so that every control plane knows it. Its
/// mesh and name are those of the Dataplane. It is in no list, so that no API serves it.
pub const DEPARTURE_KIND: &str = "Departure";

/// The name of a kind that stores keep, served or not.
pub fn stored_kind(name: &str) -> Option<&'static str> {
    let hidden = [SECRET_KIND, DEPARTURE_KIND].into_iter().find(|kind| *kind == name);
    hidden.or_else(|| kind(name).map(|kind| kind.name))
}

/// Whether a kind is in [`KINDS`]: only those are told to people.
pub fn is_public(kind: &str) -> bool {
    KINDS.iter().any(|public| public.name == kind)
}

/// The kind of that `type:`.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The kind whose collection in the REST API is called so.
pub fn by_api_path(path: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.api_path == path)
}

/// The kind that `kumactl get` calls so.
pub fn by_cli_list(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.cli_list == name)
}

/// The kind that `kumactl delete` calls so.
pub fn by_cli_one(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.cli_one == name)
}
