//! Transparent proxying: applications on two machines that do not know about proxies, with a real Envoy on each.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use kuma_test::documents::{mesh, permission};
use kuma_test::machine::Machine;
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Process, envoy_binary, eventually, program};
use serde_json::{Value, json};

/// The user that runs kuma-dp and Envoy.
const PROXY: u32 = 5678;
/// The user that runs applications.
const USER: u32 = 1001;
/// Address of the service `redis`, as a resolver would give it. No machine has it.
const REDIS: &str = "10.96.0.1";

/// `web` on a machine, `redis` on another one, and the control plane on this one.
struct Scene {
    cp: ControlPlane,
    web: Machine,
    redis: Machine,
    /// Address of redis for web.
    redis_address: Ipv4Addr,
    /// Port on this machine of a server outside the mesh.
    outside: u16,
    /// The proxies of web and redis first.
    processes: Vec<Process>,
}

/// Ports on every machine alike.
const ADMIN: u16 = 30001;
const REDIS_PORT: u16 = 8080;
const OTHER_PORT: u16 = 7777;

impl Scene {
    async fn start() -> Scene {
        let (web, redis) = (Machine::start(), Machine::start());
        let (web_address, redis_address) = web.join(&redis);
        web.add_ipv6("fd00::1");
        let cp = ControlPlane::start_with(&[("KUMA_GENERAL_ADVERTISED_HOSTNAME", web.here.to_string().as_str())]).await;
        cp.apply(&with_metrics(true)).await;
        cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
        cp.apply(&dataplane("redis-1", &[("redis", format!("{redis_address}:{REDIS_PORT}:{REDIS_PORT}"))], &[])).await;
        let inbounds = [
            ("web", format!("{web_address}:9090:9090")),
            // Its port differs from the application's.
            ("api", format!("{web_address}:10090:9090")),
        ];
        let outbounds = [
            (format!("{REDIS}:80"), "redis"),
            ("[fd96::1]:80".into(), "redis"),
            (":6379".into(), "redis"),
            ("10.96.0.2:80".into(), "api"),
        ];
        cp.apply(&dataplane("web-1", &inbounds, &outbounds)).await;
        cp.apply(&permission("default", "web-to-api", "web", "api")).await;
        let outside = free_port();
        let mut processes = Vec::new();
        for (machine, name) in [(&web, "web-1"), (&redis, "redis-1")] {
            let token = cp.token_file("default", name);
            processes.push(kuma_dp(&cp, machine, web.here, name, Some(&token)));
        }
        for (machine, port) in [(&redis, REDIS_PORT), (&redis, OTHER_PORT), (&web, 9090)] {
            let mut command = machine.command_as(USER, program("kuma-tcp-echo"));
            let name = format!("echo-{port}");
            processes.push(Process::start(&name, command.args(["-port", &port.to_string()]), cp.folder()));
        }
        let mut command = Command::new(program("kuma-tcp-echo"));
        processes.push(Process::start("outside", command.args(["-port", &outside.to_string()]), cp.folder()));
        let scene = Scene { cp, web, redis, redis_address, outside, processes };
        for machine in [&scene.web, &scene.redis] {
            eventually("Envoy is live", async || {
                scene.get(machine, PROXY, &format!("http://127.0.0.1:{ADMIN}/ready")).filter(|text| text == "LIVE\n")
            })
            .await;
        }
        scene
    }

    async fn mtls(&self, enabled: bool) {
        self.cp.apply(&with_metrics(enabled)).await;
    }

    /// The response of an HTTP server to a user of a machine.
    fn get(&self, machine: &Machine, user: u32, url: &str) -> Option<String> {
        answer(machine.command_as(user, "curl"), url)
    }

    /// The response of redis to web, which connects to the service's address.
    fn dial(&self) -> Option<String> {
        self.get(&self.web, USER, &format!("http://{REDIS}/"))
    }

    async fn dials(&self) -> String {
        eventually("web reaches redis", async || self.dial()).await
    }

    async fn does_not_dial(&self, what: &str) {
        eventually(what, async || self.dial().is_none().then_some(())).await;
    }

