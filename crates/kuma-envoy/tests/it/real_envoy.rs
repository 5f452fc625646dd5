//! A real Envoy accepts the generated resources and behaves accordingly.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use kuma_ca::{LeafRequest, Root};
use kuma_envoy::key::{Flow, ResourceKey};
use kuma_envoy::{Encoded, encode, identity_secret, names};
use kuma_test::apps::{GREETING, Greeter};
use kuma_test::eventually;
use kuma_test::ports::free_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ads::Ads;
use crate::cases::{self, Site, service};
use crate::envoy::{DRAIN_SECONDS, Envoy, TOKEN};

/// A mesh with one proxy, both `web` and `redis`, whose outbound leads to its own inbound.
struct Fixture {
    ads: Ads,
    site: Site,
    identity: Encoded,
    application: Greeter,
}

impl Fixture {
    async fn new() -> Fixture {
        let root = Root::generate("default", SystemTime::now()).expect("a root");
        let leaf = root
            .issue(&LeafRequest {
                mesh: "default",
                services: &BTreeSet::from(["redis", "web"]),
                validity: Duration::from_secs(3600),
                now: SystemTime::now(),
            })
            .expect("a leaf");
        let application = Greeter::start().await;
        Fixture {
            ads: Ads::start().await,
            site: Site {
                inbound: free_port(),
                application: application.port,
                outbound: free_port(),
                redirect: free_port(),
                redirect_inbound: free_port(),
                roots: root.cert_pem().into(),
            },
            identity: identity_secret(names::IDENTITY_CERT, &leaf.chain_pem, leaf.key_pem.expose()),
            application,
        }
    }

    /// Serves these resources, and the identity if one of them needs it.
    fn serve(&self, keys: &[ResourceKey]) {
        let has_mtls = keys.iter().any(|key| matches!(key, ResourceKey::MeshCa { .. }));
        self.ads.serve(keys.iter().map(encode).chain(has_mtls.then(|| self.identity.clone())));
    }

    /// Opens a connection through the outbound. `None` if it ends before the application's greeting.
    async fn connect(&self) -> Option<TcpStream> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.site.outbound)).await.ok()?;
        let mut greeting = vec![0; GREETING.len()];
        connection.read_exact(&mut greeting).await.ok()?;
        assert_eq!(greeting, GREETING);
        Some(connection)
    }
}

async fn echoes(connection: &mut TcpStream) -> bool {
    let mut answer = [0; 4];
    connection.write_all(b"ping").await.is_ok() && connection.read_exact(&mut answer).await.is_ok()
}

/// Envoy accepts every case of the golden files.
#[tokio::test]
async fn every_case_is_accepted() {
    let fixture = Fixture::new().await;
    for (name, keys) in cases::all(&fixture.site) {
        fixture.serve(&keys);
        // A new Envoy for each case: it must also be able to start with it.
        let envoy = Envoy::start(&fixture.ads);
        envoy.has_accepted(&fixture.ads, name).await;
        assert_eq!(fixture.ads.token().as_deref(), Some(TOKEN));
    }
}

/// A running Envoy accepts the change from each case to the next one.
#[tokio::test]
async fn every_change_between_cases_is_accepted() {
    let fixture = Fixture::new().await;
    let cases = cases::all(&fixture.site);
    fixture.serve(&cases[0].1);
    let envoy = Envoy::start(&fixture.ads);
    for (name, keys) in cases.iter().chain(&cases) {
        fixture.serve(keys);
        envoy.has_accepted(&fixture.ads, name).await;
    }
}

#[tokio::test]
async fn who_is_not_permitted_reads_nothing_and_is_not_seen_by_the_application() {
    let fixture = Fixture::new().await;
    fixture.serve(&cases::with_mtls(&fixture.site, Flow::Denied, vec![("api-to-redis", vec![service("api")])]));
    let envoy = Envoy::start(&fixture.ads);
    envoy.has_accepted(&fixture.ads, "a permission for somebody else").await;
    assert!(fixture.connect().await.is_none());
    assert_eq!(fixture.application.accepted(), 0);

    for permitted in [service("web"), cases::mesh()] {
        let keys = cases::with_mtls(&fixture.site, Flow::Permitted, vec![("web-to-redis", vec![permitted])]);
        fixture.serve(&keys);
        envoy.has_accepted(&fixture.ads, "a permission").await;
        let mut connection = eventually("a permitted connection", || fixture.connect()).await;
        assert!(echoes(&mut connection).await);
        fixture.serve(&cases::with_mtls(&fixture.site, Flow::Denied, Vec::new()));
        envoy.has_accepted(&fixture.ads, "no permission").await;
        eventually("no connection", || async { fixture.connect().await.is_none().then_some(()) }).await;
    }
}

