//! Folders, patterns and whole files as input; single resources; completion and manual pages.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use insta::assert_snapshot;

use crate::control_plane::{Answer, ControlPlane};
use crate::transcript::Transcript;

const MESH: &str = "type: Mesh\nname: demo\n";

fn log(name: &str) -> String {
    format!(
        "type: TrafficLog\nmesh: demo\nname: {name}\nsources: [{{match: {{service: '*'}}}}]\n\
         destinations: [{{match: {{service: '*'}}}}]\n"
    )
}

#[test]
fn folders_patterns_and_several_files() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    std::fs::create_dir_all(transcript.path("all/below")).expect("folders");
    transcript.file("all/1-log.yaml", &log("log-1"));
    transcript.file("all/2-mesh.yml", MESH);
    transcript.file("all/notes.txt", "not: [a document");
    transcript.file("all/below/3-log.yaml", &log("not-this-one"));
    transcript.file("more.yaml", &log("log-2"));
    transcript.run("apply -f all").run("apply -f more.yaml -f all/*.yaml").run("apply --dry-run -f all -f more.yaml");
    transcript.file("all/4-log.yaml", &log("log-4"));
    transcript.file("more.yaml", &log("log-2").replace("'*'", "web"));
    transcript.run("apply --dry-run -f all -f more.yaml");
    transcript.file("all/5-bad.yaml", "type: TrafficLog\nmesh: demo\nname: bad\n");
    transcript.run("apply -f all").run("apply -f none").run("apply -f none/*.yaml").run("apply -f all/below/..");
    std::fs::create_dir(transcript.path("empty")).expect("a folder");
    transcript.run("apply -f empty");
    assert_snapshot!(transcript.text());
}

#[test]
fn files_are_compared_with_what_is_stored() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    let all = |source: &str| format!("{MESH}---\n{}", log("log-1").replacen("'*'", source, 1));
    transcript.file("all.yaml", &all("web"));
    transcript.run("diff -f all.yaml").run("apply --diff -f all.yaml").run("diff -f all.yaml");
    transcript.file("all.yaml", &all("app"));
    transcript.run("diff -f all.yaml").run("apply --diff --dry-run -f all.yaml").run("apply --diff -f all.yaml");
    transcript.run("apply --diff -f all.yaml");
    transcript.file("one.yaml", &log("log-1").replacen("'*'", "web", 1));
    transcript.run("apply --diff -f one.yaml").run("diff -f one.yaml");
    control_plane.answers("GET /meshes/demo/traffic-logs/log-1", Answer::new(503, "away"));
    transcript.run("diff -f one.yaml").run("apply --diff -f one.yaml");
    assert_snapshot!(transcript.text());
}

#[test]
fn what_a_file_holds_is_deleted_the_other_way_round() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    transcript.file("all.yaml", &format!("{MESH}---\n{}---\n{}", log("log-1"), log("log-2")));
    transcript.run("apply -f all.yaml").run("delete traffic-log log-1 --mesh=demo").run("delete -f all.yaml");
    transcript.run("delete -f all.yaml traffic-log log-1").run("delete").run("delete traffic-log");
    assert_snapshot!(transcript.text());
}

#[test]
fn one_resource_and_names() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    transcript.run_with_input("apply -f -", &format!("{MESH}---\n{}", log("log-1")));
    for format in ["table", "yaml", "json", "name"] {
        transcript.run(&format!("get traffic-logs log-1 --mesh=demo -o {format}"));
    }
    transcript.run("get meshes demo").run("get meshes -o name").run("get meshes nowhere").run("get meshes ..");
    transcript.run("inspect dataplanes -o name");
    control_plane.answers("GET /meshes/demo", Answer::new(503, "away"));
    transcript.run("get meshes demo");
    assert_snapshot!(transcript.text());
}

#[test]
fn watching_shows_what_has_changed() {
    let control_plane = ControlPlane::start();
    let transcript = Transcript::new(&control_plane);
    let mut child = Command::new(env!("CARGO_BIN_EXE_kumactl"))
        .args(["get", "meshes", "-w"])
        .env("HOME", transcript.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut lines =
        BufReader::new(child.stdout.take().expect("stdout is piped")).lines().map(|line| line.expect("text"));
    let mut next = || lines.next().expect("it goes on");
    assert!(next().starts_with("NAME "));
    assert!(next().starts_with("default "));
    let output = transcript.output("apply", MESH);
    assert!(output.status.success());
    assert_eq!(next(), "");
    assert!(next().starts_with("NAME "));
    assert!(next().starts_with("default ") && next().starts_with("demo "));
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let failed = transcript.output("get meshes nowhere -w", "");
    assert_eq!(failed.status.code(), Some(1), "what is not there at first is a mistake");
}

#[test]
fn completions_and_manual_pages() {
    let control_plane = ControlPlane::start();
    let transcript = Transcript::new(&control_plane);
    for shell in ["bash", "zsh", "fish"] {
        let output = transcript.output(&format!("completion {shell}"), "");
        let script = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success() && script.contains("control-planes"), "{shell}: {script}");
    }
    let output = transcript.output("completion bash", "");
    std::fs::write(transcript.path("completion.bash"), output.stdout).expect("writes");
    let checked = Command::new("bash").arg("-n").arg(transcript.path("completion.bash")).status().expect("bash runs");
    assert!(checked.success());
    let output = transcript.output("man", "");
    assert!(String::from_utf8_lossy(&output.stdout).contains(".TH kumactl 1"));
    std::fs::create_dir(transcript.path("man")).expect("a folder");
    assert!(transcript.output("man --dir man", "").status.success());
    assert!(transcript.path("man/kumactl-config-control-planes-add.1").is_file());
    assert_eq!(transcript.output("man --dir nowhere", "").status.code(), Some(1));
}
