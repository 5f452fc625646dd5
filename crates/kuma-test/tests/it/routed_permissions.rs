//! Permissions and routes together: a flow needs a permission for the service that its route leads to. A revoked
//! permission ends the connections that needed it, wherever a route sent them, and no others.

use std::time::Duration;

use kuma_test::apps::{Client, Greeter};
use kuma_test::documents::{dataplane, mesh, permission, route};
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, eventually};
use serde_json::json;

/// `web` with an outbound to `redis`, and a second service, `redis2`, to which a route can send its connections. With
/// mTLS.
struct Scene {
    cp: ControlPlane,
    redis: Greeter,
    redis2: Greeter,
    /// Port of web's outbound to redis.
    outbound: u16,
    web: Dataplane,
    _proxies: [Dataplane; 2],
}

/// A connection of web, and the service that it reached.
struct Connection {
    client: Client,
    service: &'static str,
}

impl Scene {
    async fn start() -> Scene {
        let cp = ControlPlane::start().await;
        let (redis, redis2) = (Greeter::start().await, Greeter::start().await);
        let outbound = free_port();
        cp.apply(&mesh("default", true)).await;
        cp.apply(&dataplane("default", "redis-1", "redis", (free_port(), redis.port), &[])).await;
        cp.apply(&dataplane("default", "redis2-1", "redis2", (free_port(), redis2.port), &[])).await;
        cp.apply(&dataplane("default", "web-1", "web", (free_port(), redis.port), &[(outbound, "redis")])).await;
        let start = |name| Dataplane::start(&cp, "default", name);
        let (proxies, web) = ([start("redis-1"), start("redis2-1")], start("web-1"));
        for proxy in proxies.iter().chain([&web]) {
            proxy.live().await;
        }
        Scene { cp, redis, redis2, outbound, web, _proxies: proxies }
    }

    async fn permit(&self, service: &str) {
        self.cp.apply(&permission("default", &format!("web-to-{service}"), "web", service)).await;
    }

    async fn revoke(&self, service: &str) {
        self.cp.delete(&format!("/meshes/default/traffic-permissions/web-to-{service}")).await;
    }

    /// Routes web's connections to redis by this split.
    async fn route(&self, split: &[(u32, &str)]) {
        self.cp.apply(&route("default", "redis", "web", "redis", split)).await;
    }

    /// Waits until web's proxy knows that the whole flow to redis is permitted. A connection that is opened before that
    /// would end with those that are not permitted.
    async fn settled(&self) {
        eventually("the chain of what is permitted", || async {
            let listeners = self.web.admin_page("/config_dump?resource=dynamic_listeners").await;
            let is_active = !listeners.contains("warming_state") && !listeners.contains("draining_state");
            (is_active && listeners.contains("\"permitted\"")).then_some(())
        })
        .await;
    }

    /// A connection of web, if it is admitted.
    async fn connect(&self) -> Option<Connection> {
        let before = [self.redis.accepted(), self.redis2.accepted()];
        let client = Client::connect(self.outbound).await?;
        let service = match [self.redis.accepted(), self.redis2.accepted()] {
            after if after == [before[0] + 1, before[1]] => "redis",
            after if after == [before[0], before[1] + 1] => "redis2",
            after => panic!("a connection was accepted by neither or both: {before:?}, {after:?}"),
        };
        Some(Connection { client, service })
    }

    /// Waits until web's connections reach a service, and returns one that does.
    async fn open(&self, service: &str) -> Connection {
        let connect = || async { self.connect().await.filter(|connection| connection.service == service) };
        eventually(&format!("web reaches {service}"), connect).await
    }

    /// Three such connections.
    async fn open_three(&self, service: &str) -> Vec<Connection> {
        vec![self.open(service).await, self.open(service).await, self.open(service).await]
    }

    /// Waits until none of web's connections is admitted.
    async fn closed(&self) {
        eventually("web is refused", || async { self.connect().await.is_none().then_some(()) }).await;
    }
}

