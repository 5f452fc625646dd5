//! The keys of resources: small values, each with every input that the bytes of its resource depend on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use envoy_api::ResourceType;
pub use kuma_mesh::Peer;
use kuma_mesh::{Endpoints, RawResource};

/// One resource of Envoy, before it is encoded.
///
/// Equal keys give equal bytes, so an encoded resource can be shared by all proxies whose plans hold its key.
///
/// What is large and seldom there is boxed: there are several keys for each proxy, in a table with room for twice as
/// many.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ResourceKey {
    /// The application behind an inbound: `localhost:<port>`.
    LocalCluster {
        /// Port of the application, on loopback.
        port: u16,
        /// Whether it speaks HTTP.
        http: bool,
    },
    /// Envoy's own admin server: `kuma:envoy:admin`.
    AdminCluster {
        /// Its address, as the control plane is configured. An address that a proxy reports is not trusted.
        address: SocketAddr,
    },
    /// Metrics for Prometheus: `kuma:metrics:prometheus`.
    MetricsListener {
        /// Port of the listener, which is open on every address.
        port: u16,
        /// Path of the page with the metrics; all other paths are not found.
        path: Arc<str>,
    },
    /// The endpoints of one destination, found by EDS.
    ServiceCluster {
        /// Name of the cluster, as [`names::service_cluster`](crate::names::service_cluster) makes it.
        name: Arc<str>,
        /// SPIFFE id that its endpoints must prove, where the mesh has mTLS.
        tls: Option<Arc<str>>,
        /// How unhealthy endpoints are detected; without checks, all count as healthy.
        health: Option<Box<Health>>,
        /// Whether they speak HTTP.
        http: bool,
    },
    /// The collector of traces: `tracing:<backend>`.
    TracingCluster {
        /// Name of the cluster.
        name: Arc<str>,
        /// IP address or DNS name of the collector.
        host: Arc<str>,
        /// Its port.
        port: u16,
    },
    /// For the connections of a transparent proxy whose destination has no listener: `pass_through`.
    PassThroughCluster,
    /// The endpoints of a cluster.
    Endpoints {
        /// Name of the cluster.
        cluster: Arc<str>,
        /// Its endpoints. An empty list is sent as well.
        endpoints: Arc<Endpoints>,
        /// Whether the list is empty because the control plane has just started and does not know the service's
        /// endpoints yet. A proxy that already holds endpoints keeps them. Not part of the bytes.
        placeholder: bool,
    },
    /// The listener for connections from other proxies: `inbound:<address>:<port>`.
    InboundListener {
        /// Address on which the proxy listens.
        address: IpAddr,
        /// Port on which the proxy listens.
        port: u16,
        /// Port of the application, on loopback.
        service_port: u16,
        /// Whether the mesh has mTLS: clients need a certificate and a permission.
        tls: bool,
        /// Whether the application speaks HTTP. Then [`ResourceKey::HttpInbound`] handles the requests.
        http: bool,
        /// Whether connections come by [`ResourceKey::CatchAllListener`], so that it binds no port of its own.
        transparent: bool,
    },
    /// How an inbound handles requests: the extension config `http:<inbound>`.
    HttpInbound {
        /// Name of the inbound's listener.
        inbound: Arc<str>,
        /// The service of the inbound.
        service: Arc<str>,
        /// Port of the application, on loopback.
        port: u16,
        /// How its requests are traced, if they are.
        tracing: Option<Arc<Tracing>>,
    },
    /// The clients that may complete a TLS handshake with an inbound: the secret `allowed:<inbound>`.
    AllowedPeers {
        /// Name of the inbound's listener.
        inbound: Arc<str>,
        /// Roots of the mesh's CA, PEM.
        roots: Arc<str>,
        /// The clients; an empty list admits nobody.
        peers: Arc<[Peer]>,
    },
    /// The permissions of an inbound, checked for each connection: the extension config `rbac:<inbound>`.
    Rbac {
        /// Name of the inbound's listener.
        inbound: Arc<str>,
        /// One for each permission; an empty list admits nobody.
        policies: Arc<[Policy]>,
    },
    /// The permissions of an inbound, checked for each request: the extension config `http-rbac:<inbound>`.
    HttpRbac {
        /// Name of the inbound's listener.
        inbound: Arc<str>,
        /// One for each permission; `None` means that nothing is enforced.
        policies: Option<Arc<[Policy]>>,
    },
    /// The listener that an application connects to in order to reach a service: `outbound:<address>:<port>`.
    OutboundListener {
        /// Address on which the proxy listens.
        address: IpAddr,
        /// Port on which the proxy listens.
        port: u16,
        /// Which destinations of the flow are permitted.
        flow: Flow,
        /// Whether it carries HTTP. Then [`ResourceKey::HttpOutbound`] handles its requests; otherwise
        /// [`ResourceKey::Split`] handles its connections.
        http: bool,
        /// Whether connections come by [`ResourceKey::CatchAllListener`], so that it binds no port of its own.
        transparent: bool,
    },
    /// Where an outbound's connections go: the extension config `split:<outbound>`.
    Split {
        /// Name of the outbound's listener.
        outbound: Arc<str>,
        /// The service that is dialled.
        service: Arc<str>,
        /// Its destinations. Without any, connections are reset.
        clusters: Arc<[WeightedCluster]>,
        /// The access log of its connections, if there is one.
        log: Option<Box<AccessLog>>,
    },
    /// How an outbound handles requests: the extension config `http:<outbound>`. [`ResourceKey::Routes`] holds their
    /// destinations.
    HttpOutbound {
        /// Name of the outbound's listener.
        outbound: Arc<str>,
        /// The service that is dialled.
        service: Arc<str>,
        /// The access log of its requests, if there is one.
        log: Option<Box<AccessLog>>,
        /// How its requests are traced, if they are.
        tracing: Option<Arc<Tracing>>,
    },
    /// Where the requests to a service go: the routes `outbound:<service>`.
    Routes {
        /// The service that is dialled.
        service: Arc<str>,
        /// Its destinations. Without any, requests are answered with 503.
        clusters: Arc<[WeightedCluster]>,
    },
    /// The listener that the firewall redirects the connections of a transparent proxy to: `catch_all`,
    /// `catch_all_inbound`, and the same for IPv6.
    CatchAllListener {
        /// The unspecified address of IPv4 or of IPv6.
        address: IpAddr,
        /// Port on which the proxy listens.
        port: u16,
        /// Whether it is for those from other machines.
        inbound: bool,
        /// Which of them pass through.
        passes: PassThrough,
    },
    /// The roots by which clients verify servers: the secret `mesh_ca`.
    MeshCa {
        /// Roots of the mesh's CA, PEM.
        roots: Arc<str>,
    },
    /// A raw resource of a ProxyTemplate.
    Raw {
        /// Its type.
        resource_type: ResourceType,
        /// Its name and its bytes.
        resource: Arc<RawResource>,
    },
}

