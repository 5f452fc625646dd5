//! `apply`: order, placeholders, and mistakes in the input.

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
            "{DATAPLANE}\n---\ntype: Mesh\nname: UPPER\n---\ntype: TrafficPermission\nmesh: default\nname: tp\n\
             sources: []"
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

#[test]
fn several_documents_are_one_request_where_that_is_offered() {
    let control_plane = ControlPlane::start();
    control_plane.takes_changes();
    let mut transcript = Transcript::new(&control_plane);
    // The Mesh comes after a document in it.
    transcript.file("dp.yaml", &format!("{DATAPLANE}\n---\n{}", DATAPLANE.replace("default", "demo")));
    transcript.file("mesh.json", r#"{"type": "Mesh", "name": "demo"}"#);
    transcript.run("apply -f dp.yaml -f mesh.json").run("apply -f dp.yaml -f mesh.json");
    transcript.file(
        "dp.yaml",
        &format!("{}\n---\n{}", DATAPLANE.replace(": echo", ": other"), DATAPLANE.replace("echo-1", "echo-2")),
    );
    transcript.run("apply -f dp.yaml -f mesh.json --dry-run");
    // A single document does not need the catalog.
    transcript.run_with_input("apply", DATAPLANE).run_with_input("apply --dry-run", DATAPLANE);
    assert_snapshot!(transcript.text());
}

#[test]
fn a_refusal_of_several_names_each_document_and_field() {
    let control_plane = ControlPlane::start();
    control_plane.takes_changes();
    let mut transcript = Transcript::new(&control_plane);
    let elsewhere = DATAPLANE.replace("default", "elsewhere");
    transcript.file("dp.yaml", &format!("{DATAPLANE}\n---\n{elsewhere}"));
    for dry_run in ["", " --dry-run"] {
        transcript.run(&format!("apply -f dp.yaml{dry_run}"));
        transcript
            .run_with_input(&format!("apply{dry_run}"), &format!("items:\n- {}", elsewhere.replace('\n', "\n  ")));
    }
    let causes = "[{\"field\": \"apply[1]\", \"message\": \"is the same document as apply[0]: Mesh \\\"demo\\\"\"}, \
        {\"field\": \"apply[2].mtls.ca\", \"message\": \"is wrong\"},
        {\"field\": \"apply[9].x\", \"message\": \"see apply[9]\"}, {\"field\": \"expected\", \"message\": \
        \"apply[\"}]";
    let body =
        format!(r#"{{"title": "Could not change resources", "details": "Resource is not valid", "causes": {causes}}}"#);
    control_plane.answers("POST /changes", Answer::new(400, body));
    let mesh = "type: Mesh\nname: demo\n";
    transcript.run_with_input(
        "apply",
        &format!("{mesh}---\n{}---\n{}", mesh.replace("demo", "two"), mesh.replace("demo", "three")),
    );
    control_plane.answers(
        "POST /changes",
        Answer::new(
            503,
            r#"{"title": "Could not change resources", "details": "The store is unavailable. Try again later"}"#,
        ),
    );
    transcript.run("apply -f dp.yaml");
    control_plane.answers("POST /changes", Answer::new(200, r#"{"outcomes": []}"#));
    transcript.run("apply -f dp.yaml");
    assert_snapshot!(transcript.text());
}

#[test]
fn what_is_too_much_for_one_request_goes_one_by_one() {
    let control_plane = ControlPlane::start();
    let too_large =
        Answer::new(413, r#"{"title": "Could not change resources", "details": "There are 1001 documents"}"#);
    control_plane.takes_changes().answers("POST /changes", too_large);
    let mut transcript = Transcript::new(&control_plane);
    let input = format!("{DATAPLANE}\n---\n{}", DATAPLANE.replace("echo-1", "echo-2"));
    transcript.run_with_input("apply", &input).run_with_input("apply --dry-run", &input);
    assert_snapshot!(transcript.text());
}

#[test]
fn a_control_plane_that_cannot_be_asked_is_looked_at() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    let elsewhere = DATAPLANE.replace("default", "elsewhere");
    let mesh = "type: Mesh\nname: elsewhere\n";
    transcript.run_with_input("apply --dry-run", &elsewhere);
    transcript.run_with_input(
        "apply --dry-run",
        &format!("{elsewhere}\n---\n{DATAPLANE}\n---\n{}", elsewhere.replace("echo-1", "echo-2")),
    );
    transcript.run_with_input("apply --dry-run", &format!("{elsewhere}\n---\n{mesh}"));
    // One without a catalog at all.
    control_plane.answers("GET /catalog", Answer::new(404, "404: Page Not Found"));
    transcript.run_with_input("apply --dry-run", DATAPLANE);
    transcript.run_with_input("apply", &format!("{DATAPLANE}\n---\n{mesh}"));
    assert_snapshot!(transcript.text());
}

#[test]
fn a_document_that_is_there_twice_or_in_another_form_is_told() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    let mesh = "type: Mesh\nname: default\n";
    let log = "type: TrafficLog\nmesh: default\nname: all\nsources: [{match: {service: '*'}}]\n\
               destinations: [{match: {service: '*'}}]\n";
    transcript.file("mesh.yaml", mesh);
    transcript.file("twice.yaml", &format!("{log}---\n{mesh}---\n{log}"));
    transcript
        .file("kubernetes.yaml", "apiVersion: kuma.io/v1alpha1\nkind: Mesh\nmetadata:\n  name: default\nspec: {}\n");
    transcript.run("apply -f twice.yaml").run("apply -f mesh.yaml -f twice.yaml --dry-run");
    transcript.run("apply -f mesh.yaml -f mesh.yaml").run("apply -f kubernetes.yaml");
    assert_snapshot!(transcript.text());
    assert_eq!(control_plane.take_requests(), Vec::<String>::new(), "nothing is sent");
}
