//! Hand-made configurations of one proxy. `golden` prints them; `real_envoy` gives them to Envoy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use kuma_envoy::key::{
    AccessLog, ActiveCheck, Flow, Health, HttpCheck, LogFormat, PassiveCheck, Peer, Policy, ResourceKey, Spans,
    Tracing, WeightedCluster,
};
use kuma_envoy::names;
use kuma_mesh::{Endpoint, Endpoints};
use kuma_model::Tags;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The values that differ between a test that prints and one that runs.
pub(crate) struct Site {
    /// Port of the inbound.
    pub(crate) inbound: u16,
    /// Port of the application behind the inbound.
    pub(crate) application: u16,
    /// Port of the outbound.
    pub(crate) outbound: u16,
    /// Port to which the connections of a transparent proxy are redirected.
    pub(crate) redirect: u16,
    /// Roots of the mesh's CA, PEM.
    pub(crate) roots: Arc<str>,
}

/// Names and keys of every case.
pub(crate) fn all(site: &Site) -> Vec<(&'static str, Vec<ResourceKey>)> {
    let web = || vec![("web-to-redis", vec![service("web")])];
    vec![
        ("open", without_mtls(site)),
        ("permitted", with_mtls(site, Flow::Permitted, web())),
        ("nobody_permitted", with_mtls(site, Flow::Denied, Vec::new())),
        (
            "several_permissions",
            with_mtls(
                site,
                Flow::Permitted,
                vec![("everyone", vec![mesh()]), ("two", vec![service("api"), service("web")]), ("none", vec![])],
            ),
        ),
        ("split", weighted(site)),
        ("nowhere", nowhere(site)),
        ("gateway", gateway(site)),
        ("transparent", transparent(site)),
        ("checked", checked(site, checks())),
        ("logged_to_a_file", logged(site, file("[%START_TIME%] %UPSTREAM_HOST% 100%%\n"))),
        (
            "logged_as_json_to_a_file",
            logged(
                site,
                AccessLog::File { path: "/dev/null".into(), format: LogFormat::Json(FIELDS.into()), attempt: 0 },
            ),
        ),
        (
            "logged_as_json_over_tcp",
            logged(site, AccessLog::Tcp { address: "127.0.0.1:5000".into(), format: LogFormat::Json(FIELDS.into()) }),
        ),
        ("logged_over_tcp", logged(site, tcp("[%START_TIME%] %UPSTREAM_HOST%\n"))),
        ("metrics", metrics(site)),
        ("http", http(site, without_mtls(site), None)),
        ("http_permitted", http(site, with_mtls(site, Flow::Permitted, web()), None)),
        ("http_nobody_permitted", http(site, with_mtls(site, Flow::Denied, Vec::new()), None)),
        ("http_checked", http(site, checked(site, requests()), None)),
        ("http_split", http(site, weighted(site), None)),
        ("http_nowhere", http(site, nowhere(site), None)),
        ("http_logged_with_everything", http(site, logged(site, file(&everything())), None)),
        ("http_logged_with_everything_over_tcp", http(site, logged(site, tcp(&everything())), None)),
        ("traced", http(site, without_mtls(site), Some(traced("zipkin.invalid", Spans::Json)))),
        ("traced_at_an_address", http(site, without_mtls(site), Some(traced("127.0.0.1", Spans::Protobuf)))),
        ("logged_with_everything", logged(site, file(&everything()))),
        ("logged_with_everything_over_tcp", logged(site, tcp(&everything()))),
    ]
}

/// A proxy with one inbound and one outbound, both to `redis`: its own.
fn without_mtls(site: &Site) -> Vec<ResourceKey> {
    let mut keys = inbound(site, false);
    keys.extend(outbound(site, Flow::Open, &[("redis", 1)]));
    keys.extend(cluster("redis", None, vec![endpoint(site, "1.0")]));
    keys
}

/// The same under mTLS, with these permissions.
pub(crate) fn with_mtls(site: &Site, flow: Flow, permissions: Vec<(&str, Vec<Peer>)>) -> Vec<ResourceKey> {
    let mut keys = inbound(site, true);
    keys.extend(permitting(site, permissions));
    keys.extend(outbound(site, flow, &[("redis", 1)]));
    keys.extend(cluster("redis", Some("spiffe://default/redis"), vec![endpoint(site, "1.0")]));
    keys.push(ResourceKey::MeshCa { roots: site.roots.clone() });
    keys
}

