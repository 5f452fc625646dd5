//! The rules that only a real Envoy can confirm, in both variants.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use envoy_api::envoy::config::cluster::v3::Cluster;
use envoy_api::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig};
use envoy_api::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_api::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_api::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress, address,
};
use envoy_api::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_api::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints};
use envoy_api::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_api::{Any, Duration as ProtoDuration};
use http::HeaderMap;
use kuma_xds::grpc::Status;
use kuma_xds::server::{Authority, Peer, Server, StreamHandler};
use kuma_xds::{Event, Node, Resource, ResourceType, Snapshot, StreamState, Variant};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Far longer than any of these tests takes, and less than the 15 s after which Envoy gives up warming.
const PATIENCE: Duration = Duration::from_secs(12);

struct Door {
    states: watch::Receiver<StreamState>,
    events: mpsc::UnboundedSender<Event>,
}

struct Visitor(mpsc::UnboundedSender<Event>);

impl Authority for Door {
    type Stream = Visitor;
    type Proof = ();

    fn admit(&self, _: &Peer, _: &HeaderMap) -> Result<(), Status> {
        Ok(())
    }

    fn is_proof(&self, (): &()) -> bool {
        false
    }

    fn open(&self, _: &Peer, (): (), _: &Node, _: Variant) -> Result<(Visitor, watch::Receiver<StreamState>), Status> {
        Ok((Visitor(self.events.clone()), self.states.clone()))
    }
}

impl StreamHandler for Visitor {
    fn on_event(&mut self, event: Event) {
        let _ = self.0.send(event);
    }
}

struct ControlPlane {
    address: SocketAddr,
    states: watch::Sender<StreamState>,
    events: mpsc::UnboundedReceiver<Event>,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl ControlPlane {
    async fn start(address: SocketAddr, snapshot: Snapshot) -> ControlPlane {
        let (states, receiver) = watch::channel(StreamState::Serve(Arc::new(snapshot)));
        let (sender, events) = mpsc::unbounded_channel();
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let door = Door { states: receiver, events: sender };
        let server = tokio::spawn(Server::new(Arc::new(door)).serve(listener, shutdown.clone()));
        ControlPlane { address, states, events, shutdown, server }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.server.await.expect("it ends");
    }

    /// Serves a snapshot and waits until all of it is answered; returns the events until then.
    async fn serve(&mut self, snapshot: Snapshot) -> Vec<Event> {
        let revision = snapshot.revision();
        self.states.send_replace(StreamState::Serve(Arc::new(snapshot)));
        self.settled(revision).await
    }

    async fn settled(&mut self, revision: u64) -> Vec<Event> {
        self.until(|event| matches!(event, Event::Settled { revision: settled, .. } if *settled == revision)).await
    }

    async fn until(&mut self, is_last: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut seen = Vec::new();
        let wait = async {
            while let Some(event) = self.events.recv().await {
                let is_last = is_last(&event);
                seen.push(event);
                if is_last {
                    return;
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "Envoy has not answered in time; so far: {seen:?}");
        seen
    }
}

struct Envoy {
    process: Child,
    folder: tempfile::TempDir,
}

impl Envoy {
    fn start(variant: Variant, control_plane: SocketAddr) -> Envoy {
        let binary = std::env::var_os("ENVOY_BINARY")
            .expect("the environment variable ENVOY_BINARY must say where Envoy is; `make test` sets it");
        let api_type = match variant {
            Variant::Sotw => "GRPC",
            Variant::Delta => "DELTA_GRPC",
        };
        let port = control_plane.port();
        let bootstrap = format!(
            "node: {{id: default.web-1, cluster: web}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
dynamic_resources:
  ads_config:
    api_type: {api_type}
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services: [{{envoy_grpc: {{cluster_name: xds}}}}]
  cds_config: {{ads: {{}}, resource_api_version: V3}}
  lds_config: {{ads: {{}}, resource_api_version: V3}}
static_resources:
  clusters:
  - name: xds
    connect_timeout: 1s
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: xds
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: \
      {port}}}}}}}}}]}}]