/// How many are still open after the drain time of the proxies, which is 2 s.
async fn alive(connections: &mut [Connection]) -> usize {
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut alive = 0;
    for connection in connections {
        alive += usize::from(connection.client.echoes().await);
    }
    alive
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_revoked_ends_the_connections_that_a_route_sent_there() {
    let scene = Scene::start().await;
    scene.route(&[(1, "redis2")]).await;
    scene.permit("redis2").await;
    scene.settled().await;
    let mut connections = scene.open_three("redis2").await;
    assert_eq!(alive(&mut connections).await, 3);

    scene.revoke("redis2").await;
    scene.closed().await;
    assert_eq!(alive(&mut connections).await, 0, "a revoked connection is alive long after the drain time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_a_routed_flow_does_not_need_ends_nothing() {
    let scene = Scene::start().await;
    scene.route(&[(1, "redis2"), (0, "redis")]).await;
    scene.permit("redis2").await;
    scene.permit("redis").await;
    scene.settled().await;
    let mut connections = scene.open_three("redis2").await;
    let drained = scene.web.stat("listener_manager.listener_in_place_updated").await;

    scene.revoke("redis").await;
    assert_eq!(alive(&mut connections).await, 3, "the permission of the outbound's own service is not needed");
    scene.permit("redis").await;
    scene.cp.apply(&permission("default", "everything", "*", "*")).await;
    scene.cp.delete("/meshes/default/traffic-permissions/everything").await;
    assert_eq!(alive(&mut connections).await, 3, "permissions beside that which the flow has");
    let after = scene.web.stat("listener_manager.listener_in_place_updated").await;
    assert_eq!(drained, after, "an edit that changes nothing for the flow touched its listener");

    // Another permission replaces the first: the flow is permitted without a break.
    scene.cp.apply(&permission("default", "everything", "*", "redis2")).await;
    scene.revoke("redis2").await;
    assert_eq!(alive(&mut connections).await, 3, "another permission admits the flow");
    scene.cp.delete("/meshes/default/traffic-permissions/everything").await;
    assert_eq!(alive(&mut connections).await, 0, "a revoked connection is alive long after the drain time");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_split_that_is_revoked_ends_each_time() {
    let scene = Scene::start().await;
    scene.permit("redis").await;
    scene.permit("redis2").await;
    scene.route(&[(1, "redis"), (1, "redis2")]).await;
    scene.settled().await;
    let mut here = scene.open_three("redis").await;
    let mut there = scene.open_three("redis2").await;
    assert_eq!((alive(&mut here).await, alive(&mut there).await), (3, 3));

    for _ in 0..2 {
        // Connections to redis end too, since they are in the same filter chain.
        scene.revoke("redis2").await;
        assert_eq!(alive(&mut there).await, 0, "a revoked connection is alive long after the drain time");
        // Some new connections fail: those that are sent to redis2.
        let mut here = scene.open_three("redis").await;
        scene.cp.apply(&permission("default", "unrelated", "*", "web")).await;
        scene.cp.delete("/meshes/default/traffic-permissions/unrelated").await;
        assert_eq!(alive(&mut here).await, 3, "connections that are permitted were cut");
        scene.permit("redis2").await;
        // Opened as soon as they are admitted.
        there = scene.open_three("redis2").await;
    }

    scene.settled().await;
    let mut here = scene.open_three("redis").await;
    let mut edited = permission("default", "web-to-redis", "web", "redis");
    edited["destinations"][0]["match"]["version"] = json!("2.0");
    scene.cp.apply(&edited).await;
    assert_eq!(alive(&mut here).await, 0, "the permission that was edited admits them no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_among_what_is_permitted_cuts_nothing() {
    let scene = Scene::start().await;
    scene.permit("redis").await;
    scene.permit("redis2").await;
    scene.settled().await;
    let mut connections = scene.open_three("redis").await;
    scene.route(&[(9, "redis"), (1, "redis2")]).await;
    connections.push(scene.open("redis2").await);
    scene.route(&[(1, "redis2"), (0, "redis")]).await;
    connections.push(scene.open("redis2").await);
    scene.route(&[(0, "redis2")]).await;
    scene.closed().await;
    scene.cp.delete("/meshes/default/traffic-routes/redis").await;
    connections.push(scene.open("redis").await);
    assert_eq!(alive(&mut connections).await, 6, "an edit of the route cut connections");
}
