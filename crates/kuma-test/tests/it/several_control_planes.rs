//! Several control planes on one PostgreSQL database.

use kuma_store_postgres::testing::{PASSWORD, Server};
use kuma_test::apps::{Client, Greeter};
use kuma_test::dataplane::Start;
use kuma_test::documents::{dataplane, permission};
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Two control planes on one database, a proxy of redis, and one of web that dials it.
struct Scene {
    a: ControlPlane,
    b: ControlPlane,
    redis_app: Greeter,
    redis: Dataplane,
    web: Dataplane,
    outbound: u16,
    _server: Server,
}

impl Scene {
    /// The Dataplanes are written to A. `redis` and `web` name control planes in the order in which the proxies know
    /// them.
    async fn start(redis: &[usize], web: &[usize]) -> Scene {
        let server = Server::start(&[]);
        let database = server.database();
        let port = server.port().to_string();
        let env = [
            ("KUMA_STORE_TYPE", "postgres"),
            ("KUMA_STORE_POSTGRES_PORT", port.as_str()),
            ("KUMA_STORE_POSTGRES_PASSWORD", PASSWORD),
            ("KUMA_STORE_POSTGRES_DB_NAME", &database.db_name),
        ];
        // Both find an empty database.
        let (a, b) = tokio::join!(ControlPlane::start_with(&env), ControlPlane::start_with(&env));
        a.apply(&json!({"type": "Mesh", "name": "default", "mtls": {"enabled": true, "ca": {"builtin": {}}}})).await;
        b.apply(&permission("default", "web-to-redis", "web", "redis")).await;
        let redis_app = Greeter::start().await;
        let (inbound, outbound) = (free_port(), free_port());
        a.apply(&dataplane("default", "redis-1", "redis", (inbound, redis_app.port), &[])).await;
        a.apply(&dataplane("default", "web-1", "web", (free_port(), free_port()), &[(outbound, "redis")])).await;
        let start = |name: &str, order: &[usize]| {
            let cps = [&a, &b];
            let others: Vec<&ControlPlane> = order[1..].iter().map(|index| cps[*index]).collect();
            Dataplane::start_as(cps[order[0]], "default", name, &Start { others: &others, ..Start::default() })
        };
        let (redis, web) = (start("redis-1", redis), start("web-1", web));
        redis.live().await;
        web.live().await;
        Scene { a, b, redis_app, redis, web, outbound, _server: server }
    }

    async fn open(&self) {
        eventually("web reaches redis", async || Client::connect(self.outbound).await.map(drop)).await;
    }

    async fn closed(&self) {
        eventually("web does not reach redis", async || Client::connect(self.outbound).await.is_none().then_some(()))
            .await;
    }
}

/// The control planes with which a proxy has an open stream, as one of them tells.
async fn connected(cp: &ControlPlane, name: &str) -> Vec<String> {
    let overview = cp.get(&format!("/meshes/default/dataplanes+insights/{name}")).await;
    let subscriptions = overview["dataplaneInsight"]["subscriptions"].as_array().cloned().unwrap_or_default();
    let open = subscriptions.iter().filter(|one| one.get("disconnectTime").is_none());
    open.map(|one| one["controlPlaneInstanceId"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn document(cp: &ControlPlane, path: &str) -> Value {
    cp.get(path).await
}

/// A proxy of each: they agree on CA, tokens and documents, and each change reaches both.
#[tokio::test(flavor = "multi_thread")]
async fn control_planes_on_one_database_are_one_control_plane() {
    // web got its token from B, and redis from A.
    let mut scene = Scene::start(&[0], &[1]).await;
    scene.open().await;
    assert_eq!(document(&scene.a, "/meshes").await, document(&scene.b, "/meshes").await);

    // What is written to one reaches the proxies of the other, and is read there at once.
    scene.a.delete("/meshes/default/traffic-permissions/web-to-redis").await;
    let list = document(&scene.b, "/meshes/default/traffic-permissions").await;
    assert_eq!(list["items"], json!([]));
    scene.closed().await;
    scene.b.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    scene.open().await;

    // Both tell of all proxies, whichever they are connected to.
    eventually("each tells of the other's proxy", async || {
        let (of_a, of_b) = (connected(&scene.b, "redis-1").await, connected(&scene.a, "web-1").await);
        (of_a.len() == 1 && of_b.len() == 1 && of_a != of_b).then_some(())
    })
    .await;

    // redis leaves, and says so to A: the proxies of B do not dial it any more.
    let endpoints = async |scene: &Scene| scene.web.stat("cluster.redis.membership_total").await;
    scene.redis.process().signal(Signal::TERM);
    eventually("web has no endpoint", async || (endpoints(&scene).await == 0).then_some(())).await;
    // It starts again, with B: it is an endpoint for all again.
    scene.redis.process().wait(std::time::Duration::from_secs(30));
    scene.redis = Dataplane::start(&scene.b, "default", "redis-1");
    scene.redis.live().await;
    eventually("web has an endpoint", async || (endpoints(&scene).await == 1).then_some(())).await;
    scene.open().await;
    assert!(scene.redis_app.accepted() > 0);
}

/// Proxies that know both control planes go on with the other one when theirs is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_goes_to_another_control_plane_when_its_own_is_killed() {
    let mut scene = Scene::start(&[0, 1], &[0, 1]).await;
    scene.open().await;
    scene.a.kill();
    // A change reaches both by way of B, the killed control plane is shown with no stream, and nobody has vanished.
    scene.b.delete("/meshes/default/traffic-permissions/web-to-redis").await;
    scene.closed().await;
    scene.b.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    scene.open().await;
    eventually("all streams are with B", async || {
        let (redis, web) = (connected(&scene.b, "redis-1").await, connected(&scene.b, "web-1").await);
        (redis.len() == 1 && redis == web).then_some(())
    })
    .await;
    // A proxy starts while one of its control planes is away.
    scene.web.process().signal(Signal::TERM);
    scene.web.process().wait(std::time::Duration::from_secs(30));
    let start = Start { others: &[&scene.a], ..Start::default() };
    let web = Dataplane::start_as(&scene.b, "default", "web-1", &start);
    web.live().await;
    scene.open().await;
    // And it goes back when B is killed.
    scene.a.restart().await;
    scene.b.kill();
    scene.a.delete("/meshes/default/traffic-permissions/web-to-redis").await;
    scene.closed().await;
}