    /// A statistic of a machine's Envoy.
    fn stat(&self, machine: &Machine, name: &str) -> u64 {
        let url = format!("http://127.0.0.1:{ADMIN}/stats?format=json&filter=^{name}$");
        let stats = self.get(machine, PROXY, &url).expect("Envoy's admin answers");
        let stats: Value = serde_json::from_str(&stats).expect("JSON");
        stats["stats"].as_array().into_iter().flatten().find_map(|stat| stat["value"].as_u64()).unwrap_or_default()
    }

    fn passed_through(&self, machine: &Machine) -> u64 {
        self.stat(machine, "cluster.pass_through.upstream_cx_total")
    }

    fn kumactl(&self, line: &str) {
        for machine in [&self.web, &self.redis] {
            run(machine.command(program("kumactl")).args(line.split_whitespace()).env("HOME", self.cp.folder()));
        }
    }

    fn install(&self, flags: &str) {
        self.kumactl(&format!("install transparent-proxy --kuma-dp-uid {PROXY} {flags}"));
    }
}

fn with_metrics(mtls: bool) -> Value {
    let mut mesh = mesh("default", mtls);
    mesh["metrics"] = json!({"prometheus": {}});
    mesh
}

/// Starts the proxy of a Dataplane, on a machine that knows the control plane by this address.
fn kuma_dp(cp: &ControlPlane, machine: &Machine, here: Ipv4Addr, name: &str, token: Option<&Path>) -> Process {
    let mut command = machine.command_as(PROXY, program("kuma-dp"));
    command
        .args(["run", "--name", name, "--mesh", "default"])
        .args(["--cp-address", &cp.api_url().replace("127.0.0.1", &here.to_string())])
        .args(["--admin-port", &ADMIN.to_string()])
        .env("HOME", cp.folder())
        .env("KUMA_DATAPLANE_RUNTIME_BINARY_PATH", envoy_binary())
        .env("KUMA_DATAPLANE_DRAIN_TIME", "2s");
    if let Some(token) = token {
        command.arg("--dataplane-token-file").arg(token);
    }
    Process::start(name, &mut command, cp.folder())
}

fn dataplane(name: &str, inbounds: &[(&str, String)], outbounds: &[(String, &str)]) -> Value {
    let inbounds = inbounds.iter().map(|(service, at)| json!({"interface": at, "tags": {"service": service}}));
    let outbounds = outbounds.iter().map(|(at, service)| json!({"interface": at, "service": service}));
    json!({
        "type": "Dataplane", "mesh": "default", "name": name,
        "networking": {
            "inbound": inbounds.collect::<Vec<Value>>(), "outbound": outbounds.collect::<Vec<Value>>(),
            "transparentProxying": {"redirectPort": 15001},
        },
    })
}