"
        );
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("bootstrap.yaml"), bootstrap).expect("written");
        let process = Command::new(&binary)
            .args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"])
            .args(["--drain-time-s", "1", "--skip-deprecated-logs"])
            .arg("--admin-address-path")
            .arg(folder.path().join("admin"))
            .arg("-c")
            .arg(folder.path().join("bootstrap.yaml"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", Path::new(&binary).display()));
        Envoy { process, folder }
    }

    /// A counter or gauge of Envoy's.
    async fn stat(&self, name: &str) -> u64 {
        let admin = std::fs::read_to_string(self.folder.path().join("admin")).expect("Envoy has started");
        let mut socket = TcpStream::connect(admin.trim()).await.expect("the admin port");
        let request = format!("GET /stats?filter=^{name}$ HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("asked");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("answered");
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name} in {answer}")).trim().parse().expect("a number")
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What is served: one listener whose cluster has the endpoint of an echo server.
#[derive(Clone)]
struct Mesh {
    revision: u64,
    /// Clusters by name, with the seconds of their connect timeout, by which a cluster is changed without an effect.
    clusters: Vec<(String, i64)>,
    /// The port of the listener, and its cluster.
    listener: (SocketAddr, String),
    echo: SocketAddr,
}

impl Mesh {
    fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::builder().revision(self.revision);
        for (name, seconds) in &self.clusters {
            let cluster = cluster(name, *seconds).encode_to_vec();
            let requires = [(ResourceType::Endpoint, Arc::from(name.as_str()))];
            let endpoints = endpoints(name, self.echo).encode_to_vec();
            snapshot = snapshot
                .with(Resource::new(ResourceType::Cluster, name.as_str(), &cluster).requiring(requires))
                .with(Resource::new(ResourceType::Endpoint, name.as_str(), &endpoints));
        }
        let (at, cluster) = &self.listener;
        let listener = listener(*at, cluster).encode_to_vec();
        snapshot.with(Resource::new(ResourceType::Listener, "l", &listener)).build()
    }

    async fn new(echo: SocketAddr) -> Mesh {
        let listener = (free_address().await, "c0".to_owned());
        Mesh { revision: 1, clusters: vec![("c0".to_owned(), 5)], listener, echo }
    }
}

async fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address")
}

fn address(at: SocketAddr) -> Option<Address> {
    let socket_address = SocketAddress {
        address: at.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(at.port().into())),
        ..Default::default()
    };
    Some(Address { address: Some(address::Address::SocketAddress(socket_address)) })
}

fn cluster(name: &str, seconds: i64) -> Cluster {
    let eds_config = ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    };
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(ProtoDuration { seconds, nanos: 0 }),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(eds_config), ..Default::default() }),
        ..Default::default()
    }
}

fn endpoints(name: &str, at: SocketAddr) -> ClusterLoadAssignment {
    let endpoint = Endpoint { address: address(at), ..Default::default() };
    let endpoint = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() };
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() }],
        ..Default::default()
    }
}

fn listener(at: SocketAddr, cluster: &str) -> Listener {
    let proxy = TcpProxy {
        stat_prefix: "l".to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    };
    let filter = Filter {
        name: "envoy.filters.network.tcp_proxy".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(Any::pack(&proxy))),
    };
    Listener {
        name: "l".to_owned(),
        address: address(at),
        filter_chains: vec![FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    }
}

async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn is_echoed(at: SocketAddr) -> bool {
    let attempt = async {
        let mut socket = TcpStream::connect(at).await?;
        socket.write_all(b"ping").await?;
        let mut answer = [0; 4];
        socket.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer == *b"ping")
    };
    matches!(tokio::time::timeout(PATIENCE, attempt).await, Ok(Ok(true)))
}

fn count(events: &[Event], resource_type: ResourceType) -> usize {
    let sent = Event::Sent { resource_type };
    events.iter().filter(|event| **event == sent).count()
}

/// Starts both and waits until the listener is open.
async fn start(variant: Variant) -> (ControlPlane, Envoy, Mesh) {
    let mesh = Mesh::new(echo_server().await).await;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut control_plane = ControlPlane::start(any, mesh.snapshot()).await;
    let envoy = Envoy::start(variant, control_plane.address);
    let listeners = Event::Acked { resource_type: ResourceType::Listener };
    control_plane.until(|event| *event == listeners).await;
    control_plane.settled(1).await;
    assert!(is_echoed(mesh.listener.0).await);
    (control_plane, envoy, mesh)
}

async fn o2(variant: Variant) {
    let (mut control_plane, envoy, mut mesh) = start(variant).await;
    for round in 0..5 {
        mesh.revision += 1;
        mesh.clusters[0].1 += 1;
        let events = control_plane.serve(mesh.snapshot()).await;
        assert_eq!(count(&events, ResourceType::Cluster), 1, "round {round}: {events:?}");
        assert_eq!(count(&events, ResourceType::Endpoint), 1, "round {round}: {events:?}");
        assert_eq!(events.len(), 5, "two responses, two ACKs and then quiet: {events:?}");
        assert_eq!(envoy.stat("cluster_manager.warming_clusters").await, 0);
    }
}

/// Without its endpoints sent again, a changed cluster would be warming for 15 s, with its ACK withheld.
#[tokio::test]
async fn o2_a_changed_cluster_warms_at_once_over_delta() {
    o2(Variant::Delta).await;
}

#[tokio::test]
async fn o2_a_changed_cluster_warms_at_once_over_sotw() {
    o2(Variant::Sotw).await;
}

