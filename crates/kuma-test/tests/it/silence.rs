//! A machine that vanishes without closing its connections: TCP keepalive ends them, on both sides.

use std::time::{Duration, Instant};

use kuma_test::machine::Machine;
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, Process, eventually, program};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Ports on the other machine.
const INBOUND: u16 = 8080;
const APPLICATION: u16 = 9090;
const ADMIN: u16 = 30001;

/// `redis` on another machine, and `web` on this one, with an idle connection to it.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_end_on_both_sides() {
    let machine = Machine::start();
    let here = machine.here.to_string();
    let cp = ControlPlane::start_with(&[("KUMA_GENERAL_ADVERTISED_HOSTNAME", &here)]).await;
    let outbound = free_port();
    let redis = json!({
        "type": "Dataplane", "mesh": "default", "name": "redis-1",
        "networking": {"inbound": [{
            "interface": format!("{}:{INBOUND}:{APPLICATION}", machine.there), "tags": {"service": "redis"},
        }]},
    });
    cp.apply(&redis).await;
    cp.apply(&kuma_test::documents::dataplane(
        "default",
        "web-1",
        "web",
        (free_port(), APPLICATION),
        &[(outbound, "redis")],
    ))
    .await;
    let _proxy = machine.start_dataplane(&cp, "redis-1", ADMIN);
    let mut command = machine.command(program("kuma-tcp-echo"));
    let _echo = Process::start("echo", command.args(["-port", &APPLICATION.to_string()]), cp.folder());
    let web = Dataplane::start(&cp, "default", "web-1");
    web.live().await;
    let mut connection = eventually("web reaches redis", async || {
        let mut stream = TcpStream::connect(("127.0.0.1", outbound)).await.ok()?;
        // The line is echoed, and the connection stays open.
        stream.write_all(b"hello there\n").await.ok()?;
        let mut answer = vec![0; 1000];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await.ok()?.ok()?;
        (read > 0).then_some(stream)
    })
    .await;
    let open_there = || {
        let sockets = machine.command("ss").args(["-Htn", "state", "established"]).output().expect("`ss` runs");
        let sockets = String::from_utf8_lossy(&sockets.stdout).into_owned();
        sockets.lines().filter(|line| line.contains(&format!("{}:{INBOUND} ", machine.there))).count()
    };
    let all = machine.command("ss").args(["-Htna"]).output().expect("`ss` runs");
    assert!(open_there() >= 1, "{}", String::from_utf8_lossy(&all.stdout));

    machine.vanish();
    let vanished = Instant::now();
    let mut byte = [0];
    let ended = tokio::time::timeout(kuma_test::wait::LIMIT, connection.read(&mut byte)).await;
    println!("web's connection ended after {:?}: {ended:?}", vanished.elapsed());
    assert!(ended.is_ok_and(|read| read.is_err() || read.is_ok_and(|bytes| bytes == 0)));
    // To the other machine, this one has vanished as well: its proxy closes the connection too.
    eventually("redis's proxy closes the connection", async || (open_there() == 0).then_some(())).await;
    println!("redis's proxy closed it after {:?}", vanished.elapsed());
}
