//! Tracing: spans of requests, to a collector that speaks Zipkin's protocol.

use std::net::IpAddr;
use std::sync::Arc;

use envoy_api::Any;
use envoy_api::envoy::config::cluster::v3::Cluster;
use envoy_api::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily};
use envoy_api::envoy::config::trace::v3::zipkin_config::CollectorEndpointVersion;
use envoy_api::envoy::config::trace::v3::{ZipkinConfig, tracing};
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager;
use envoy_api::envoy::r#type::v3::Percent;
use kuma_mesh::{MeshDataplane, MeshSnapshot};

use crate::cluster;
use crate::key::{Spans, Tracing};
use crate::names;

/// Path at which collectors take spans, if the URL has none.
const DEFAULT_PATH: &str = "/api/v2/spans";

/// Path for spans of version 1, which Envoy does not support any more. Collectors that have this path have the other
/// one too, so it is replaced.
const FIRST_VERSION_PATH: &str = "/api/v1/spans";

/// The tracing settings of a proxy, if it has any.
pub(crate) fn plan(snapshot: &MeshSnapshot, dataplane: &MeshDataplane) -> Option<Arc<Tracing>> {
    let backend = snapshot.trace_backend(dataplane)?;
    let zipkin = backend.zipkin.as_ref()?;
    let collector = zipkin.collector()?;
    let spans = if zipkin.api_version == "httpProto" { Spans::Protobuf } else { Spans::Json };
    let path = match collector.path {
        "" | "/" | FIRST_VERSION_PATH => DEFAULT_PATH.to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        query => format!("{DEFAULT_PATH}{query}"),
    };
    Some(Arc::new(Tracing {
        cluster: names::tracing_cluster(&backend.name).into(),
        host: collector.host.into(),
        port: collector.port,
        authority: collector.authority.into(),
        path: path.into(),
        sampling: hundredths(backend.sampling.unwrap_or(100.0)),
        long_ids: zipkin.trace_id_128bit,
        spans,
    }))
}

/// Envoy's unit is a hundredth of a percent. A percentage above 0 is at least one of them.
fn hundredths(percentage: f64) -> u16 {
    let hundredths = (percentage * 100.0).round().clamp(0.0, 10_000.0) as u16;
    if percentage > 0.0 { hundredths.max(1) } else { 0 }
}

/// The cluster of the collector.
pub(crate) fn collector(name: &str, host: &str, port: u16) -> Cluster {
    // An IP address needs no DNS.
    let discovery = match host.parse::<IpAddr>() {
        Ok(_) => DiscoveryType::Static,
        Err(_) => DiscoveryType::StrictDns,
    };
    Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery as i32)),
        load_assignment: Some(cluster::one_endpoint(name, host, port)),
        // Listeners must not wait until the collector's name is resolved.
        wait_for_warm_on_init: Some(false),
        // By default each of its addresses is an endpoint, and a collector often listens on one of them only.
        dns_lookup_family: DnsLookupFamily::V4Preferred as i32,
        ..cluster::remote(name.to_owned())
    }
}

/// How requests are traced.
pub(crate) fn of_requests(tracing: &Tracing) -> http_connection_manager::Tracing {
    let version = match tracing.spans {
        Spans::Json => CollectorEndpointVersion::HttpJson,
        Spans::Protobuf => CollectorEndpointVersion::HttpProto,
    };
    let zipkin = ZipkinConfig {
        collector_cluster: tracing.cluster.to_string(),
        collector_endpoint: tracing.path.to_string(),
        collector_hostname: tracing.authority.to_string(),
        collector_endpoint_version: version as i32,
        trace_id_128bit: tracing.long_ids,
        ..ZipkinConfig::default()
    };
    http_connection_manager::Tracing {
        // Also for requests that ask to be traced. The decision depends on the request's id, so all proxies on its
        // way decide alike.
        overall_sampling: Some(Percent { value: f64::from(tracing.sampling) / 100.0 }),
        provider: Some(tracing::Http {
            name: "envoy.tracers.zipkin".into(),
            config_type: Some(tracing::http::ConfigType::TypedConfig(Any::pack(&zipkin))),
        }),
        ..http_connection_manager::Tracing::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_counts_in_hundredths_of_a_percent() {
        for (percentage, expected) in [(0.0, 0), (0.001, 1), (0.5, 50), (12.34, 1234), (100.0, 10_000)] {
            assert_eq!(hundredths(percentage), expected, "{percentage}");
        }
    }
}