async fn o1(variant: Variant) {
    let (mut control_plane, _envoy, mut mesh) = start(variant).await;
    let at = mesh.listener.0;
    let done = CancellationToken::new();
    let (requests, failures) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let probe = {
        let (done, requests, failures) = (done.clone(), requests.clone(), failures.clone());
        tokio::spawn(async move {
            while !done.is_cancelled() {
                requests.fetch_add(1, Ordering::Relaxed);
                if !is_echoed(at).await {
                    failures.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    for round in 1..=20 {
        let next = format!("c{round}");
        mesh.revision += 1;
        mesh.clusters = vec![(next.clone(), 5)];
        mesh.listener.1 = next;
        control_plane.serve(mesh.snapshot()).await;
    }
    done.cancel();
    probe.await.expect("it ends");
    assert!(requests.load(Ordering::Relaxed) > 20);
    assert_eq!(failures.load(Ordering::Relaxed), 0);
}

/// The listener's cluster is replaced again and again, and no request finds it missing.
#[tokio::test]
async fn o1_make_before_break_over_delta() {
    o1(Variant::Delta).await;
}

#[tokio::test]
async fn o1_make_before_break_over_sotw() {
    o1(Variant::Sotw).await;
}

async fn c6(variant: Variant) {
    let (mut control_plane, _envoy, mut mesh) = start(variant).await;
    let good = mesh.listener.0;
    mesh.revision += 1;
    // TEST-NET-1: no machine has this address.
    mesh.listener.0 = SocketAddr::from(([192, 0, 2, 1], good.port()));
    let events = control_plane.serve(mesh.snapshot()).await;
    let nacks: Vec<&std::sync::Arc<str>> = events
        .iter()
        .filter_map(|event| match event {
            Event::Nacked { resource_type: ResourceType::Listener, message, .. } => Some(message),
            _ => None,
        })
        .collect();
    let [message] = nacks[..] else { panic!("one NACK: {events:?}") };
    assert!(message.contains("192.0.2.1") && !message.contains('\n'), "{message}");
    let refused_at = |event: Option<&Event>| match event {
        Some(Event::Settled { revision, refused, .. }) => {
            (*revision, refused.iter().map(|one| (one.resource_type, one.revision)).collect::<Vec<_>>())
        }
        other => panic!("not settled: {other:?}"),
    };
    assert_eq!(refused_at(events.last()), (2, vec![(ResourceType::Listener, 2)]));

    // Something else changes: the refused listener is not sent again.
    mesh.revision += 1;
    mesh.clusters[0].1 += 1;
    let events = control_plane.serve(mesh.snapshot()).await;
    assert_eq!(count(&events, ResourceType::Listener), 0, "{events:?}");
    assert_eq!(refused_at(events.last()), (3, vec![(ResourceType::Listener, 2)]), "an older refusal, still told");

    mesh.revision += 1;
    mesh.listener.0 = free_address().await;
    let events = control_plane.serve(mesh.snapshot()).await;
    assert_eq!(count(&events, ResourceType::Listener), 1, "{events:?}");
    assert_eq!(refused_at(events.last()), (4, Vec::new()));
    assert!(is_echoed(mesh.listener.0).await);
}

#[tokio::test]
async fn c6_what_envoy_refused_is_not_sent_again_over_delta() {
    c6(Variant::Delta).await;
}

#[tokio::test]
async fn c6_what_envoy_refused_is_not_sent_again_over_sotw() {
    c6(Variant::Sotw).await;
}

async fn c14(variant: Variant) {
    const COUNTERS: [&str; 4] = [
        "cluster_manager.cds.update_success",
        "listener_manager.lds.update_success",
        "cluster_manager.cluster_modified",
        "listener_manager.listener_modified",
    ];
    let (control_plane, envoy, mesh) = start(variant).await;
    let mut before = Vec::new();
    for counter in COUNTERS {
        before.push(envoy.stat(counter).await);
    }
    let address = control_plane.address;
    control_plane.stop().await;
    assert!(is_echoed(mesh.listener.0).await, "nobody needs the control plane for that");

    // Created again, with the same content.
    let mut control_plane = ControlPlane::start(address, mesh.snapshot()).await;
    let back = |event: &Event| matches!(event, Event::Reported { resource_type: ResourceType::Listener, .. });
    let mut events = control_plane.until(back).await;
    events.extend(control_plane.settled(1).await);
    let expected = match variant {
        Variant::Delta => 0,
        // S5: a client that names resources is sent them.
        Variant::Sotw => 1,
    };
    for resource_type in ResourceType::ALL {
        let expected = if resource_type == ResourceType::Endpoint { expected } else { 0 };
        assert_eq!(count(&events, resource_type), expected, "{events:?}");
    }
    for (counter, before) in COUNTERS.into_iter().zip(before) {
        assert_eq!(envoy.stat(counter).await, before, "{counter}");
    }
}

#[tokio::test]
async fn c14_c15_a_restart_sends_nothing_over_delta() {
    c14(Variant::Delta).await;
}

#[tokio::test]
async fn c14_c15_a_restart_sends_nothing_over_sotw() {
    c14(Variant::Sotw).await;
}
