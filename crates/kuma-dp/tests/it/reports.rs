//! The stream of reports.

use kuma_test::eventually;
use rustix::process::Signal;

use crate::control_plane::{DRAINING, ENVOY_EXITED, RUNNING};
use crate::fake_envoy::{FakeEnvoy, OBEDIENT};
use crate::world::{LIMIT, World};

#[tokio::test(flavor = "multi_thread")]
async fn comes_back_and_repeats_its_state() {
    let mut world = World::new().await;
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let mut kuma_dp = world.start(&envoy.path(), &["--mesh=blue"]);
    world.cp.reported(&[RUNNING]).await;
    world.cp.restart_xds().await;
    world.cp.reported(&[RUNNING, RUNNING]).await;
    kuma_dp.signal(Signal::TERM);
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(0));
    world.cp.reported(&[RUNNING, RUNNING, DRAINING, ENVOY_EXITED]).await;
    world.cp.script(|script| {
        for report in &script.reports {
            assert_eq!((report.mesh.as_str(), report.name.as_str()), ("blue", "web-1"));
        }
        for headers in &script.calls {
            assert_eq!(headers["content-type"], "application/grpc");
            assert_eq!(headers["te"], "trailers");
            assert!(!headers.contains_key("authorization"));
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_travels_over_tls_to_the_pinned_authority() {
    let world = World::new().await;
    world.cp.with_tls(true);
    let token = world.path("token");
    std::fs::write(&token, "e30.e30.canary-of-token\n").unwrap();
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let mut kuma_dp = world.start(&envoy.path(), &["--dataplane-token-file", token.to_str().unwrap()]);
    world.cp.reported(&[RUNNING]).await;
    kuma_dp.signal(Signal::TERM);
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(0));
    world.cp.reported(&[RUNNING, DRAINING, ENVOY_EXITED]).await;
    let sent = world.cp.script(|script| script.calls[0]["authorization"].to_str().unwrap().to_owned());
    assert_eq!(sent, "e30.e30.canary-of-token");
    assert!(!kuma_dp.output().contains("canary"), "{}", kuma_dp.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_token_is_on_the_next_stream() {
    let mut world = World::new().await;
    world.cp.with_tls(true);
    let token = world.path("token");
    std::fs::write(&token, "e30.e30.first").unwrap();
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let _kuma_dp = world.start(&envoy.path(), &["--dataplane-token-file", token.to_str().unwrap()]);
    world.cp.reported(&[RUNNING]).await;
    std::fs::write(&token, "e30.e30.second\n").unwrap();
    world.cp.restart_xds().await;
    world.cp.reported(&[RUNNING, RUNNING]).await;
    let sent: Vec<String> = world.cp.script(|script| {
        script.calls.iter().map(|headers| headers["authorization"].to_str().unwrap().to_owned()).collect()
    });
    assert_eq!(sent, ["e30.e30.first", "e30.e30.second"]);
    assert_eq!(std::fs::read_to_string(world.runtime_dir().join("token")).unwrap(), "e30.e30.second");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_gets_no_word() {
    let world = World::new().await;
    world.cp.with_tls(false);
    let token = world.path("token");
    std::fs::write(&token, "e30.e30.canary-of-token").unwrap();
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let mut kuma_dp = world.start(&envoy.path(), &["--dataplane-token-file", token.to_str().unwrap()]);
    envoy.started().await;
    eventually("the certificate is refused", || async {
        kuma_dp.output().contains("invalid peer certificate").then_some(())
    })
    .await;
    kuma_dp.signal(Signal::TERM);
    assert_eq!(kuma_dp.wait(LIMIT).code(), Some(0));
    world.cp.script(|script| assert!(script.calls.is_empty() && script.reports.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_never_travels_in_clear_text() {
    let world = World::new().await;
    let token = world.path("token");
    std::fs::write(&token, "e30.e30.canary-of-token").unwrap();
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let kuma_dp = world.start(&envoy.path(), &["--dataplane-token-file", token.to_str().unwrap()]);
    world.cp.reported(&[RUNNING]).await;
    world.cp.script(|script| assert!(!script.calls[0].contains_key("authorization")));
    assert!(kuma_dp.output().contains("xDS without TLS"), "{}", kuma_dp.output());
}
