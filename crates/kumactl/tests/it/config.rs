//! The configuration file and the commands that change it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use insta::assert_snapshot;

use crate::control_plane::{Answer, ControlPlane};
use crate::transcript::Transcript;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn a_new_user_gets_a_configuration_of_their_own() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::of_new_user(&control_plane);
    transcript.run("config control-planes list").show(".kumactl/config").run("config view");
    assert_snapshot!(transcript.text());
    assert_eq!(mode(&transcript.path(".kumactl")), 0o700);
    assert_eq!(mode(&transcript.path(".kumactl/config")), 0o600);
}

#[test]
fn control_planes_are_added_switched_and_removed() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::of_new_user(&control_plane);
    transcript.run("generate tls-certificate --type=client");
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(transcript.path("key.pem"), readable).expect("it is ours");
    transcript.run("config control-planes add --name one --address SERVER").run("config control-planes list");
    transcript.run("config control-planes add --name one --address SERVER/");
    transcript.run(
        "config control-planes add --name one --address SERVER/ --overwrite --admin-client-cert cert.pem \
        --admin-client-key key.pem",
    );
    transcript.run("config view").run("get meshes");
    transcript.run("config control-planes switch --name local").run("config control-planes switch --name two");
    transcript.run("config control-planes remove --name local").run("config control-planes list");
    transcript.run("config control-planes remove --name local").run("config control-planes remove --name one");
    transcript.run("config control-planes list").run("get meshes").show(".kumactl/config");
    assert_snapshot!(transcript.text());
    assert_eq!(mode(&transcript.path(".kumactl/config")), 0o600);
    let left: Vec<_> = std::fs::read_dir(transcript.path(".kumactl")).expect("a folder").collect();
    assert_eq!(left.len(), 1, "no temporary file is left: {left:?}");
}

#[test]
fn an_address_is_tried_before_it_is_added() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::of_new_user(&control_plane);
    for address in ["not-a-url", "localhost:5681", "ftp://localhost", "http://127.0.0.1:1"] {
        transcript.run(&format!("config control-planes add --name x --address {address}"));
    }
    transcript.run("config control-planes add --name= --address SERVER");
    transcript.run(
        "config control-planes add --name x --address SERVER --admin-client-cert no.pem --admin-client-key no.pem",
    );
    for answer in [
        Answer::new(404, "404"),
        Answer::new(200, "<html>"),
        Answer::new(200, r#"{"tagline": "Other"}"#),
        Answer::new(200, "[1]"),
    ] {
        control_plane.answers("GET /", answer);
        transcript.run("config control-planes add --name x --address SERVER");
    }
    transcript.run("config control-planes list");
    assert_snapshot!(transcript.text());
}

#[test]
fn a_file_that_is_named_must_be_there_and_make_sense() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::of_new_user(&control_plane);
    transcript.file("not-yaml", "contexts: [");
    transcript.file("unknown-field", "contextes: []\n");
    transcript.file("empty", "");
    transcript.file("broken", "currentContext: gone\n");
    transcript.file(
        "original",
        "contexts:\n- controlPlane: a\n  credentials:\n    adminApi: {}\n  defaults:\n    mesh: pilot\n  name: a\n\
         controlPlanes:\n- coordinates:\n    apiServer:\n      url: http://a:5681\n  name: a\ncurrentContext: a\n",
    );
    for file in ["missing", "not-yaml", "unknown-field", "empty", "broken"] {
        transcript.run(&format!("get meshes --config-file {file}"));
    }
    transcript.run("config control-planes switch --name x --config-file missing");
    transcript.run("config control-planes add --name x --address SERVER --config-file missing");
    transcript.run("config control-planes list --config-file missing").run("get meshes --config-file missing");
    transcript.run("config control-planes add --name x --address SERVER --config-file no/folder");
    transcript.run("config view --config-file original").run("config control-planes list --config-file broken");
    assert_snapshot!(transcript.text());
    assert!(!transcript.path(".kumactl").exists(), "the usual file is left alone");
}

#[test]
fn links_are_kept_and_traps_are_not_followed() {
    let control_plane = ControlPlane::start();
    let transcript = Transcript::new(&control_plane);
    transcript.file("elsewhere", &std::fs::read_to_string(transcript.path(".kumactl/config")).expect("a file"));
    std::fs::remove_file(transcript.path(".kumactl/config")).expect("it was there");
    std::os::unix::fs::symlink(transcript.path("elsewhere"), transcript.path(".kumactl/config")).expect("a link");
    let output = transcript.output("config control-planes add --name two --address SERVER", "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(transcript.path(".kumactl/config").is_symlink());
    let text = std::fs::read_to_string(transcript.path("elsewhere")).expect("a file");
    assert!(text.contains("currentContext: two"), "{text}");
    assert_eq!(mode(&transcript.path("elsewhere")), 0o600);
}

#[test]
fn a_home_that_cannot_be_written_is_no_obstacle() {
    // No folder can be created in /proc.
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kumactl"))
        .args(["config", "control-planes", "list"])
        .env_clear()
        .env("HOME", "/proc")
        .output()
        .expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.starts_with("Warning: could not create configuration file \"/proc/.kumactl/config\""), "{stderr}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("http://localhost:5681"));
}
