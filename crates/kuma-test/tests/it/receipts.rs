//! A receipt reports "live" only when a change is in force on real Envoys.
//!
//! `KUMA_TEST_ROUNDS` and `KUMA_TEST_PROXIES` set the number of repetitions and of proxies; `make soak` sets more than
//! `make test`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kuma_test::apps::{Client, GREETING, Greeter, bytes_from};
use kuma_test::documents::{dataplane, mesh, permission};
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::scene::Scene;

/// Connections begun this long after the answer "live" must be treated by the new state.
const AFTER_LIVE: Duration = Duration::from_millis(5);

const PERMISSION: &str = "/meshes/default/traffic-permissions/all";

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Tries to connect through an outbound again and again.
struct Prober {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<Probe>>,
}

/// One connection: when it was begun, when it was admitted or refused, and which of the two.
#[derive(Clone, Copy)]
struct Probe {
    begun: Instant,
    ended: Instant,
    admitted: bool,
}

impl Prober {
    fn start(outbound: u16) -> Prober {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut probes = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let admitted = Client::connect(outbound).await.is_some();
                probes.push(Probe { begun, ended: Instant::now(), admitted });
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            probes
        });
        Prober { stop, task }
    }

    async fn end(self) -> Vec<Probe> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the prober does not panic")
    }
}

/// A period in which the state `admitted` is known to be in force.
struct Known {
    from: Instant,
    until: Instant,
    admitted: bool,
}

/// 200 rounds over 20 Envoys in `make soak`.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_begins_after_live_is_treated_the_old_way() {
    let (rounds, proxies) = (setting("KUMA_TEST_ROUNDS", 6), setting("KUMA_TEST_PROXIES", 4));
    let cp = ControlPlane::start().await;
    let redis = Greeter::start().await;
    cp.apply(&mesh("default", true)).await;
    cp.apply(&dataplane("default", "redis-1", "redis", (free_port(), redis.port), &[])).await;
    let outbounds: Vec<u16> = (1..proxies).map(|_| free_port()).collect();
    let name = |number: usize| format!("web-{number}");
    for (number, &outbound) in outbounds.iter().enumerate() {
        let web = dataplane("default", &name(number), "web", (free_port(), redis.port), &[(outbound, "redis")]);
        cp.apply(&web).await;
    }
    let mut dataplanes = vec![Dataplane::start(&cp, "default", "redis-1")];
    for number in 0..outbounds.len() {
        dataplanes.push(Dataplane::start(&cp, "default", &name(number)));
    }
    for dataplane in &dataplanes {
        dataplane.live().await;
    }

    let probers: Vec<Prober> = outbounds.iter().map(|&outbound| Prober::start(outbound)).collect();
    let mut known = Vec::new();
    for round in 0..rounds {
        let admitted = round % 2 == 0;
        let revision = match admitted {
            true => cp.change(&permission("default", "all", "*", "*")).await,
            false => cp.revoke(PERMISSION).await,
        };
        let receipt = cp.receipt(revision, "30s").await;
        let from = Instant::now() + AFTER_LIVE;
        assert_eq!(receipt["state"], "live", "{receipt}");
        assert_eq!(receipt["proxies"]["accepted"], proxies, "{receipt}");
        tokio::time::sleep(Duration::from_millis(60)).await;
        known.push(Known { from, until: Instant::now(), admitted });
    }
    for (number, prober) in probers.into_iter().enumerate() {
        let probes = prober.end().await;
        let mut seen = [0, 0];
        for Known { from, until, admitted } in &known {
            // A connection that is still being made when the next change begins may be treated either way.
            for probe in probes.iter().filter(|probe| probe.begun >= *from && probe.ended < *until) {
                seen[usize::from(*admitted)] += 1;
                assert_eq!(probe.admitted, *admitted, "{}: treated the old way after live", name(number));
            }
        }
        assert!(seen.iter().all(|&seen| seen > 0), "{} has not seen both states: {seen:?}", name(number));
        println!("{}: {} probes while refused, {} while admitted", name(number), seen[0], seen[1]);
    }
}

