//! The token file: mistakes in it are reported, and its content is shown nowhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use kuma_test::eventually;
use rustix::process::Signal;

use crate::fake_envoy::{FakeEnvoy, OBEDIENT};
use crate::world::{LIMIT, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_file_ends_it_before_anything_starts() {
    for (content, said) in
        [(None, "could not read file"), (Some("\n"), "is empty"), (Some("two words"), "is not a token")]
    {
        let world = World::new().await;
        let token = world.path("token");
        if let Some(content) = content {
            fs::write(&token, content).unwrap();
        }
        let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
        let mut kuma_dp = world.start(&envoy.path(), &["--dataplane-token-file", token.to_str().unwrap()]);
        assert_eq!(kuma_dp.wait(LIMIT).code(), Some(1));
        let output = kuma_dp.output();
        assert!(output.contains(said) && output.contains(token.to_str().unwrap()), "{output}");
        assert_eq!(world.cp.script(|script| script.catalog_requests), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_it_warns_and_goes_on() {
    let world = World::new().await;
    world.cp.script(|script| script.issues_tokens = true);
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let kuma_dp = world.start(&envoy.path(), &["--log-level=off"]);
    envoy.started().await;
    let output = kuma_dp.output();
    assert!(
        output.contains("no dataplane token was given") && output.contains("kumactl generate dataplane-token"),
        "{output}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_shows_nowhere() {
    let world = World::new().await;
    world.cp.script(|script| script.issues_tokens = true);
    let token = world.path("token");
    fs::write(&token, "e30.e30.canary-of-token\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let kuma_dp = world.start(&envoy.path(), &["--dataplane-token-file", token.to_str().unwrap()]);
    let pid = envoy.started().await;

    let copy = world.runtime_dir().join("token");
    assert_eq!(fs::read_to_string(&copy).unwrap(), "e30.e30.canary-of-token", "without the newline");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let request = world.cp.script(|script| script.bootstrap_requests[0].to_string());
    assert!(request.contains(&format!("\"dataplaneTokenPath\":\"{}\"", copy.display())), "{request}");

    let process =
        |pid: u32, file: &str| String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap()).into_owned();
    for seen in [
        process(pid, "cmdline"),
        process(pid, "environ"),
        process(kuma_dp.id(), "cmdline"),
        request,
        kuma_dp.output(),
        fs::read_to_string(world.runtime_dir().join("bootstrap.yaml")).unwrap(),
    ] {
        assert!(!seen.contains("canary"), "{seen}");
    }
    assert!(kuma_dp.output().contains("can be read by other users"), "{}", kuma_dp.output());
    // The guard also forbids new privileges and core files.
    assert!(process(pid, "status").contains("NoNewPrivs:\t1"));
    assert!(process(pid, "limits").lines().any(|line| {
        line.starts_with("Max core file size") && line.split_whitespace().skip(4).take(2).all(|limit| limit == "0")
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_token_again() {
    let world = World::new().await;
    let token = world.path("token");
    fs::write(&token, "e30.e30.first").unwrap();
    let envoy = FakeEnvoy::new(world.folder.path(), OBEDIENT);
    let mut kuma_dp = world.start(&envoy.path(), &["--dataplane-token-file", token.to_str().unwrap()]);
    envoy.started().await;
    let copy = world.runtime_dir().join("token");
    fs::write(&token, "e30.e30.second\n").unwrap();
    kuma_dp.signal(Signal::HUP);
    eventually("the copy is renewed", || async {
        (fs::read_to_string(&copy).unwrap() == "e30.e30.second").then_some(())
    })
    .await;
    fs::write(&token, "").unwrap();
    kuma_dp.signal(Signal::HUP);
    eventually("the bad token is reported", || async {
        kuma_dp.output().contains("keeping the token as it was").then_some(())
    })
    .await;
    assert_eq!(fs::read_to_string(&copy).unwrap(), "e30.e30.second");
    assert!(kuma_dp.is_running());
}
