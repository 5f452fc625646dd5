//! What a proxy's configuration is made of: small keys, each with every input that its bytes depend on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use envoy_api::ResourceType;
pub use kuma_mesh::Peer;
use kuma_mesh::{Endpoints, RawResource};

/// One resource of Envoy, before it is encoded.
///
/// Equal keys give equal bytes. So whoever holds keys can share what is encoded, and needs to encode only what is new.
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
        /// Where it is, by the configuration of the control plane: an address that a proxy reports is not to be
        /// trusted.
        address: SocketAddr,
    },
    /// Metrics for Prometheus: `kuma:metrics:prometheus`.
    MetricsListener {
        /// Port on which they are offered, on every address.
        port: u16,
        /// The one path at which they are.
        path: Arc<str>,
    },
    /// The endpoints of one destination, found by EDS.
    ServiceCluster {
        /// Name of the cluster, as [`names::service_cluster`](crate::names::service_cluster) makes it.
        name: Arc<str>,
        /// SPIFFE id that its endpoints must prove, where the mesh has mTLS.
        tls: Option<Arc<str>>,
        /// How it is found out which of its endpoints are healthy; without, all are.
        health: Option<Health>,
        /// Whether they speak HTTP.
        http: bool,
    },
    /// The collector of traces: `tracing:<backend>`.
    TracingCluster {
        /// Name of the cluster.
        name: Arc<str>,
        /// Address of the collector, or a name to look it up by.
        host: Arc<str>,
        /// Its port.
        port: u16,
    },
    /// Where the connections go whose destination is no listener's, in a transparent proxy: `pass_through`.
    PassThroughCluster,
    /// The endpoints of a cluster.
    Endpoints {
        /// Name of the cluster.
        cluster: Arc<str>,
        /// Its endpoints; none is an answer too.
        endpoints: Arc<Endpoints>,
        /// Whether none are known because the control plane has yet to learn of them, rather than because there are
        /// none: no part of the bytes, but not to be sent over what a proxy has.
        placeholder: bool,
    },
    /// What a proxy listens on for its peers: `inbound:<address>:<port>`.
    InboundListener {
        /// Address on which the proxy listens.
        address: IpAddr,
        /// Port on which the proxy listens.
        port: u16,
        /// Port of the application, on loopback.
        service_port: u16,
        /// Whether the mesh has mTLS: peers must prove who they are, and be permitted.
        tls: bool,
        /// Whether the application speaks HTTP: then what is done with requests is [`ResourceKey::HttpInbound`].
        http: bool,
        /// Whether connections come by [`ResourceKey::CatchAllListener`], so that it binds no port of its own.
        transparent: bool,
    },
    /// What an inbound does with requests: the extension config `http:<inbound>`.
    HttpInbound {
        /// Name of the inbound's listener.
        inbound: Arc<str>,
        /// The service that it stands for.
        service: Arc<str>,
        /// Port of the application, on loopback.
        port: u16,
        /// How its requests are traced, if they are.
        tracing: Option<Arc<Tracing>>,
    },
    /// Who may complete a TLS handshake with an inbound: the secret `allowed:<inbound>`.
    AllowedPeers {
        /// Name of the inbound's listener.
        inbound: Arc<str>,
        /// Roots of the mesh's CA, PEM.
        roots: Arc<str>,
        /// Who; none means nobody.
        peers: Arc<[Peer]>,
    },
    /// What the permissions say of an inbound: the extension config `rbac:<inbound>`.
    Rbac {
        /// Name of the inbound's listener.
        inbound: Arc<str>,
        /// One for each permission; none means nobody.
        policies: Arc<[Policy]>,
    },
    /// The same for each request: the extension config `http-rbac:<inbound>`.
    HttpRbac {
        /// Name of the inbound's listener.
        inbound: Arc<str>,
        /// One for each permission; `None` means that nothing is enforced.
        policies: Option<Arc<[Policy]>>,
    },
    /// What an application dials: `outbound:<address>:<port>`.
    OutboundListener {
        /// Address on which the proxy listens.
        address: IpAddr,
        /// Port on which the proxy listens.
        port: u16,
        /// How much of the flow is permitted.
        flow: Flow,
        /// Whether it carries HTTP: then what is done with requests is [`ResourceKey::HttpOutbound`], else where
        /// connections go is [`ResourceKey::Split`].
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
        /// Where to; none means nowhere: connections are reset.
        clusters: Arc<[WeightedCluster]>,
        /// What is noted of each connection when it ends, if anything is.
        log: Option<AccessLog>,
    },
    /// What an outbound does with requests: the extension config `http:<outbound>`. Where they go is
    /// [`ResourceKey::Routes`].
    HttpOutbound {
        /// Name of the outbound's listener.
        outbound: Arc<str>,
        /// The service that is dialled.
        service: Arc<str>,
        /// What is noted of each request, if anything is.
        log: Option<AccessLog>,
        /// How its requests are traced, if they are.
        tracing: Option<Arc<Tracing>>,
    },
    /// Where the requests to a service go: the routes `outbound:<service>`.
    Routes {
        /// The service that is dialled.
        service: Arc<str>,
        /// Where to; none means nowhere: requests are answered with 503.
        clusters: Arc<[WeightedCluster]>,
    },
    /// What the operating system redirects the connections of a transparent proxy to: `catch_all`, `catch_all_ipv6`.
    CatchAllListener {
        /// Every address of IPv4, or of IPv6.
        address: IpAddr,
        /// Port on which the proxy listens.
        port: u16,
    },
    /// What proves a server's identity: the secret `mesh_ca`.
    MeshCa {
        /// Roots of the mesh's CA, PEM.
        roots: Arc<str>,
    },
    /// What a ProxyTemplate gives as it is.
    Raw {
        /// What it is.
        resource_type: ResourceType,
        /// Its name and its bytes.
        resource: Arc<RawResource>,
    },
}