/// Envoy accepts a listener before it has its secrets, and serves plain text until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_to_mtls_is_not_live_while_plain_text_is_served() {
    let scene = Scene::start().await;
    let greets = async || bytes_from(scene.inbound).await.starts_with(GREETING);
    for round in 0..setting("KUMA_TEST_ROUNDS", 4).min(40) {
        assert!(greets().await, "round {round}: plain text is served before");
        let revision = scene.cp.change(&mesh("default", true)).await;
        let receipt = scene.cp.receipt(revision, "30s").await;
        tokio::time::sleep(AFTER_LIVE).await;
        assert_eq!(receipt["state"], "live", "{receipt}");
        assert!(!greets().await, "round {round}: plain text is served after {receipt}");
        let revision = scene.cp.change(&mesh("default", false)).await;
        let receipt = scene.cp.receipt(revision, "30s").await;
        assert_eq!(receipt["state"], "live", "{receipt}");
        tokio::time::sleep(AFTER_LIVE).await;
    }
}

fn template(resource: &str) -> Value {
    json!({
        "type": "ProxyTemplate", "mesh": "default", "name": "raw",
        "selectors": [{"match": {"service": "web"}}],
        "conf": {
            "imports": ["default-proxy"],
            "resources": [{"name": "raw", "version": "1", "resource": resource}],
        },
    })
}

/// Envoy accepts a listener whose secret does not exist, and opens its port after 15 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_waits_for_a_secret_is_not_live() {
    let scene = Scene::start().await;
    let listener = format!(
        r#"
'@type': type.googleapis.com/envoy.config.listener.v3.Listener
name: waiting
address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}
filter_chains:
- filters:
  - name: tcp
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
      stat_prefix: waiting
      cluster: redis
  transport_socket:
    name: tls
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
      common_tls_context:
        tls_certificate_sds_secret_configs:
        - {{name: nobody-has-it, sds_config: {{ads: {{}}, resource_api_version: V3}}}}
"#,
        free_port()
    );
    let revision = scene.cp.change(&template(&listener)).await;
    let receipt = eventually("the receipt names what the listener waits for", async || {
        let receipt = scene.cp.receipt(revision, "1s").await;
        (receipt["exceptions"][0]["state"] == "unanswered").then_some(receipt)
    })
    .await;
    assert_eq!(receipt["state"], "spreading", "{receipt}");
    let exception = &receipt["exceptions"][0];
    assert_eq!((&exception["dataplane"], &exception["resource"]), (&json!("web-1"), &json!("nobody-has-it")));
    let status = status(&scene, "web-1").await;
    assert_eq!(status["unanswered"][0]["name"], "nobody-has-it", "{status}");

    // A change that does not concern the secret is live all the same.
    let revision = scene.cp.change(&another_redis()).await;
    assert_eq!(scene.cp.receipt(revision, "30s").await["state"], "live");

    let revision = scene.cp.revoke("/meshes/default/proxytemplates/raw").await;
    assert_eq!(scene.cp.receipt(revision, "30s").await["state"], "live");
}

/// A second instance of redis: an endpoint for web.
fn another_redis() -> Value {
    dataplane("default", "redis-2", "redis", (free_port(), free_port()), &[])
}

async fn status(scene: &Scene, name: &str) -> Value {
    let overview = scene.cp.get(&format!("/meshes/default/dataplanes+insights/{name}")).await;
    let subscriptions = overview["dataplaneInsight"]["subscriptions"].as_array().expect("subscriptions").clone();
    subscriptions.last().expect("a stream")["status"].clone()
}

/// A listener whose port is in use is refused. When the port is free again, the listener is sent once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_cannot_bind_is_refused_alone_and_opens_when_it_can() {
    let scene = Scene::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let [_, mut web] = scene.documents();
    web["networking"]["outbound"].as_array_mut().expect("outbounds").push(json!({
        "interface": format!(":{port}"), "service": "redis",
    }));
    let revision = scene.cp.change(&web).await;
    let receipt = scene.cp.receipt(revision, "30s").await;
    assert_eq!(receipt["state"], "refused", "{receipt}");
    let exception = &receipt["exceptions"][0];
    assert_eq!(exception["resource"], format!("outbound:127.0.0.1:{port}"), "{receipt}");
    assert!(exception["message"].as_str().is_some_and(|text| text.contains("bind")), "{receipt}");
    assert_eq!(exception["sinceRevision"], revision, "{receipt}");

    // A later change is accepted, and its receipt shows that.
    let later = scene.cp.change(&another_redis()).await;
    let receipt = scene.cp.receipt(later, "30s").await;
    assert_eq!(receipt["state"], "live", "an older refusal is told, and does not count against it: {receipt}");
    let status = status(&scene, "web-1").await;
    assert_eq!(status["acceptedRevision"], later.to_string(), "{status}");
    assert_eq!(status["refused"][0]["name"], format!("outbound:127.0.0.1:{port}"), "{status}");
    scene.cp.revoke("/meshes/default/dataplanes/redis-2").await;

    drop(taken);
    eventually("the listener that could not be opened is open", || Client::connect(port)).await;
    let receipt = scene.cp.receipt(revision, "30s").await;
    assert!(matches!(receipt["state"].as_str(), Some("live" | "superseded")), "{receipt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_is_stopped_is_waited_for() {
    let scene = Scene::start().await;
    let envoy = scene.web_proxy.envoy().await;
    let envoy = Pid::from_raw(i32::try_from(envoy).expect("a process id")).expect("not 0");
    kill_process(envoy, Signal::STOP).expect("Envoy runs");
    let revision = scene.cp.change(&another_redis()).await;
    let receipt = scene.cp.receipt(revision, "2s").await;
    assert_eq!((&receipt["state"], &receipt["proxies"]["waiting"]), (&json!("spreading"), &json!(1)), "{receipt}");
    assert_eq!(receipt["exceptions"], json!([{"dataplane": "web-1", "state": "waiting"}]));
    kill_process(envoy, Signal::CONT).expect("Envoy runs");
    assert_eq!(scene.cp.receipt(revision, "30s").await["state"], "live");
}

