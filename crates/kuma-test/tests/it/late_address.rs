//! A machine whose address comes later than its proxy, by DHCP for example: listeners on that address are refused, and
//! opened once it is there.

use kuma_test::machine::Machine;
use kuma_test::{ControlPlane, Process, eventually, program};
use serde_json::{Value, json};

/// The address that comes later.
const LATE: [u8; 4] = [198, 51, 100, 7];
/// Ports on the machine.
const INBOUND: u16 = 8080;
const APPLICATION: u16 = 9090;
const OUTBOUND: u16 = 6379;
const REDIS_ADMIN: u16 = 30001;
const WEB_ADMIN: u16 = 30002;

#[tokio::test(flavor = "multi_thread")]
async fn listeners_open_when_their_address_comes() {
    let late = std::net::Ipv4Addr::from(LATE);
    let machine = Machine::start();
    let cp = ControlPlane::start_with(&[("KUMA_GENERAL_ADVERTISED_HOSTNAME", &machine.here.to_string())]).await;
    let dataplane = |name: &str, networking: Value| {
        json!({
            "type": "Dataplane", "mesh": "default", "name": name, "networking": networking,
        })
    };
    let redis = json!({"port": INBOUND, "servicePort": APPLICATION, "tags": {"service": "redis"}});
    cp.apply(&dataplane("redis-1", json!({"address": late, "inbound": [redis]}))).await;
    // web's second outbound is on the same address.
    let web = json!({"port": 9080, "servicePort": 9081, "tags": {"service": "web"}});
    let outbounds = [format!(":{OUTBOUND}"), format!("{late}:{OUTBOUND}")]
        .map(|interface| json!({"interface": interface, "service": "redis"}));
    cp.apply(&dataplane("web-1", json!({"address": machine.there, "inbound": [web], "outbound": outbounds}))).await;
    let mut command = machine.command(program("kuma-tcp-echo"));
    let _echo = Process::start("echo", command.args(["-port", &APPLICATION.to_string()]), cp.folder());
    let _redis_proxy = machine.start_dataplane(&cp, "redis-1", REDIS_ADMIN);
    let _web_proxy = machine.start_dataplane(&cp, "web-1", WEB_ADMIN);
    let get = |url: &str| {
        let mut curl = machine.command("curl");
        let output = curl.args(["-s", "-f", "--max-time", "5", "--noproxy", "*", url]).output().expect("curl runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let dial = |host: &str| get(&format!("http://{host}:{OUTBOUND}/"));
    let endpoints = || {
        let clusters = get(&format!("http://127.0.0.1:{WEB_ADMIN}/clusters"))?;
        Some(clusters.lines().filter(|line| line.starts_with("redis::") && line.contains("::cx_active::")).count())
    };
    let status = |name: &str| {
        let output = cp.kumactl(&["inspect", "dataplanes"], "");
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = table.lines().find(|line| line.contains(name))?.to_owned();
        ["Online", "Degraded", "Offline"].into_iter().find(|status| line.contains(status))
    };

    for (name, listener) in
        [("redis-1", format!("inbound:{late}:{INBOUND}")), ("web-1", format!("outbound:{late}:{OUTBOUND}"))]
    {
        eventually(&format!("{listener} is refused"), async || {
            let output = cp.kumactl(&["inspect", "dataplane", name], "");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            (text.contains(&listener) && text.contains("cannot bind")).then_some(())
        })
        .await;
        eventually(&format!("{name} is Degraded"), async || (status(name) == Some("Degraded")).then_some(())).await;
    }
    eventually("redis has no endpoint", async || (endpoints() == Some(0)).then_some(())).await;
    assert_eq!(dial("127.0.0.1"), None, "something has answered for redis");

    machine.add_address(late);
    for host in ["127.0.0.1".to_owned(), late.to_string()] {
        eventually(&format!("web reaches redis by {host}"), async || dial(&host)).await;
    }
    assert_eq!(endpoints(), Some(1));
    for name in ["redis-1", "web-1"] {
        eventually(&format!("{name} is Online"), async || (status(name) == Some("Online")).then_some(())).await;
    }
}