/// Which redirected connections pass through that have no listener of their own.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PassThrough {
    /// None.
    Nothing,
    /// Those to all addresses but these, sorted and distinct.
    AllBut(Arc<[IpAddr]>),
}

/// One permission, as it applies to an inbound.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Policy {
    /// Name of the permission.
    pub name: Arc<str>,
    /// The clients that it permits. A policy without any is left out.
    pub peers: Arc<[Peer]>,
}

/// Which destinations of an outbound are permitted. The value becomes the name of the listener's filter chain. So when
/// it changes, and only then, the open connections of the outbound end, within the drain time.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Flow {
    /// The mesh has no mTLS: nothing is enforced.
    Open,
    /// Enforced: all destinations are permitted.
    Permitted,
    /// Enforced: of the clusters of a split only these are permitted. Sorted, without duplicates.
    Partly(Arc<[Arc<str>]>),
    /// Enforced: no destination is permitted.
    Denied,
}

/// A cluster and its share of the connections.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WeightedCluster {
    /// Name of the cluster.
    pub name: Arc<str>,
    /// Its share, relative to the others'. A cluster of weight 0 is left out.
    pub weight: u32,
}

/// How unhealthy endpoints of a cluster are detected. After an active check they get no connections, even if no
/// endpoint is healthy; a passive check leaves at least one endpoint.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Health {
    /// By connecting to each endpoint from time to time.
    pub active: Option<ActiveCheck>,
    /// By watching the connections of the application.
    pub passive: Option<PassiveCheck>,
}

