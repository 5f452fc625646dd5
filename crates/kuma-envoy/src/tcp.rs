//! What holds for every connection that carries bytes: how long it may be quiet, how often it is tried, and how it
//! is noticed that the machine at its other end is gone.

use envoy_api::Duration;
use envoy_api::envoy::config::cluster::v3::UpstreamConnectionOptions;
use envoy_api::envoy::config::core::v3::{BackoffStrategy, TcpKeepalive};
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;

/// No limit, where Envoy has one by default.
pub(crate) const NEVER: Duration = Duration { seconds: 0, nanos: 0 };

/// How often a connection to a service is tried before it is given up. An attempt goes to the next instance, so with
/// as many that refuse connections as that serve, one connection in a million fails.
const ATTEMPTS: u32 = 20;

/// Pauses between them are random, at most twice as long each time, between these. Together the attempts that are
/// refused at once take some 0.5 s: as long as it may take until the proxies at both ends have learnt of one change.
const SHORTEST_PAUSE: Duration = Duration { seconds: 0, nanos: 5_000_000 };
const LONGEST_PAUSE: Duration = Duration { seconds: 0, nanos: 50_000_000 };

/// A connection on which nothing happens is probed after so many seconds, then so often, at such a distance: a
/// machine that has gone without a word is noticed after 20 s.
const QUIET: u32 = 10;
const PROBES: u32 = 2;
const DISTANCE: u32 = 5;

/// Carries connections to where `clusters` says.
pub(crate) fn proxy(stat_prefix: String, clusters: ClusterSpecifier) -> TcpProxy {
    TcpProxy {
        stat_prefix,
        cluster_specifier: Some(clusters),
        // A connection that is quiet for an hour would be closed: databases keep theirs for days.
        idle_timeout: Some(NEVER),
        ..TcpProxy::default()
    }
}

/// The same to the instances of a service: where one cannot be connected to, another one may.
pub(crate) fn proxy_to_instances(stat_prefix: String, clusters: ClusterSpecifier) -> TcpProxy {
    TcpProxy {
        max_connect_attempts: Some(ATTEMPTS),
        backoff_options: Some(BackoffStrategy {
            base_interval: Some(SHORTEST_PAUSE),
            max_interval: Some(LONGEST_PAUSE),
        }),
        ..proxy(stat_prefix, clusters)
    }
}

/// Keepalive, of what listens and of what dials.
pub(crate) fn keepalive() -> TcpKeepalive {
    TcpKeepalive { keepalive_time: Some(QUIET), keepalive_probes: Some(PROBES), keepalive_interval: Some(DISTANCE) }
}

/// The same for the connections of a cluster.
pub(crate) fn upstream_keepalive() -> UpstreamConnectionOptions {
    UpstreamConnectionOptions { tcp_keepalive: Some(keepalive()), ..UpstreamConnectionOptions::default() }
}
