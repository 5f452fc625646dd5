//! `apply`: order, placeholders, and all that can be wrong with the input.

use insta::assert_snapshot;

use crate::control_plane::{Answer, ControlPlane};
use crate::transcript::Transcript;

const DATAPLANE: &str = "type: Dataplane
mesh: default
name: dp-echo-1
networking:
  inbound:
  - interface: 127.0.0.1:10000:9000
    tags:
      service: echo";

#[test]
fn a_document_comes_from_stdin_or_a_file() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    transcript.file("dp.yaml", DATAPLANE);
    transcript
        .file("mesh.json", r#"{"type": "Mesh", "name": "default", "mtls": {"enabled": true, "ca": {"builtin": {}}}}"#);
    transcript.run_with_input("apply -f -", DATAPLANE).run_with_input("apply", DATAPLANE);
    transcript.run("apply -f dp.yaml").run("apply --file=mesh.json").run("apply -f missing.yaml");
    assert_snapshot!(transcript.text());
}

#[test]
fn placeholders_are_filled() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    let template =
        DATAPLANE.replace("dp-echo-1", "{{ name }}").replace(": echo", ": {{{service}}}").replace("9000", "{{port}}");
    transcript.file("dp.yaml", &template);
    transcript.run("apply -f dp.yaml -v name=dp-1,port=9000 --var service=echo");
    transcript.run("apply -f dp.yaml -v name=dp-1");
    transcript.run("apply -f dp.yaml -v name");
    transcript.run_with_input("apply", "type: Mesh\nname: {{#names}}x{{/names}}");
    assert_snapshot!(transcript.text());
}

#[test]
fn nothing_is_sent_when_a_document_is_wrong() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    for input in [
        "",
        "---\n---\n",
        "# only a comment\n",
        "just text",
        "- a\n- list",
        "type: Mesh\nname: [unclosed",
        "{\"type\": \"Mesh\", \"name\": }",
        "type: Mesh",
        "type: Message\nname: x",
        "type: Mesh\nname: Wrong.Name",
        "type: Dataplane\nname: x\nnetworking: {}",
        "type: Dataplane\nmesh: default\nname: x\nnetwork: {}",
        &DATAPLANE.replace("127.0.0.1:10000:9000", "127.0.0.1:99999"),
        &format!(
            "{DATAPLANE}\n---\ntype: Mesh\nname: UPPER\n---\ntype: TrafficPermission\nmesh: default\nname: tp\nsources: []"
        ),
        "items:\n- type: Mesh\n  name: good\n- type: Mesh\n  name: good\n  colour: red",
        "type: Mesh\nname: x\n---\nname: &a [*a]",
        &"[".repeat(100_000),
    ] {
        transcript.run_with_input("apply", input);
    }
    assert_snapshot!(transcript.text());
}

#[test]
fn the_first_refusal_ends_it_and_says_what_was_applied() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    let elsewhere = DATAPLANE.replace("default", "elsewhere");
    transcript.run_with_input("apply", &elsewhere);
    let third = DATAPLANE.replace("dp-echo-1", "dp-echo-2");
    transcript.run_with_input(
        "apply",
        &format!("{DATAPLANE}\n---\n{elsewhere}\n---\n{third}\n---\ntype: Mesh\nname: demo\n"),
    );
    transcript.run_with_input("apply", &format!("{elsewhere}\n---\n{third}"));
    control_plane.answers("PUT /meshes/default", Answer::new(405, "405: Method Not Allowed"));
    transcript.run_with_input("apply", "type: Mesh\nname: default");
    assert_snapshot!(transcript.text());
}
