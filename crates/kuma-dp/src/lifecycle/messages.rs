//! The messages of `kuma.dataplane.v1alpha1.DataplaneLifecycle/Report`.
//!
//! ```proto
//! service DataplaneLifecycle { rpc Report(stream Report) returns (stream Order); }
//! ```
//! The control plane sends no `Order` so far; what it sends is passed over.

/// The path of the method.
pub(super) const METHOD: &str = "/kuma.dataplane.v1alpha1.DataplaneLifecycle/Report";

/// How one proxy is.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Report {
    #[prost(string, tag = "1")]
    pub(super) mesh: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(enumeration = "State", tag = "3")]
    pub(super) state: i32,
    /// For a person; may be empty.
    #[prost(string, tag = "4")]
    pub(super) detail: String,
    /// Tells this kuma-dp from another one of the same Dataplane; made anew at each start.
    #[prost(string, tag = "5")]
    pub(super) instance: String,
}

/// The states of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum State {
    /// Never sent; what a reader makes of a state it does not know.
    Unknown = 0,
    /// Envoy runs.
    Running = 1,
    /// Envoy is about to end: it should get no new connections.
    Draining = 2,
    /// Envoy has ended.
    EnvoyExited = 3,
}
