//! Errors of the command line, the control plane and the network, as users see them.

use insta::assert_snapshot;

use crate::control_plane::{Answer, ControlPlane};
use crate::transcript::Transcript;

#[test]
fn a_command_line_that_makes_no_sense_ends_with_2() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::of_new_user(&control_plane);
    for line in [
        "frobnicate",
        "get foo",
        "get",
        "get meshes -o xml",
        "get meshes --colour",
        "delete mesh",
        "delete meshs x",
        "config control-planes add --name x",
        "config control-planes add --name x --address http://x --admin-client-cert c.pem",
        "generate dataplane-token",
        "generate dataplane-token --dataplane a --name b",
        "inspect dataplanes --tag service",
        "get meshes --log-level loud",
    ] {
        transcript.run(line);
    }
    assert_snapshot!(transcript.text());
}

#[test]
fn errors_of_the_api_are_shown_with_their_causes() {
    let control_plane = ControlPlane::start();
    let error = r#"{"title": "Could not retrieve resources", "details": "Internal Server Error"}"#;
    control_plane.answers("GET /meshes", Answer::new(500, error));
    control_plane.answers("GET /meshes/default/dataplanes", Answer::new(502, "<html>\u{1b}[31mBad Gateway"));
    control_plane.answers("GET /meshes/default/traffic-logs", Answer::new(503, ""));
    control_plane.answers("GET /meshes/default/traffic-routes", Answer::new(200, "hello"));
    control_plane.answers("GET /meshes/default/traffic-permissions", Answer::new(200, "{}"));
    control_plane.answers("GET /meshes/default/health-checks", Answer::redirect("/elsewhere"));
    control_plane.answers("DELETE /meshes/default", Answer::new(405, "405: Method Not Allowed"));
    let forbidden = concat!(
        r#"{"title": "Could not process a resource", "details": "Forbidden", "causes": [{"field": "", "#,
        r#""message": "write from this machine"}]}"#,
    );
    control_plane.answers("PUT /meshes/default", Answer::new(403, forbidden));
    let mut transcript = Transcript::new(&control_plane);
    for kind in ["meshes", "dataplanes", "traffic-logs", "traffic-routes", "traffic-permissions", "healthchecks"] {
        transcript.run(&format!("get {kind}"));
    }
    transcript
        .run("delete mesh default")
        .run("delete traffic-route x")
        .run("delete traffic-route ..")
        .run("get dataplanes --mesh ..");
    transcript.run("delete dataplane a/b?c");
    transcript.run_with_input("apply", "type: Mesh\nname: default");
    assert_snapshot!(transcript.text());
}

#[test]
fn a_control_plane_that_is_not_there() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    let config = |url: &str| {
        format!(
            "contexts: [{{controlPlane: x, name: x}}]\ncontrolPlanes: [{{name: x, coordinates: {{apiServer: {{url: \
             '{url}'}}}}}}]\ncurrentContext: x\n"
        )
    };
    // Nothing listens on port 1 of this machine.
    transcript.file("closed", &config("http://127.0.0.1:1"));
    transcript.file("odd", &config("not a url"));
    transcript.file("secret", &config("http://user:secret@127.0.0.1"));
    for file in ["closed", "odd", "secret"] {
        transcript.run(&format!("get meshes --config-file {file}"));
    }
    transcript.run("inspect dataplanes --config-file closed").run("delete mesh x --config-file closed");
    transcript.run("generate dataplane-token --name x --config-file closed");
    assert_snapshot!(transcript.text());
}

#[test]
fn tls_is_spoken_where_the_address_says_so() {
    let control_plane = ControlPlane::start();
    let transcript = Transcript::of_new_user(&control_plane);
    let address = control_plane.address().replace("http:", "https:");
    let output = transcript.output(&format!("config control-planes add --name x --address {address}"), "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with("Error: could not"),
        "the server speaks no TLS, or this machine has no certificates: {stderr}"
    );
    assert!(control_plane.take_requests().is_empty(), "nothing is sent in plain text");
}

#[test]
fn this_machine_is_not_reached_through_a_proxy() {
    let control_plane = ControlPlane::start();
    let transcript = Transcript::new(&control_plane);
    let proxy = [("HTTP_PROXY", "http://127.0.0.1:1"), ("http_proxy", "http://127.0.0.1:1")];
    let output = transcript.output_with("get meshes", "", &proxy);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn requests_are_reported_when_asked_for() {
    let control_plane = ControlPlane::start();
    let transcript = Transcript::new(&control_plane);
    let output = transcript.output("get meshes --log-level debug", "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with(&format!("GET {}/meshes: 200 OK (", control_plane.address())), "{stderr}");
}
