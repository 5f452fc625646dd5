//! Every way in which kuma-dp can end. It leaves no files and no processes behind.

use http::StatusCode;
use kuma_test::{Process, eventually};
use rustix::process::{Pid, Signal, kill_process};

use crate::control_plane::{DRAINING, ENVOY_EXITED, RUNNING};
use crate::fake_envoy::{FakeEnvoy, OBEDIENT, STUBBORN};
use crate::world::{LIMIT, World, entries, is_running};

async fn gone(pid: u32) {
    eventually("Envoy is gone", || async { (!is_running(pid)).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_ends_envoy() {
    let world = World::new().await;
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let mut kuma_dp = world.start(&envoy.path(), &[]);
    let pid = envoy.started().await;
    world.cp.reported(&[RUNNING]).await;
    kuma_dp.signal(Signal::TERM);
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(0));
    assert!(!is_running(pid));
    world.cp.reported(&[RUNNING, DRAINING, ENVOY_EXITED]).await;
    assert_eq!(entries(&world.tmp()), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_minus_9_takes_envoy_along() {
    let world = World::new().await;
    // Also an Envoy that ignores SIGTERM ends with kuma-dp.
    let envoy = FakeEnvoy::new(world.folder.path(), STUBBORN);
    for _ in 0..20 {
        let mut kuma_dp = world.start(&envoy.path(), &[]);
        let pid = envoy.started().await;
        kuma_dp.kill();
        gone(pid).await;
        std::fs::remove_file(envoy.path().with_file_name("pid")).unwrap();
    }
    // The next kuma-dp has removed the folders of the killed ones.
    world.runtime_dir();
}

#[tokio::test(flavor = "multi_thread")]
async fn envoys_exit_code_is_kuma_dps() {
    for (body, code, said) in [
        ("exit 7", 7, "it exited with code 7"),
        // For example by /quitquitquit: the supervisor of kuma-dp has to start both again.
        ("exit 0", 1, "it exited with code 0"),
        ("kill -9 $$", 1, "it was killed by signal 9"),
    ] {
        let world = World::new().await;
        // The script runs only when the control plane has got the first report.
        let wait = format!("while [ ! -e {0}/go ]; do sleep 0.02; done; {body}", world.folder.path().display());
        let envoy = FakeEnvoy::new(world.folder.path(), &wait);
        let mut kuma_dp = world.start(&envoy.path(), &["--log-level=off"]);
        world.cp.reported(&[RUNNING]).await;
        std::fs::write(world.path("go"), "").unwrap();
        assert_eq!(kuma_dp.wait(LIMIT).code(), Some(code), "{body}");
        assert!(kuma_dp.output().contains(&format!("Envoy has ended: {said}")), "{}", kuma_dp.output());
        world.cp.reported(&[RUNNING, ENVOY_EXITED]).await;
        assert_eq!(world.cp.script(|script| script.reports[1].detail.clone()), said);
        assert_eq!(entries(&world.tmp()), Vec::<std::path::PathBuf>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_hangs_is_killed_in_the_end() {
    let world = World::new().await;
    let envoy = FakeEnvoy::new(world.folder.path(), STUBBORN);
    let mut kuma_dp = world.start(&envoy.path(), &[]);
    let pid = envoy.started().await;
    kuma_dp.signal(Signal::TERM);
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(0));
    assert!(!is_running(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let world = World::new().await;
    let envoy = FakeEnvoy::new(world.folder.path(), STUBBORN);
    let mut command = world.command(&envoy.path(), &[]);
    // Longer than the test may take.
    command.env("KUMA_DATAPLANE_DRAIN_TIME", "10m");
    let mut kuma_dp = Process::start("kuma-dp", &mut command, world.folder.path());
    let pid = envoy.started().await;
    world.cp.reported(&[RUNNING]).await;
    kuma_dp.signal(Signal::INT);
    world.cp.reported(&[RUNNING, DRAINING]).await;
    kuma_dp.signal(Signal::TERM);
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(1));
    assert!(!is_running(pid));
    assert_eq!(entries(&world.tmp()), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_the_terminals_group_reaches_kuma_dp_alone() {
    let world = World::new().await;
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let kuma_dp = world.start(&envoy.path(), &[]);
    let pid = envoy.started().await;
    let group = |pid: u32| rustix::process::getpgid(Pid::from_raw(pid.try_into().unwrap())).unwrap();
    assert_ne!(group(pid), group(kuma_dp.id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwilling_control_plane_holds_up_nothing() {
    let mut world = World::new().await;
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let mut kuma_dp = world.start(&envoy.path(), &[]);
    let pid = envoy.started().await;
    world.cp.reported(&[RUNNING]).await;
    world.cp.script(|script| script.catalog_status = StatusCode::INTERNAL_SERVER_ERROR);
    world.cp.stop_xds().await;
    // Envoy keeps running without a control plane, and ends without it.
    eventually("kuma-dp has noticed", || async { kuma_dp.output().contains("could not report").then_some(()) }).await;
    assert!(is_running(pid));
    kuma_dp.signal(Signal::TERM);
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(0));
    assert!(!is_running(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_both_is_one_to_kuma_dp() {
    let world = World::new().await;
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    for _ in 0..5 {
        let mut kuma_dp = world.start(&envoy.path(), &[]);
        let pid = Pid::from_raw(envoy.started().await.try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        kuma_dp.signal(Signal::TERM);
        assert_eq!(kuma_dp.wait(LIMIT).code(), Some(0));
        std::fs::remove_file(envoy.path().with_file_name("pid")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_says_who_has_the_ports() {
    let world = World::new().await;
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let mut first = world.start(&envoy.path(), &["--log-level=off"]);
    envoy.started().await;
    assert!(!first.output().contains("another kuma-dp"), "{}", first.output());
    let mut other = world.command(&envoy.path(), &["--log-level=off"]);
    let second = kuma_test::Process::start("second", &mut other, world.folder.path());
    second
        .prints(&format!("another kuma-dp (process {}) runs Dataplane \"web-1\" of mesh \"default\"", first.id()))
        .await;
    second.prints("Address already in use").await;
    drop(second);
    first.kill();
    // The lock ends with its process.
    std::fs::remove_file(envoy.path().with_file_name("pid")).unwrap();
    let third = kuma_test::Process::start(
        "third",
        &mut world.command(&envoy.path(), &["--log-level=off"]),
        world.folder.path(),
    );
    envoy.started().await;
    assert!(!third.output().contains("another kuma-dp"), "{}", third.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_killed_from_outside_is_noticed() {
    let world = World::new().await;
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let mut kuma_dp = world.start(&envoy.path(), &[]);
    let pid = envoy.started().await;
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(1));
}