/// The two resources that hold an inbound's permissions.
pub(crate) fn permitting(site: &Site, permissions: Vec<(&str, Vec<Peer>)>) -> [ResourceKey; 2] {
    let inbound: Arc<str> = names::inbound_listener(LOOPBACK, site.inbound).into();
    let policies: Vec<Policy> =
        permissions.into_iter().map(|(name, peers)| Policy { name: name.into(), peers: peers.into() }).collect();
    let peers = policies.iter().flat_map(|policy| policy.peers.iter().cloned()).collect();
    [
        ResourceKey::AllowedPeers { inbound: inbound.clone(), roots: site.roots.clone(), peers },
        ResourceKey::Rbac { inbound, policies: policies.into() },
    ]
}

fn weighted(site: &Site) -> Vec<ResourceKey> {
    let mut keys =
        outbound(site, Flow::Open, &[("redis{version=1.0}", 90), ("redis{version=2.0}", 10), ("redis", 0)]).to_vec();
    keys.extend(cluster("redis{version=1.0}", None, vec![endpoint(site, "1.0"), ipv6("1.0")]));
    keys.extend(cluster("redis{version=2.0}", None, Vec::new()));
    keys
}

fn nowhere(site: &Site) -> Vec<ResourceKey> {
    outbound(site, Flow::Open, &[("redis", 0)]).to_vec()
}

fn gateway(site: &Site) -> Vec<ResourceKey> {
    let mut keys = outbound(site, Flow::Permitted, &[("redis", 1)]).to_vec();
    keys.extend(cluster("redis", Some("spiffe://default/redis"), Vec::new()));
    keys.push(ResourceKey::MeshCa { roots: site.roots.clone() });
    keys
}

/// The tests have no firewall that redirects connections: they only show that Envoy accepts the configuration.
fn transparent(site: &Site) -> Vec<ResourceKey> {
    let mut keys = without_mtls(site);
    for key in &mut keys {
        if let ResourceKey::InboundListener { transparent, .. } | ResourceKey::OutboundListener { transparent, .. } =
            key
        {
            *transparent = true;
        }
    }
    for address in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        keys.push(ResourceKey::CatchAllListener { address, port: site.redirect });
    }
    keys.push(ResourceKey::PassThroughCluster);
    keys
}

/// Active and passive checks; each number is different, so that none can be taken for another.
fn checks() -> Health {
    Health {
        active: Some(ActiveCheck {
            interval: Duration::from_millis(1500),
            timeout: Duration::from_secs(1),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            http: None,
        }),
        passive: Some(PassiveCheck { failures: 4, penalty: Duration::from_nanos(1) }),
    }
}

/// Checks by requests.
fn requests() -> Health {
    let mut health = checks();
    if let Some(active) = &mut health.active {
        active.http =
            Some(HttpCheck { host: "redis".into(), path: "/health?deep=1".into(), statuses: [200, 204].into() });
    }
    health
}

fn checked(site: &Site, checks: Health) -> Vec<ResourceKey> {
    let mut keys = without_mtls(site);
    for key in &mut keys {
        if let ResourceKey::ServiceCluster { health, .. } = key {
            *health = Some(Box::new(checks.clone()));
        }
    }
    keys
}

fn metrics(site: &Site) -> Vec<ResourceKey> {
    vec![
        ResourceKey::AdminCluster { address: (Ipv4Addr::LOCALHOST, 30001).into() },
        ResourceKey::MetricsListener { port: site.redirect, path: "/metrics".into() },
    ]
}

/// A proxy with an access log of its connections.
pub(crate) fn logged(site: &Site, to: AccessLog) -> Vec<ResourceKey> {
    let mut keys = without_mtls(site);
    for key in &mut keys {
        if let ResourceKey::Split { log, .. } = key {
            *log = Some(Box::new(to.clone()));
        }
    }
    keys
}

fn file(format: &str) -> AccessLog {
    AccessLog::File { path: "/dev/null".into(), format: LogFormat::Text(format.into()), attempt: 0 }
}

fn tcp(format: &str) -> AccessLog {
    AccessLog::Tcp { address: "127.0.0.1:5000".into(), format: LogFormat::Text(format.into()) }
}

/// A format in JSON with each kind of field.
const FIELDS: &str = r#"{"took":"%DURATION%","to":{"host":"%UPSTREAM_HOST%","text":"100%% of %PROTOCOL%"},"none":""}"#;

/// Every operator that a document may use.
fn everything() -> String {
    kuma_model::log_format::examples().collect::<Vec<_>>().join(" ") + "\n"
}

