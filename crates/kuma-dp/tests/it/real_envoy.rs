//! With the real Envoy: it accepts its bootstrap, drains, and ends with kuma-dp.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use kuma_test::ports::free_port;
use kuma_test::{Process, envoy_binary, eventually};
use rustix::process::Signal;
use serde_json::json;

use crate::control_plane::{DRAINING, ENVOY_EXITED, RUNNING};
use crate::world::{LIMIT, World, entries, is_running};

/// A setup whose bootstrap has one inbound listener in front of an echo server, and the inbound's port.
async fn world_with_inbound() -> (World, u16) {
    let world = World::new().await;
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let server_port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    let port = free_port();
    world.cp.script(|script| {
        script.listeners = json!([{
            "name": format!("inbound:127.0.0.1:{port}"),
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": "tcp", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "local", "cluster": "local"}}]}],
        }]);
        script.clusters = vec![json!({
            "name": "local",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "local", "endpoints": [{"lb_endpoints": [{"endpoint": {"address":
                {"socket_address": {"address": "127.0.0.1", "port_value": server_port}}}}]}]},
        })];
    });
    (world, port)
}

fn start(world: &World) -> Process {
    let admin = format!("--admin-port={}", free_port());
    let mut command = world.command(&envoy_binary(), &[&admin]);
    // Longer than the test may take.
    command.env("KUMA_DATAPLANE_DRAIN_TIME", "10m");
    Process::start("kuma-dp", &mut command, world.folder.path())
}

/// A connection through the inbound that has echoed. (The kernel may still accept connections for an Envoy that is
/// being killed.)
async fn connect(port: u16) -> TcpStream {
    eventually("the inbound serves", || async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(LIMIT)).ok()?;
        echo(&mut stream).ok().map(|()| stream)
    })
    .await
}

fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"hello");
    Ok(())
}

/// The process id of a kuma-dp's Envoy.
fn envoy_of(kuma_dp: &Process) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", kuma_dp.id())).unwrap();
    children.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn open_connections_end_before_envoy_does() {
    let (world, port) = world_with_inbound().await;
    let mut kuma_dp = start(&world);
    let mut open = connect(port).await;
    world.cp.reported(&[RUNNING]).await;
    kuma_dp.signal(Signal::TERM);
    world.cp.reported(&[RUNNING, DRAINING]).await;
    // Longer than the shortest time of a drain.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    echo(&mut open).expect("a connection that is open while Envoy drains");
    // New connections are still served during the drain.
    drop(connect(port).await);
    drop(open);
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(0));
    world.cp.reported(&[RUNNING, DRAINING, ENVOY_EXITED]).await;
    assert_eq!(entries(&world.tmp()), Vec::<std::path::PathBuf>::new());
    TcpListener::bind(("127.0.0.1", port)).expect("the inbound's port is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_cuts_open_connections() {
    let (world, port) = world_with_inbound().await;
    let mut kuma_dp = start(&world);
    let mut open = connect(port).await;
    world.cp.reported(&[RUNNING]).await;
    let envoy = envoy_of(&kuma_dp);
    kuma_dp.signal(Signal::TERM);
    world.cp.reported(&[RUNNING, DRAINING]).await;
    kuma_dp.signal(Signal::TERM);
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(1));
    assert!(!is_running(envoy));
    assert!(matches!(open.read(&mut [0; 1]), Ok(0) | Err(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_minus_9_leaves_no_envoy_and_frees_its_ports() {
    let (world, port) = world_with_inbound().await;
    for _ in 0..3 {
        let mut kuma_dp = start(&world);
        drop(connect(port).await);
        let envoy = envoy_of(&kuma_dp);
        assert!(is_running(envoy));
        kuma_dp.kill();
        eventually("Envoy is gone", || async { (!is_running(envoy)).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_that_envoy_refuses_ends_both() {
    let (world, _) = world_with_inbound().await;
    world.cp.script(|script| script.listeners[0]["no_such_field"] = json!(1));
    let mut kuma_dp = start(&world);
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(1));
    let output = kuma_dp.output();
    assert!(output.contains("no_such_field") && output.contains("Envoy has ended: it exited with code 1"), "{output}");
}