/// What one permission says of an inbound.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Policy {
    /// Name of the permission.
    pub name: Arc<str>,
    /// Whom it permits; one that permits nobody is left out.
    pub peers: Arc<[Peer]>,
}

/// How much of what an outbound carries is permitted. It is the name of the listener's filter chain, so a change of it,
/// and nothing else, ends the connections that are open, within the drain time.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Flow {
    /// The mesh has no mTLS: nothing is enforced.
    Open,
    /// Enforced, and permitted.
    Permitted,
    /// Enforced, and permitted to these clusters, sorted and distinct, among those of a split.
    Partly(Arc<[Arc<str>]>),
    /// Enforced, and not permitted.
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

/// How it is found out which endpoints of a cluster are healthy. What is not healthy gets no connection, even if
/// nothing is.
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
    /// So many failures in a row make an endpoint unhealthy.
    pub unhealthy_threshold: u32,
    /// So many successes in a row make it healthy again.
    pub healthy_threshold: u32,
    /// What is asked; without, it connects and no more.
    pub http: Option<HttpCheck>,
}

/// A request that tells whether an endpoint is healthy.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HttpCheck {
    /// The host that is asked for: the service.
    pub host: Arc<str>,
    /// The path, with its query.
    pub path: Arc<str>,
    /// Status codes of good answers; 200 alone if there are none.
    pub statuses: Arc<[u16]>,
}

/// Checks by watching.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PassiveCheck {
    /// So many failed connections in a row eject an endpoint.
    pub failures: u32,
    /// For so long.
    pub penalty: Duration,
}

/// How requests are traced.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Tracing {
    /// Name of the collector's cluster.
    pub cluster: Arc<str>,
    /// Address of the collector, or a name to look it up by.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Its host and port as it is called by them.
    pub authority: Arc<str>,
    /// Path, and query, at which it takes spans.
    pub path: Arc<str>,
    /// How many of the requests, in hundredths of a percent.
    pub sampling: u16,
    /// Whether the ids of traces have 128 bits instead of 64.
    pub long_ids: bool,
    /// In which form it takes spans.
    pub spans: Spans,
}

/// The form of spans.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Spans {
    /// JSON, in the second version of Zipkin's model.
    Json,
    /// The same in protobuf.
    Protobuf,
}

impl ResourceKey {
    /// This with another attempt at opening the file of its log, if it has one.
    #[must_use]
    pub fn with_log_attempt(mut self, number: u32) -> ResourceKey {
        if let ResourceKey::Split { log: Some(AccessLog::File { attempt, .. }), .. }
        | ResourceKey::HttpOutbound { log: Some(AccessLog::File { attempt, .. }), .. } = &mut self
        {
            *attempt = number;
        }
        self
    }
}

/// What is noted of each connection, or each request, when it ends. The formats are as Envoy reads them, with nothing
/// of ours left in them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum AccessLog {
    /// A line in a file on the proxy's machine.
    File {
        /// Its path.
        path: Arc<str>,
        /// What a line is.
        format: LogFormat,
        /// How often a proxy has been sent this before because it could not open the file. Envoy 1.40 accepts an
        /// extension config that it has refused without a look when it comes again just as it was.
        attempt: u32,
    },
    /// A line to a server, which kuma-dp sends.
    Tcp {
        /// `HOST:PORT` of the server.
        address: Arc<str>,
        /// What a line is.
        format: LogFormat,
    },
}

/// What a line of a log is, with Envoy's operators in it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LogFormat {
    /// The line, its end included.
    Text(Arc<str>),
    /// An object in JSON: its fields, and those of objects in it, are texts.
    Json(Arc<str>),
}