/// The same proxy where the applications speak HTTP.
pub(crate) fn http(site: &Site, keys: Vec<ResourceKey>, tracing: Option<Tracing>) -> Vec<ResourceKey> {
    let tracing = tracing.map(Arc::new);
    let inbound: Arc<str> = names::inbound_listener(LOOPBACK, site.inbound).into();
    let mut speaking = Vec::new();
    if let Some(Tracing { cluster, host, port, .. }) = tracing.as_deref() {
        speaking.push(ResourceKey::TracingCluster { name: cluster.clone(), host: host.clone(), port: *port });
    }
    let has_mtls = keys.iter().any(|key| matches!(key, ResourceKey::Rbac { .. }));
    for mut key in keys {
        match &mut key {
            ResourceKey::LocalCluster { http, .. }
            | ResourceKey::ServiceCluster { http, .. }
            | ResourceKey::OutboundListener { http, .. } => *http = true,
            ResourceKey::InboundListener { http, service_port, .. } => {
                *http = true;
                let (inbound, tracing) = (inbound.clone(), tracing.clone());
                let service = "redis".into();
                speaking.push(ResourceKey::HttpInbound { inbound, service, port: *service_port, tracing });
            }
            ResourceKey::Rbac { inbound, policies } => {
                let (inbound, policies) = (inbound.clone(), Some(policies.clone()));
                speaking.push(ResourceKey::HttpRbac { inbound, policies });
            }
            _ => {}
        }
        match key {
            ResourceKey::Split { outbound, service, clusters, log } => {
                let tracing = tracing.clone();
                speaking.push(ResourceKey::HttpOutbound { outbound, service: service.clone(), log, tracing });
                speaking.push(ResourceKey::Routes { service, clusters });
            }
            key => speaking.push(key),
        }
    }
    if !has_mtls && speaking.iter().any(|key| matches!(key, ResourceKey::HttpInbound { .. })) {
        speaking.push(ResourceKey::HttpRbac { inbound, policies: None });
    }
    speaking
}

fn traced(host: &str, spans: Spans) -> Tracing {
    Tracing {
        cluster: "tracing:zipkin".into(),
        host: host.into(),
        port: 9411,
        authority: format!("{host}:9411").into(),
        path: "/api/v2/spans".into(),
        sampling: 1250,
        long_ids: spans == Spans::Protobuf,
        spans,
    }
}

fn inbound(site: &Site, tls: bool) -> Vec<ResourceKey> {
    let Site { inbound, application, .. } = *site;
    vec![
        ResourceKey::LocalCluster { port: application, http: false },
        ResourceKey::InboundListener {
            address: LOOPBACK,
            port: inbound,
            service_port: application,
            tls,
            http: false,
            transparent: false,
        },
    ]
}

pub(crate) fn outbound(site: &Site, flow: Flow, clusters: &[(&str, u32)]) -> [ResourceKey; 2] {
    let name = names::outbound_listener(LOOPBACK, site.outbound);
    [
        ResourceKey::OutboundListener { address: LOOPBACK, port: site.outbound, flow, http: false, transparent: false },
        ResourceKey::Split {
            outbound: name.into(),
            service: "redis".into(),
            clusters: clusters.iter().map(|&(name, weight)| WeightedCluster { name: name.into(), weight }).collect(),
            log: None,
        },
    ]
}

fn cluster(name: &str, tls: Option<&str>, endpoints: Vec<Endpoint>) -> [ResourceKey; 2] {
    [
        ResourceKey::ServiceCluster { name: name.into(), tls: tls.map(Arc::from), health: None, http: false },
        ResourceKey::Endpoints {
            cluster: name.into(),
            endpoints: Arc::new(Endpoints::new(endpoints)),
            placeholder: false,
        },
    ]
}

fn endpoint(site: &Site, version: &str) -> Endpoint {
    Endpoint { address: LOOPBACK, port: site.inbound, tags: tags(version) }
}

fn ipv6(version: &str) -> Endpoint {
    Endpoint { address: "fd00::1".parse().expect("an address"), port: 6379, tags: tags(version) }
}

fn tags(version: &str) -> Arc<Tags> {
    Arc::new(Tags::from([("service", "redis"), ("version", version)]))
}

pub(crate) fn service(name: &str) -> Peer {
    Peer::Service(format!("spiffe://default/{name}").into())
}

pub(crate) fn mesh() -> Peer {
    Peer::Mesh("spiffe://default/".into())
}