/// An unreachable Envoy may keep its old configuration: a change is not live before that Envoy is back, or known to
/// have ended.
#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_behind_a_network_that_is_cut_is_waited_for() {
    let (scene, wire) = Scene::start_wired().await;
    wire.silence();
    let revision = scene.cp.change(&another_redis()).await;
    let receipt = scene.cp.receipt(revision, "2s").await;
    assert_eq!(receipt["state"], "spreading", "{receipt}");
    wire.mend();
    let receipt = eventually("the change is live", async || {
        let receipt = scene.cp.receipt(revision, "5s").await;
        (receipt["state"] == "live").then_some(receipt)
    })
    .await;
    assert_eq!(receipt["proxies"]["waiting"], 0, "{receipt}");
}

/// An Envoy whose process has ended does not delay a receipt: its system has closed the connection.
#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_has_ended_is_away() {
    let mut scene = Scene::start().await;
    scene.web_proxy.process().kill();
    eventually("the control plane knows that web-1 is gone", async || {
        let overview = scene.cp.get("/meshes/default/dataplanes+insights/web-1").await;
        let subscriptions = overview["dataplaneInsight"]["subscriptions"].as_array()?.clone();
        subscriptions.last()?.get("disconnectTime").map(|_| ())
    })
    .await;
    let revision = scene.cp.change(&another_redis()).await;
    let receipt = scene.cp.receipt(revision, "10s").await;
    assert_eq!((&receipt["state"], &receipt["proxies"]["away"]), (&json!("live"), &json!(2)), "{receipt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_belongs_to_one_life_of_the_store() {
    let mut scene = Scene::start().await;
    let (revision, epoch) = scene.cp.change_in_epoch(&another_redis()).await;
    let path = format!("/changes/{revision}?epoch={epoch}");
    assert_eq!(scene.cp.get(&path).await["revision"], revision);
    let list = scene.cp.get("/changes").await;
    assert_eq!(list["items"][0]["documents"][0]["name"], "redis-2", "{list}");
    let (status, error) = scene.cp.get_status(&format!("/changes/{}", revision + 1)).await;
    assert_eq!(
        (status, &error["details"]),
        (404, &json!(format!("There is no revision {}: the latest is {revision}", revision + 1)))
    );
    scene.cp.kill();
    scene.cp.restart().await;
    assert_eq!(scene.cp.get_status(&path).await.0, 410);
}

/// An instance whose inbound cannot be opened is no endpoint; it becomes one when the inbound is open.
#[tokio::test(flavor = "multi_thread")]
async fn an_inbound_that_cannot_be_opened_gets_no_connections() {
    let scene = Scene::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let second = Greeter::start().await;
    scene.cp.apply(&dataplane("default", "redis-2", "redis", (port, second.port), &[])).await;
    let proxy = Dataplane::start(&scene.cp, "default", "redis-2");
    let instances = async |wanted: u64| {
        let number = scene.web_proxy.stat("cluster.redis.membership_total").await;
        (number == wanted).then_some(())
    };
    eventually("the refusal is known", async || {
        let overview = scene.cp.get("/meshes/default/dataplanes+insights/redis-2").await;
        let subscriptions = overview["dataplaneInsight"]["subscriptions"].as_array()?.clone();
        let refused = &subscriptions.last()?["status"]["refused"][0]["name"];
        (*refused == format!("inbound:127.0.0.1:{port}")).then_some(())
    })
    .await;
    eventually("its clients do not dial it", || instances(1)).await;
    for _ in 0..20 {
        assert!(Client::connect(scene.outbound).await.is_some(), "a connection went to the port of somebody else");
    }
    let shown = scene.cp.kumactl(&["inspect", "dataplanes"], "");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let line = shown.lines().find(|line| line.contains("redis-2")).expect("a line for it");
    assert!(line.contains("Degraded") && !line.contains("Online"), "{shown}");
    drop(taken);
    eventually("its clients dial it", || instances(2)).await;
    drop(proxy);
}

