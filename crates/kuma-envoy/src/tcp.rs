//! Settings of all TCP connections: idle timeout, attempts to connect, and keepalive.

use envoy_api::Duration;
use envoy_api::envoy::config::cluster::v3::UpstreamConnectionOptions;
use envoy_api::envoy::config::core::v3::{BackoffStrategy, TcpKeepalive};
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;

/// Turns off a timeout that Envoy has by default.
pub(crate) const NEVER: Duration = Duration { seconds: 0, nanos: 0 };

/// How often Envoy tries to connect to a service. Each attempt goes to another instance: if half of the instances
/// refuse connections, one connection in a million fails.
const ATTEMPTS: u32 = 20;

/// The pauses between attempts are random and grow within these limits. When every attempt is refused at once, all of
/// them take some 0.5 s: long enough for the proxies at both ends to have received the same change.
const SHORTEST_PAUSE: Duration = Duration { seconds: 0, nanos: 5_000_000 };
const LONGEST_PAUSE: Duration = Duration { seconds: 0, nanos: 50_000_000 };

/// TCP keepalive, in seconds: the first probe comes after `IDLE`, the next ones every `INTERVAL`. A machine that has
/// vanished is noticed after 20 s.
const IDLE: u32 = 10;
const PROBES: u32 = 2;
const INTERVAL: u32 = 5;

/// A filter that passes connections on to `clusters`.
pub(crate) fn proxy(stat_prefix: String, clusters: ClusterSpecifier) -> TcpProxy {
    TcpProxy {
        stat_prefix,
        cluster_specifier: Some(clusters),
        // Envoy's default is an hour. Connection pools of databases keep idle connections for days.
        idle_timeout: Some(NEVER),
        ..TcpProxy::default()
    }
}

/// A filter that passes connections on to the instances of a service, and tries another one where it cannot connect.
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

/// TCP keepalive of listeners.
pub(crate) fn keepalive() -> TcpKeepalive {
    TcpKeepalive { keepalive_time: Some(IDLE), keepalive_probes: Some(PROBES), keepalive_interval: Some(INTERVAL) }
}

/// TCP keepalive of clusters.
pub(crate) fn upstream_keepalive() -> UpstreamConnectionOptions {
    UpstreamConnectionOptions { tcp_keepalive: Some(keepalive()), ..UpstreamConnectionOptions::default() }
}
