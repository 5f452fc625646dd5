//! The start, up to a running Envoy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use http::StatusCode;
use kuma_test::ports::free_port;
use kuma_test::{Process, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fake_envoy::{FakeEnvoy, OBEDIENT};
use crate::world::{LIMIT, World, command, entries};

async fn says(process: &Process, text: &str) {
    eventually(text, || async { process.output().contains(text).then_some(()) }).await;
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_gets_the_bootstrap_in_a_private_place() {
    let world = World::new().await;
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let mut command = world.command(&envoy.path(), &["--admin-port=1024-", "--mesh=blue"]);
    command.env("KUMA_DATAPLANE_DRAIN_TIME", "1500ms");
    let mut kuma_dp = Process::start("kuma-dp", &mut command, world.folder.path());
    envoy.started().await;

    let dir = world.runtime_dir();
    let bootstrap = dir.join("bootstrap.yaml");
    assert!(dir.file_name().unwrap().to_str().unwrap().starts_with("kuma-dp-"));
    assert_eq!((mode(&dir), mode(&bootstrap)), (0o700, 0o600));
    let written: Value = serde_json::from_slice(&fs::read(&bootstrap).unwrap()).unwrap();
    let mut request = world.cp.script(|script| script.bootstrap_requests[0].clone());
    // As many as this machine's limit of open files allows.
    let connections = request.as_object_mut().and_then(|request| request.remove("maxConnections"));
    assert!(connections.and_then(|number| number.as_u64()).is_some_and(|number| number > 0));
    let port = request["adminPort"].as_u64().unwrap();
    assert!((1024..=65535).contains(&port));
    assert_eq!(written["admin"]["address"]["socket_address"]["port_value"], port);
    let socket = dir.join("access-logs.sock");
    assert_eq!(request, json!({"mesh": "blue", "name": "web-1", "adminPort": port, "accessLogSocket": socket}));
    let expected = [
        "-c",
        bootstrap.to_str().unwrap(),
        "--drain-time-s",
        "2",
        "--drain-strategy",
        "immediate",
        "--disable-hot-restart",
    ];
    assert_eq!(envoy.arguments(), expected);
    says(&kuma_dp, "this is Envoy speaking").await;

    kuma_dp.signal(Signal::TERM);
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(0));
    assert_eq!(entries(&world.tmp()), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_config_dir_keeps_the_bootstrap_alone() {
    let world = World::new().await;
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let config_dir = world.path("config");
    let mut kuma_dp = world.start(&envoy.path(), &["--config-dir", config_dir.to_str().unwrap()]);
    envoy.started().await;
    assert_eq!(envoy.arguments()[1], config_dir.join("bootstrap.yaml").to_str().unwrap());
    let request = world.cp.script(|script| script.bootstrap_requests[0].clone());
    assert_eq!(request.get("adminPort"), None, "--admin-port= turns it off");
    kuma_dp.signal(Signal::INT);
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(0));
    assert_eq!(entries(&config_dir), [config_dir.join("bootstrap.yaml")]);
    assert_eq!(mode(&config_dir.join("bootstrap.yaml")), 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_on_one_machine_never_share_an_admin_port() {
    let world = World::new().await;
    let envoys = ["one", "two"].map(|name| FakeEnvoy::new(&world.path(name), OBEDIENT));
    let running = envoys.each_ref().map(|envoy| {
        let mut command = world.command(&envoy.path(), &["--admin-port=1024-"]);
        Process::start("kuma-dp", &mut command, world.folder.path())
    });
    for envoy in &envoys {
        envoy.started().await;
    }
    let ports: Vec<u64> = world.cp.script(|script| {
        script.bootstrap_requests.iter().map(|request| request["adminPort"].as_u64().unwrap()).collect()
    });
    assert_eq!(ports.len(), 2);
    assert_ne!(ports[0], ports[1]);
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_dataplane_is_waited_for() {
    let world = World::new().await;
    world.cp.script(|script| script.bootstrap_status = StatusCode::NOT_FOUND);
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let kuma_dp = world.start(&envoy.path(), &["--log-level=off"]);
    let said = "failed to generate Envoy bootstrap config: status: 404. Did you first apply a Dataplane resource?";
    says(&kuma_dp, said).await;
    says(&kuma_dp, "no Dataplane \"web-1\" in mesh \"default\"").await;
    assert!(!envoy.has_started());
    world.cp.script(|script| script.bootstrap_status = StatusCode::OK);
    envoy.started().await;
    let attempts = world.cp.script(|script| script.bootstrap_requests.len());
    let warnings = kuma_dp.output().matches(said).count();
    assert_eq!(warnings, attempts - 1, "one warning for each failed attempt: {}", kuma_dp.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_not_there_is_waited_for() {
    let world = World::new().await;
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let port = free_port();
    let mut command = command();
    command
        .args(["run", "--name=web-1", "--admin-port=", &format!("--cp-address=http://127.0.0.1:{port}")])
        .env("KUMA_DATAPLANE_RUNTIME_BINARY_PATH", envoy.path())
        .env("TMPDIR", world.tmp());
    let mut kuma_dp = Process::start("kuma-dp", &mut command, world.folder.path());
    says(&kuma_dp, &format!("could not retrieve catalog from http://127.0.0.1:{port}/catalog")).await;
    says(&kuma_dp, "Connection refused").await;
    says(&kuma_dp, "KUMA_CONTROL_PLANE_API_SERVER_URL").await;
    // It can be stopped while it waits.
    kuma_dp.signal(Signal::TERM);
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(0));
    assert_eq!(entries(&world.tmp()), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_not_ready_is_waited_for() {
    let world = World::new().await;
    world.cp.script(|script| script.catalog_status = StatusCode::SERVICE_UNAVAILABLE);
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let kuma_dp = world.start(&envoy.path(), &[]);
    says(&kuma_dp, "unexpected status code: 503").await;
    world.cp.script(|script| script.catalog_status = StatusCode::OK);
    envoy.started().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waiting_cannot_heal_ends_it() {
    for (catalog, bootstrap, said) in [
        (StatusCode::NOT_FOUND, StatusCode::OK, "could not retrieve catalog from"),
        (StatusCode::OK, StatusCode::FORBIDDEN, "failed to generate Envoy bootstrap config at"),
    ] {
        let world = World::new().await;
        world.cp.script(|script| (script.catalog_status, script.bootstrap_status) = (catalog, bootstrap));
        let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
        let mut kuma_dp = world.start(&envoy.path(), &[]);
        assert_eq!(kuma_dp.wait(LIMIT).code(), Some(1));
        assert!(kuma_dp.output().contains(&format!("Error: {said}")), "{}", kuma_dp.output());
        assert!(!envoy.has_started());
        assert_eq!(entries(&world.tmp()), Vec::<std::path::PathBuf>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_unknown_origin_end_it() {
    let world = World::new().await;
    world.cp.with_tls(true);
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let mut command = command();
    command
        .args(["run", "--name=web-1", "--admin-port=", &format!("--cp-address=https://{}", world.cp.xds())])
        .env("KUMA_DATAPLANE_RUNTIME_BINARY_PATH", envoy.path())
        .env("TMPDIR", world.tmp());
    let mut kuma_dp = Process::start("kuma-dp", &mut command, world.folder.path());
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(1));
    assert!(kuma_dp.output().contains("could not agree on TLS"), "{}", kuma_dp.output());
}
