//! Two control planes on one database, one of them on another machine, whose network to the database fails: packets
//! there, packets back, or both are lost. Proxies of both go on, and what was changed meanwhile reaches all afterwards.

use std::time::Duration;

use kuma_test::apps::{Client, Greeter};
use kuma_test::documents::{dataplane, mesh, permission};
use kuma_test::machine::Machine;
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, Load, eventually};
use serde_json::Value;

use crate::ca::{kumactl, rotation, text, trusted};
use crate::database::{Database, setting};

/// A control plane that was not heard of for 15 s counts as ended; a proxy that is connected nowhere has vanished after
/// another 5 s.
const PARTITION: u64 = 30;

/// What is lost between the control plane there and the database.
#[derive(Clone, Copy, Debug)]
enum Lost {
    Questions,
    Answers,
    Both,
}

/// A database and a control plane here, and a control plane on another machine. Each has a proxy of redis, and the
/// other one has web's. All proxies are here.
struct Scene {
    here: ControlPlane,
    there: ControlPlane,
    redis: [Greeter; 2],
    proxies: [Dataplane; 2],
    web: Dataplane,
    web_inbound: u16,
    outbound: u16,
    database: Database,
    machine: Machine,
}

impl Scene {
    async fn start() -> Scene {
        let machine = Machine::start();
        let database = Database::with(&[&format!("listen_addresses=127.0.0.1,{}", machine.here)]);
        database.admit(machine.there);
        let host = machine.here.to_string();
        let there = machine.there.to_string();
        let of_there = [
            ("KUMA_STORE_POSTGRES_HOST", host.as_str()),
            ("KUMA_GENERAL_ADVERTISED_HOSTNAME", &there),
            ("KUMA_API_SERVER_ALLOW_REMOTE_WRITES", "true"),
        ];
        let env = [&database.env()[..], &of_there].concat();
        let env_here = database.env();
        let (here, there) = tokio::join!(ControlPlane::start_with(&env_here), ControlPlane::start_on(&machine, &env));
        here.apply(&mesh("default", true)).await;
        here.apply(&permission("default", "web-to-redis", "web", "redis")).await;
        let redis = [Greeter::start().await, Greeter::start().await];
        let (web_inbound, outbound) = (free_port(), free_port());
        for (number, app) in redis.iter().enumerate() {
            let name = format!("redis-{number}");
            here.apply(&dataplane("default", &name, "redis", (free_port(), app.port), &[])).await;
        }
        there.apply(&web(web_inbound, &[outbound])).await;
        // The admin API there answers to that machine alone; both make the same tokens.
        let start = |cp: &ControlPlane, name: &str| {
            let token = here.token_file("default", name);
            let arguments = ["--dataplane-token-file", token.to_str().expect("UTF-8")];
            Dataplane::start_with(cp, "default", name, &arguments)
        };
        let proxies = [start(&here, "redis-0"), start(&there, "redis-1")];
        let web = start(&there, "web-1");
        for proxy in proxies.iter().chain([&web]) {
            proxy.live().await;
        }
        let scene = Scene { here, there, redis, proxies, web, web_inbound, outbound, database, machine };
        eventually("web has both instances", async || (scene.endpoints().await == 2).then_some(())).await;
        eventually("web reaches redis", || Client::connect(outbound)).await;
        scene
    }

    async fn endpoints(&self) -> u64 {
        self.web.stat("cluster.redis.membership_total").await
    }