fn answer(mut curl: Command, url: &str) -> Option<String> {
    let output = curl.args(["-s", "-g", "-f", "--max-time", "5", "--noproxy", "*", url]).output().expect("curl runs");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run(command: &mut Command) {
    let output = command.output().expect("ip runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_knows_no_proxy_calls_through_two_of_them() {
    let scene = Scene::start().await;
    let redis = format!("http://{}:{REDIS_PORT}/", scene.redis_address);
    assert!(scene.dial().is_none(), "nobody has that address");
    assert!(scene.get(&scene.web, USER, &redis).is_some(), "without rules the application is open to everyone");

    scene.install("");
    // The host that web has dialled arrives unchanged.
    assert!(scene.dials().await.contains(&format!("Host: {REDIS}")));
    let listener = format!("listener.{}_{REDIS_PORT}.ssl.handshake", scene.redis_address);
    assert!(scene.stat(&scene.redis, &listener) > 0, "it came over TLS");
    assert!(scene.stat(&scene.web, "cluster.redis.ssl.handshake") > 0, "it left over TLS");
    // A connection to an instance's own address passes through as plain text, which redis's proxy refuses.
    assert!(scene.get(&scene.web, USER, &redis).is_none());
    assert!(scene.get(&scene.web, PROXY, &redis).is_none(), "though it passes by web's proxy");
    // An outbound on loopback works as well.
    assert!(scene.get(&scene.web, USER, "http://127.0.0.1:6379/").is_some());

    // Permissions depend on the certificate.
    scene.cp.delete("/meshes/default/traffic-permissions/web-to-redis").await;
    scene.does_not_dial("nobody is permitted").await;
    scene.cp.apply(&permission("default", "other-to-redis", "other", "redis")).await;
    assert!(scene.dial().is_none(), "web is not other");
    scene.cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    scene.dials().await;

    // A service that calls itself, through an inbound with a port of its own.
    let itself = "http://10.96.0.2/";
    eventually("web reaches itself", async || scene.get(&scene.web, USER, itself)).await;
    assert!(scene.stat(&scene.web, "cluster.api.ssl.handshake") > 0);

    scene.kumactl("uninstall transparent-proxy");
    scene.does_not_dial("nothing is redirected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_of_the_mesh_passes_through_or_by() {
    let scene = Scene::start().await;
    scene.install("");
    scene.dials().await;
    let outside = format!("http://{}:{}/", scene.web.here, scene.outside);
    let passed = scene.passed_through(&scene.web);
    for _ in 0..3 {
        scene.get(&scene.web, USER, &outside).expect("it is reached through the proxy");
    }
    assert_eq!(scene.passed_through(&scene.web) - passed, 3);
    let enters = |port: u16| answer(Command::new("curl"), &format!("http://{}:{port}/", scene.redis.there));
    assert!(enters(OTHER_PORT).is_none(), "under mTLS an application that is no inbound is not open to strangers");
    scene.mtls(false).await;
    let passed = scene.passed_through(&scene.redis);
    eventually("it is reached through the proxy", async || enters(OTHER_PORT)).await;
    assert_eq!(scene.passed_through(&scene.redis) - passed, 1);
    scene.mtls(true).await;
    eventually("it is closed again", async || enters(OTHER_PORT).is_none().then_some(())).await;
    scene.dials().await;

    // Prometheus can scrape redis from this machine and from redis's own.
    assert!(answer(Command::new("curl"), &format!("http://{}:5670/metrics", scene.redis.there)).is_some());
    assert!(scene.get(&scene.redis, USER, "http://127.0.0.1:5670/metrics").is_some());

    scene.install(&format!("--exclude-outbound-ports {} --exclude-inbound-ports {OTHER_PORT}", scene.outside));
    let passed = (scene.passed_through(&scene.web), scene.passed_through(&scene.redis));
    scene.get(&scene.web, USER, &outside).expect("it is reached");
    enters(OTHER_PORT).expect("it is reached");
    assert_eq!((scene.passed_through(&scene.web), scene.passed_through(&scene.redis)), passed, "not by the proxy");
    scene.dials().await;

    // A connection to the redirect port itself is reset: if it were passed through, Envoy would connect to itself
    // without end.
    let accepted = "listener.0.0.0.0_15001.downstream_cx_total";
    let before = scene.stat(&scene.redis, accepted);
    assert!(enters(15001).is_none());
    assert!(scene.get(&scene.redis, USER, "http://127.0.0.1:15001/").is_none());
    let address = scene.redis.there;
    assert!(scene.get(&scene.redis, USER, &format!("http://{address}:15001/")).is_none());
    assert_eq!(scene.stat(&scene.redis, accepted) - before, 3);
}

/// Whatever address a stranger finds, whichever family, and whether the proxy has its certificate or not.
#[tokio::test(flavor = "multi_thread")]
async fn under_mtls_no_way_leads_past_the_inbounds() {
    let mut scene = Scene::start().await;
    let (second, ipv6) = ("10.127.255.254", "fd02::2");
    scene.redis.add_address(second.parse().expect("an address"));
    let via = scene.redis.there.to_string();
    run(Command::new("ip").args(["route", "replace", second, "via", &via]));
    let web_address = Ipv4Addr::from(u32::from(scene.redis_address) - 1);
    for (machine, ipv4, ipv6) in [(&scene.web, web_address, "fd02::1"), (&scene.redis, scene.redis_address, ipv6)] {
        let device = format!("$(ip -o address show to {ipv4} | cut -d ' ' -f 2)");
        run(machine.command("sh").args(["-c", &format!("ip -6 address add {ipv6}/64 nodad dev {device}")]));
    }
    let urls = [
        format!("http://{}:{REDIS_PORT}/", scene.redis_address),
        format!("http://{}:{REDIS_PORT}/", scene.redis.there),
        format!("http://{second}:{REDIS_PORT}/"),
        format!("http://{}:{OTHER_PORT}/", scene.redis.there),
        format!("http://[{ipv6}]:{REDIS_PORT}/"),
    ];
    let enters =
        |scene: &Scene, url: &String| match url.contains(&scene.redis.there.to_string()) || url.contains(second) {
            true => answer(Command::new("curl"), url),
            // It is not on the way from here. The proxy's user is not redirected.
            false => scene.get(&scene.web, PROXY, url),
        };
    for url in &urls {
        assert!(enters(&scene, url).is_some(), "without rules the application is open at {url}");
    }
    scene.install("");
    scene.dials().await;
    for url in &urls {
        assert!(enters(&scene, url).is_none(), "plain text reaches the application at {url}");
    }

    // A proxy that cannot prove itself has no inbounds: nothing takes their place.
    scene.mtls(false).await;
    scene.processes[1].kill();
    scene.processes[1] = kuma_dp(&scene.cp, &scene.redis, scene.web.here, "redis-1", None);
    eventually("Envoy is live", async || {
        scene.get(&scene.redis, PROXY, &format!("http://127.0.0.1:{ADMIN}/ready")).filter(|text| text == "LIVE\n")
    })
    .await;
    eventually("it is reached without mTLS", async || enters(&scene, &urls[0])).await;
    scene.mtls(true).await;
    for url in &urls {
        eventually("its inbounds are closed", async || enters(&scene, url).is_none().then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_is_redirected_where_that_is_asked_for() {
    let scene = Scene::start().await;
    let dial = || scene.get(&scene.web, USER, "http://[fd96::1]/");
    scene.install("");
    scene.dials().await;
    assert!(dial().is_none());
    run(scene
        .web
        .command(program("kumactl"))
        .args(["install", "transparent-proxy", "--ip-family-mode", "dualstack"])
        .args(["--kuma-dp-uid", &PROXY.to_string()]));
    eventually("web reaches redis over IPv6", async || dial()).await;
    scene.dials().await;
    assert!(scene.stat(&scene.web, "listener.*fd96.*_80.downstream_cx_total") > 0);
}

/// Rules that users have made themselves work without those of kumactl.
#[tokio::test(flavor = "multi_thread")]
async fn rules_of_iptables_do_as_well() {
    let scene = Scene::start().await;
    for iptables in ["iptables-nft", "iptables-legacy"] {
        scene.does_not_dial("nothing is redirected").await;
        let own = PROXY.to_string();
        let output = ["-p", "tcp", "!", "-o", "lo", "-m", "owner", "!", "--uid-owner", &own];
        let prerouting = ["-p", "tcp", "--dport", "8080"];
        let rules = [(&scene.web, "OUTPUT", &output[..]), (&scene.redis, "PREROUTING", &prerouting[..])];
        for (machine, chain, rule) in rules {
            let mut command = machine.command(iptables);
            run(command.args(["-t", "nat", "-A", chain]).args(rule).args(["-j", "REDIRECT", "--to-ports", "15001"]));
        }
        scene.dials().await;
        for (machine, chain, _) in rules {
            run(machine.command(iptables).args(["-t", "nat", "-F", chain]));
        }
    }
}

/// A proxy that is stopped also waits for connections that pass through it.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_stopped_gives_passing_connections_time() {
    let scene = Scene::start().await;
    scene.install("");
    scene.dials().await;
    let talk = format!(
        "exec 3<>/dev/tcp/{}/{} && echo one >&3 && head -n 1 <&3 && sleep 1.5 && echo two >&3 && head -n 1 <&3",
        scene.web.here, scene.outside
    );
    let mut command = scene.web.command_as(USER, "bash");
    let mut talk = Process::start("talk", command.args(["-c", &talk]), scene.cp.folder());
    talk.prints("one\n").await;
    assert_eq!(scene.passed_through(&scene.web), 1);
    // The drain time of these proxies is 2 s.
    scene.processes[0].signal(rustix::process::Signal::TERM);
    talk.prints("two\n").await;
    assert!(talk.wait(std::time::Duration::from_secs(30)).success());
}