/// `kumactl apply --wait` and `delete --wait` report the state of a change, also by their exit codes.
#[tokio::test(flavor = "multi_thread")]
async fn kumactl_waits_for_a_change() {
    let scene = Scene::start().await;
    let run = |arguments: &[&str], input: &str| {
        let output = scene.cp.kumactl(arguments, input);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let applied =
        |arguments: &[&str], document: &Value| run(&[&["apply", "-f", "-"], arguments].concat(), &document.to_string());

    let (code, said, error) = applied(&["--wait"], &another_redis());
    assert_eq!((code, error.as_str()), (Some(0), ""), "{said}");
    assert!(said.contains(": live on 1 of 1 proxy after "), "{said}");
    assert!(said.contains("1 dataplane is away and will get it when it comes"), "redis-2 has no proxy: {said}");

    // Writing the same document again is no new change.
    let (code, again, _) = applied(&["--wait"], &scene.documents()[0]);
    assert_eq!(code, Some(0), "{again}");

    let envoy = scene.web_proxy.envoy().await;
    let envoy = Pid::from_raw(i32::try_from(envoy).expect("a process id")).expect("not 0");
    kill_process(envoy, Signal::STOP).expect("Envoy runs");
    let (code, said, _) = run(&["delete", "dataplane", "redis-2", "--wait=1s"], "");
    kill_process(envoy, Signal::CONT).expect("Envoy runs");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.starts_with("deleted Dataplane \"redis-2\"\n") && said.contains("web-1  has not answered"), "{said}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let [_, mut web] = scene.documents();
    web["networking"]["outbound"].as_array_mut().expect("outbounds").push(json!({
        "interface": format!(":{port}"), "service": "redis",
    }));
    let (code, said, _) = applied(&["--wait=30s"], &web);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains(&format!("web-1  refused Listener outbound:127.0.0.1:{port}: ")), "{said}");

    // Several documents are one change.
    let many = format!("{}\n---\n{}", another_redis(), permission("default", "all", "*", "*"));
    let (code, said, _) = run(&["apply", "-f", "-", "--wait"], &many);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("revision ").count(), 1, "{said}");

    for (value, wrong) in
        [("--wait=soon", "must be a duration"), ("--wait=-1s", "must be a duration"), ("--wait=", "must be a duration")]
    {
        let (code, _, error) = applied(&[value], &web);
        assert_eq!(code, Some(2), "{value}");
        assert!(error.contains(wrong), "{value}: {error}");
    }
}

/// A log file in a folder that is created later: Envoy refuses the log until the folder exists.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_into_a_folder_that_is_made_later_is_written_then() {
    let scene = Scene::start().await;
    let folder = scene.cp.folder().join("logs");
    let path = folder.join("access.log");
    let mut logged = mesh("default", false);
    logged["logging"] = json!({"backends": [{"name": "file", "file": {"path": path}}]});
    scene.cp.apply(&logged).await;
    let revision = scene
        .cp
        .change(&json!({
            "type": "TrafficLog", "mesh": "default", "name": "log",
            "sources": [{"match": {"service": "*"}}], "destinations": [{"match": {"service": "*"}}],
            "conf": {"backend": "file"},
        }))
        .await;
    let receipt = scene.cp.receipt(revision, "30s").await;
    assert_eq!(receipt["state"], "refused", "{receipt}");
    assert!(Client::connect(scene.outbound).await.is_some(), "traffic goes on meanwhile");

    std::fs::create_dir(&folder).expect("a folder");
    eventually("what was refused is taken", async || {
        let receipt = scene.cp.receipt(revision, "1s").await;
        (receipt["state"] == "live").then_some(())
    })
    .await;
    eventually("connections are logged", async || {
        drop(Client::connect(scene.outbound).await);
        let written = std::fs::read_to_string(&path).ok()?;
        (!written.is_empty()).then_some(())
    })
    .await;
}