/// Checks by connecting, or by a request.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ActiveCheck {
    /// Time between two checks of an endpoint.
    pub interval: Duration,
    /// How long connecting may take.
    pub timeout: Duration,
    /// Number of failures in a row that make an endpoint unhealthy.
    pub unhealthy_threshold: u32,
    /// Number of successes in a row that make it healthy again.
    pub healthy_threshold: u32,
    /// The request to send; without one, the check only connects.
    pub http: Option<HttpCheck>,
}

/// A request that tells whether an endpoint is healthy.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HttpCheck {
    /// The `Host` header: the name of the service.
    pub host: Arc<str>,
    /// The path, with its query.
    pub path: Arc<str>,
    /// Status codes of good answers; 200 alone if there are none.
    pub statuses: Arc<[u16]>,
}

/// Checks that watch the traffic.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PassiveCheck {
    /// Number of failures in a row that eject an endpoint.
    pub failures: u32,
    /// How long an endpoint stays ejected.
    pub penalty: Duration,
}

/// How requests are traced.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Tracing {
    /// Name of the collector's cluster.
    pub cluster: Arc<str>,
    /// IP address or DNS name of the collector.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Its host and port, for the `Host` header.
    pub authority: Arc<str>,
    /// Path and query of the URL that takes spans.
    pub path: Arc<str>,
    /// Share of requests that are traced, in hundredths of a percent.
    pub sampling: u16,
    /// Whether the ids of traces have 128 bits instead of 64.
    pub long_ids: bool,
    /// The format in which it takes spans.
    pub spans: Spans,
}

/// The format of spans.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Spans {
    /// JSON, in the second version of Zipkin's model.
    Json,
    /// The same in protobuf.
    Protobuf,
}

impl ResourceKey {
    /// The same key with this number of attempts to open its log file. A key without a log file stays as it is.
    #[must_use]
    pub fn with_log_attempt(mut self, number: u32) -> ResourceKey {
        if let ResourceKey::Split { log: Some(log), .. } | ResourceKey::HttpOutbound { log: Some(log), .. } = &mut self
            && let AccessLog::File { attempt, .. } = &mut **log
        {
            *attempt = number;
        }
        self
    }
}

/// An access log: one record for each connection or request, when it ends. The formats are in Envoy's syntax; the
/// placeholders that only Kuma knows are filled in.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum AccessLog {
    /// A line in a file on the proxy's machine.
    File {
        /// Its path.
        path: Arc<str>,
        /// Format of a line.
        format: LogFormat,
        /// How often the proxy has been sent this log again because it could not open the file. Each attempt needs
        /// other bytes: Envoy 1.40 accepts an extension config that it has refused, without trying it, if the same
        /// bytes come again.
        attempt: u32,
    },
    /// A line to a server, which kuma-dp sends.
    Tcp {
        /// `HOST:PORT` of the server.
        address: Arc<str>,
        /// Format of a line.
        format: LogFormat,
    },
}

/// Format of a record, with Envoy's command operators.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LogFormat {
    /// The line, its end included.
    Text(Arc<str>),
    /// A JSON object whose fields, and those of nested objects, are strings.
    Json(Arc<str>),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each proxy has several of its own in the table of resources.
    #[test]
    fn a_key_is_small() {
        assert!(size_of::<ResourceKey>() <= 64, "{} bytes", size_of::<ResourceKey>());
    }
}
