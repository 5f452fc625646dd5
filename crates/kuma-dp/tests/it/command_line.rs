//! Output of the program without a control plane.

use std::process::Output;

use crate::world::command;

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        command().args(arguments).envs(environment.iter().copied()).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn version() {
    let (code, stdout, _) = run(&["version"], &[]);
    assert_eq!((code, stdout), (Some(0), format!("{}\n", env!("CARGO_PKG_VERSION"))));
    for flag in ["--detailed", "-a"] {
        let (code, stdout, _) = run(&["version", flag], &[]);
        assert_eq!(code, Some(0));
        assert!(stdout.starts_with("Version:    ") && stdout.contains("\nGit Commit: "), "{stdout}");
    }
}

#[test]
fn every_mistake_at_once() {
    let (code, stdout, stderr) =
        run(&["run", "--cp-address=nowhere", "--admin-port=0"], &[("KUMA_DATAPLANE_DRAIN_TIME", "-1s")]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    for part in [
        "Error: Invalid configuration: .ControlPlane is not valid: .ApiServer is not valid: .URL must be a valid \
         absolute URI; .Dataplane is not valid: .Name must be non-empty; ",
        "invalid value \"0\". Valid port range formats: \"8080\", \"8080-8081\"",
        ".DrainTime must be positive",
        "\n  --cp-address: ",
        "\n  KUMA_DATAPLANE_DRAIN_TIME: ",
        "\n  set --name or KUMA_DATAPLANE_NAME: ",
    ] {
        assert!(stderr.contains(part), "{part} is missing: {stderr}");
    }
}

#[test]
fn usage_errors_are_told_apart() {
    assert_eq!(run(&["run", "--nmae=x"], &[]).0, Some(2));
    assert_eq!(run(&["run", "--log-level=loud"], &[]).0, Some(2));
}

#[test]
fn help_names_the_settings_and_hides_the_guard() {
    let (code, help, _) = run(&["run", "--help"], &[]);
    assert_eq!(code, Some(0));
    for name in [
        "--name",
        "--mesh",
        "--cp-address",
        "--admin-port",
        "--binary-path",
        "--config-dir",
        "--dataplane-token-file",
        "--log-level",
        "KUMA_DATAPLANE_NAME",
        "KUMA_DATAPLANE_MESH",
        "KUMA_CONTROL_PLANE_API_SERVER_URL",
        "KUMA_DATAPLANE_ADMIN_PORT",
        "KUMA_DATAPLANE_DRAIN_TIME",
        "KUMA_DATAPLANE_RUNTIME_BINARY_PATH",
        "KUMA_DATAPLANE_RUNTIME_CONFIG_DIR",
        "KUMA_DATAPLANE_RUNTIME_TOKEN_PATH",
    ] {
        assert!(help.contains(name), "{name} is missing: {help}");
    }
    assert!(!run(&["--help"], &[]).1.contains("guard"));
}

#[test]
fn an_envoy_that_is_nowhere_is_said_before_anything_else() {
    let (code, _, stderr) = run(&["run", "--name=web-1", "--binary-path=/nowhere/envoy"], &[]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("could not find binary in any of the following paths: /nowhere/envoy, "), "{stderr}");
}

#[test]
fn the_guard_starts_nothing_for_a_parent_that_has_gone() {
    let (code, stdout, stderr) = run(&["envoy-guard", "1", "--", "/bin/echo", "started"], &[]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("kuma-dp has ended already"), "{stderr}");
}