/// A certificate of the mesh's CA is not enough: the SPIFFE id has to be the right one.
#[tokio::test]
async fn a_server_that_is_another_service_is_not_spoken_to() {
    let fixture = Fixture::new().await;
    let mut keys = cases::with_mtls(&fixture.site, Flow::Permitted, vec![("all", vec![cases::mesh()])]);
    for key in &mut keys {
        if let ResourceKey::ServiceCluster { tls, .. } = key {
            *tls = Some("spiffe://default/mysql".into());
        }
    }
    fixture.serve(&keys);
    let envoy = Envoy::start(&fixture.ads);
    envoy.has_accepted(&fixture.ads, "a destination that is somebody else").await;
    assert!(fixture.connect().await.is_none());
    assert!(envoy.statistic("cluster.redis.ssl.fail_verify_san").await >= 1);
}

/// A change of permissions and destinations does not end an open connection: no listener's bytes change.
#[tokio::test]
async fn edits_leave_open_connections_alone() {
    let fixture = Fixture::new().await;
    let keys = |others: usize, split: &[(&str, u32)]| {
        let mut permitted = vec![("web-to-redis", vec![service("web")])];
        permitted.extend((0..others).map(|_| ("other", vec![service("other")])));
        let mut keys = cases::with_mtls(&fixture.site, Flow::Permitted, permitted);
        let edited = cases::outbound(&fixture.site, Flow::Permitted, split);
        keys.retain(|key| !matches!(key, ResourceKey::OutboundListener { .. } | ResourceKey::Split { .. }));
        keys.extend(edited);
        keys
    };
    fixture.serve(&keys(0, &[("redis", 1)]));
    let envoy = Envoy::start(&fixture.ads);
    envoy.has_accepted(&fixture.ads, "the first permission").await;
    let mut connection = eventually("a permitted connection", || fixture.connect()).await;
    for edit in 1..20 {
        fixture.serve(&keys(edit % 2, &[("redis", 1 + edit as u32 % 3)]));
        envoy.has_accepted(&fixture.ads, "an edit").await;
    }
    // No destination any more: this concerns new connections only.
    fixture.serve(&keys(0, &[]));
    envoy.has_accepted(&fixture.ads, "the last edit").await;
    eventually("new connections go nowhere", || async { fixture.connect().await.is_none().then_some(()) }).await;
    tokio::time::sleep(Duration::from_secs(2 * DRAIN_SECONDS)).await;
    assert!(echoes(&mut connection).await, "an edit cut an open connection");
    assert_eq!(envoy.statistic("listener_manager.listener_modified").await, 0);
}

/// The connections of a revoked flow end within the drain time. The listener stays open, and new connections are reset.
#[tokio::test]
async fn a_revoked_flow_ends_within_the_drain_time() {
    let fixture = Fixture::new().await;
    fixture.serve(&cases::with_mtls(&fixture.site, Flow::Permitted, vec![("web-to-redis", vec![service("web")])]));
    let envoy = Envoy::start(&fixture.ads);
    envoy.has_accepted(&fixture.ads, "a permission").await;
    let mut connection = eventually("a permitted connection", || fixture.connect()).await;

    fixture.serve(&cases::with_mtls(&fixture.site, Flow::Denied, Vec::new()));
    envoy.has_accepted(&fixture.ads, "its end").await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(kuma_test::wait::LIMIT, connection.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection of a revoked flow lives");
    assert_eq!(envoy.statistic("listener_manager.listener_in_place_updated").await, 1);
    TcpStream::connect(("127.0.0.1", fixture.site.outbound)).await.expect("the listener stays");
}
