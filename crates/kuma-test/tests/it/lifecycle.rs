//! Start and end of the programs: an orderly end, its reason, and nothing left behind.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use kuma_test::apps::{Client, Greeter};
use kuma_test::documents::dataplane;
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, Load, eventually, program};
use rustix::process::Signal;

use crate::fleet::Fleet;
use crate::scene::Scene;

/// How long to wait for a process to end. Normally it takes a fraction of that.
const END: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_that_is_stopped_under_load_costs_no_request() {
    let mut fleet = Fleet::start(3).await;
    let load = Load::start_with(fleet.scene.outbound, 500, 0);
    let second = &mut fleet.others[0];
    eventually("the second instance has its share", async || (second.app.accepted() > 50).then_some(())).await;

    second.proxy.process().signal(Signal::TERM);
    // The control plane tells its clients.
    fleet.instances(2).await;
    assert_eq!(fleet.departure("redis-2").await.as_deref(), Some("it drains: kuma-dp was asked to end"));
    let second = &mut fleet.others[0];
    let status = second.proxy.process().wait(END);
    assert!(status.success(), "{status}: {}", second.proxy.process().output());
    let (rest, done) = (second.app.accepted(), load.done());
    eventually("the load goes on", async || (load.done() > done + 500).then_some(())).await;
    assert_eq!(second.app.accepted(), rest, "the second instance is still dialled");

    // It becomes an endpoint again.
    second.restart(&fleet.scene);
    second.proxy.live().await;
    fleet.instances(3).await;
    let second = &fleet.others[0];
    eventually("the second instance has its share again", async || (second.app.accepted() > rest).then_some(())).await;
    assert_eq!(fleet.departure("redis-2").await, None);
    let rate = load.rate();
    println!("{} requests at {rate:.0} a second, none lost", load.end().await);
    let log = fleet.scene.cp.process().output();
    let draining = log.find("dataplane=redis-2 state=Draining").expect("the drain was reported");
    let gone = log.find("proxy disconnected mesh=default dataplane=redis-2").expect("it disconnected");
    assert!(draining < gone, "it left before it said so: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_proxy_gives_its_connections_time() {
    let mut fleet = Fleet::start(2).await;
    let address = ([127, 0, 0, 1], fleet.others[0].inbound).into();
    let mut connection = Client::connect_to(address).await.expect("the second instance answers");
    fleet.others[0].proxy.process().signal(Signal::TERM);
    fleet.instances(1).await;
    // The drain time of these proxies is 2 s.
    assert!(connection.echoes().await, "an open connection was cut when its proxy was told to stop");
    drop(connection);
    let status = fleet.others[0].proxy.process().wait(END);
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kuma_dp_ends_with_its_envoy_and_reports_it() {
    let mut fleet = Fleet::start(2).await;
    let proxy = &mut fleet.others[0].proxy;
    kill(proxy.envoy().await);
    let status = proxy.process().wait(END);
    assert!(status.code().is_some_and(|code| code != 0), "{status}: whoever supervises it has to start it again");
    proxy.process().prints("Envoy has ended: it was killed by signal 9").await;
    // The instance is no endpoint any more.
    fleet.instances(1).await;
    let why = fleet.departure("redis-2").await;
    assert_eq!(why.as_deref(), Some("its Envoy has ended: it was killed by signal 9"));
    fleet.scene.cp.process().prints("dataplane=redis-2 state=EnvoyExited").await;
    for _ in 0..20 {
        assert!(Client::connect(fleet.scene.outbound).await.is_some());
    }
}

/// In a mesh without mTLS, a report without a token is accepted from the Dataplane's own address.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_envoy_is_believed_without_a_token() {
    let scene = Scene::start().await;
    let second = Greeter::start().await;
    scene.cp.apply(&dataplane("default", "redis-2", "redis", (free_port(), second.port), &[])).await;
    let mut proxy = Dataplane::start_with(&scene.cp, "default", "redis-2", &[]);
    proxy.live().await;
    eventually("the second instance has its share", async || {
        Client::connect(scene.outbound).await;
        (second.accepted() > 0).then_some(())
    })
    .await;
    kill(proxy.envoy().await);
    proxy.process().wait(END);
    eventually("web knows one instance of redis", async || {
        (scene.web_proxy.stat("cluster.redis.membership_total").await == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataplane_that_is_deleted_and_written_again_serves_and_is_online() {
    let scene = Scene::start().await;
    scene.cp.delete("/meshes/default/dataplanes/redis-1").await;
    scene.closed().await;
    eventually("its inbound is gone", async || Client::connect(scene.inbound).await.is_none().then_some(())).await;
    let [redis, _] = scene.documents();
    scene.cp.apply(&redis).await;
    scene.open().await;
    eventually("it is online", async || {
        let overview = scene.cp.get("/meshes/default/dataplanes+insights/redis-1").await;
        let last = overview["dataplaneInsight"]["subscriptions"].as_array()?.last()?.clone();
        (last.get("connectTime").is_some() && last.get("disconnectTime").is_none()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_envoy_outlives_its_kuma_dp() {
    let mut scene = Scene::start().await;
    let envoy = scene.redis_proxy.envoy().await;
    scene.redis_proxy.process().kill();
    eventually("Envoy has ended", async || (!runs(envoy)).then_some(())).await;
    // Its leftover files do not prevent the next start.
    let again = Dataplane::start(&scene.cp, "default", "redis-1");
    again.live().await;
    scene.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_ends_in_order_with_proxies_connected() {
    let mut scene = Scene::start().await;
    let load = Load::start(scene.outbound);
    scene.cp.process().signal(Signal::TERM);
    let status = scene.cp.process().wait(END);
    let log = scene.cp.process().output();
    assert!(status.success(), "{status}: {log}");
    // After 10 s it would have given up.
    assert!(!log.contains("given up"), "{log}");
    eventually("the proxies have noticed", async || {
        (scene.web_proxy.stat("control_plane.connected_state").await == 0).then_some(())
    })
    .await;
    let done = load.done();
    eventually("the load goes on", async || (load.done() > done + 50).then_some(())).await;
    load.end().await;
    assert!(scene.redis_proxy.process().is_running() && scene.web_proxy.process().is_running());
}

#[test]
fn a_port_that_is_taken_is_named_by_its_variable() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = taken.local_addr().map(|address| (taken, address.port().to_string())).expect("an address");
    let variables = [
        "KUMA_XDS_SERVER_GRPC_PORT",
        "KUMA_XDS_SERVER_DIAGNOSTICS_PORT",
        "KUMA_ADMIN_SERVER_LOCAL_PORT",
        "KUMA_API_SERVER_PORT",
        "KUMA_BOOTSTRAP_SERVER_PORT",
        "KUMA_MONITORING_ASSIGNMENT_SERVER_GRPC_PORT",
    ];
    for variable in variables {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(program("kuma-cp"));
        command.arg("run").env_clear().env("HOME", folder.path());
        // The system chooses all others.
        command.envs(variables.map(|other| (other, "0"))).env("KUMA_SDS_SERVER_GRPC_PORT", "0");
        let output = command.env(variable, &taken.1).output().expect("kuma-cp starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{variable}: {errors}");
        let error = errors.lines().last().unwrap_or_default();
        assert!(
            error.contains(variable) && error.contains(&taken.1) && error.contains("in use"),
            "{variable}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kuma_dp_says_what_it_waits_for() {
    let cp = ControlPlane::start().await;
    let mut proxy = Dataplane::start_with(&cp, "default", "nobody-1", &[]);
    proxy.process().prints("nobody-1").await;
    proxy.process().prints("Next attempt in").await;
    assert!(proxy.process().is_running());
    // It continues by itself once the control plane is there.
    let (app, inbound) = (Greeter::start().await, free_port());
    cp.apply(&dataplane("default", "nobody-1", "nobody", (inbound, app.port), &[])).await;
    eventually("it is served", || Client::connect(inbound)).await;
}

fn kill(id: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(id).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
}

/// Whether a process runs. A zombie does not count.
fn runs(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses.
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && !rest.starts_with('X'))
}