    /// Loses packets on the other machine, or mends its network.
    fn lose(&self, lost: Lost, begin: bool) {
        let port = self.database.server.port().to_string();
        let rules = [("OUTPUT", "--dport"), ("INPUT", "--sport")];
        let rules = match lost {
            Lost::Questions => &rules[..1],
            Lost::Answers => &rules[1..],
            Lost::Both => &rules,
        };
        for (chain, port_of) in rules {
            let mut command = self.machine.command("iptables-nft");
            command.args([if begin { "-A" } else { "-D" }, chain, "-p", "tcp", port_of, &port, "-j", "DROP"]);
            let output = command.output().expect("iptables");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }

    async fn away(&self, is_away: bool) {
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        eventually(&format!("the database is away: {is_away}"), async || {
            let answer = http.get(format!("{}/meshes", self.there.api_url())).send().await.expect("it answers");
            assert_eq!(answer.status(), 200);
            (answer.headers().contains_key("kuma-store") == is_away).then_some(())
        })
        .await;
    }
}

/// web's Dataplane, with outbounds to redis.
fn web(inbound: u16, outbounds: &[u16]) -> Value {
    let outbounds: Vec<_> = outbounds.iter().map(|port| (*port, "redis")).collect();
    dataplane("default", "web-1", "web", (inbound, free_port()), &outbounds)
}

/// `KUMA_TEST_PARTITION` is the length of each partition in seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_takes_nothing_from_proxies_and_all_catch_up() {
    let scene = Scene::start().await;
    let load = Load::start(scene.outbound);
    let changes = scene.web.stat("cluster.redis.membership_change").await;
    let mut outbounds = vec![scene.outbound];
    for lost in [Lost::Questions, Lost::Answers, Lost::Both] {
        scene.lose(lost, true);
        scene.away(true).await;
        // A change that concerns web, whose control plane cannot hear of it.
        outbounds.push(free_port());
        scene.here.apply(&web(scene.web_inbound, &outbounds)).await;
        assert_eq!(scene.there.put(&permission("default", "another", "*", "another")).await.status(), 503);
        tokio::time::sleep(Duration::from_secs(setting("KUMA_TEST_PARTITION", PARTITION))).await;
        assert_eq!(scene.endpoints().await, 2, "{lost:?}");
        assert!(Client::connect(outbounds[outbounds.len() - 1]).await.is_none(), "{lost:?}: it is not a partition");
        scene.lose(lost, false);
        scene.away(false).await;
        eventually("web's new outbound is there", || Client::connect(outbounds[outbounds.len() - 1])).await;
        scene.there.apply(&permission("default", "another", "*", "another")).await;
        let overview = scene.here.get("/meshes/default/dataplanes+insights/redis-1").await;
        assert_eq!(overview["dataplaneInsight"]["departure"], Value::Null, "{lost:?}: {overview}");
    }
    assert_eq!(scene.web.stat("cluster.redis.membership_change").await, changes, "an endpoint left or came");
    let requests = load.end().await;
    println!("{requests} requests were answered, by both: {:?}", scene.redis.each_ref().map(Greeter::accepted));
    assert!(scene.redis.iter().all(|app| app.accepted() > 100));
}

/// A control plane that is cut off while the CA is rotated is waited for: its proxies do not know the new root.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_waits_for_the_proxies_of_a_control_plane_that_is_cut_off() {
    let scene = Scene::start().await;
    let load = Load::start(scene.outbound);
    scene.lose(Lost::Both, true);
    scene.away(true).await;
    text(&kumactl(&scene.here, "manage ca builtin certificates rotate"));
    eventually("the proxy here trusts the new root", async || (trusted(&scene.proxies[0]).await == 2).then_some(()))
        .await;
    // Longer than the other control plane counts as alive, and than a rotation takes to begin.
    tokio::time::sleep(Duration::from_secs(setting("KUMA_TEST_PARTITION", PARTITION) + 15)).await;
    assert_eq!(rotation(&scene.here, "builtin").await["phase"], "introducing");
    assert_eq!((trusted(&scene.proxies[1]).await, trusted(&scene.web).await), (1, 1));
    scene.lose(Lost::Both, false);
    scene.away(false).await;
    for proxy in scene.proxies.iter().chain([&scene.web]) {
        eventually("all trust the new root", async || (trusted(proxy).await == 2).then_some(())).await;
    }
    load.end().await;
}
