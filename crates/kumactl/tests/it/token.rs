//! `generate dataplane-token`.

use insta::assert_snapshot;
use serde_json::json;

use crate::control_plane::{Answer, ControlPlane};
use crate::transcript::Transcript;

#[test]
fn a_token_is_generated_under_both_names_of_the_flag() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    transcript.run("generate dataplane-token --dataplane=dp-echo-1");
    transcript.run("generate dataplane-token --name=dp-echo-1 --mesh=demo");
    assert_snapshot!(transcript.text());
}

#[test]
fn why_there_is_no_token() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    let causes = json!([{"field": "name", "message": "cannot be empty"}]);
    let invalid = json!({"title": "Invalid request", "details": "Resource is not valid", "causes": causes});
    control_plane.answers("POST /tokens", Answer::new(400, invalid.to_string()));
    transcript.run("generate dataplane-token --name=");
    control_plane.answers("POST /tokens", Answer::new(404, "404: Page Not Found"));
    transcript.run("generate dataplane-token --name=x");
    let disabled = json!({"apis": {"dataplaneToken": {"localUrl": "", "publicUrl": ""},
        "admin": {"localUrl": control_plane.address(), "publicUrl": ""}}});
    control_plane.answers("GET /catalog", Answer::new(200, disabled.to_string()));
    transcript.run("generate dataplane-token --name=x");
    let closed = json!({"apis": {"dataplaneToken": {"localUrl": "http://127.0.0.1:1"},
        "admin": {"localUrl": "http://127.0.0.1:1"}}});
    control_plane.answers("GET /catalog", Answer::new(200, closed.to_string()));
    transcript.run("generate dataplane-token --name=x");
    control_plane.answers("GET /catalog", Answer::new(404, "404: Page Not Found"));
    transcript.run("generate dataplane-token --name=x");
    assert_snapshot!(transcript.text());
}

/// An older control plane takes no notice of the length of time, and issues a token without an end.
#[test]
fn a_token_that_should_end_and_does_not_is_not_printed() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    transcript.run("generate dataplane-token --name=x --valid-for=24h");
    // {"exp":1}
    control_plane.answers("POST /tokens", Answer::new(200, "e30.eyJleHAiOjF9.c2ln"));
    transcript.run("generate dataplane-token --name=x --valid-for=24h");
    transcript.run("generate dataplane-token --name=x --valid-for=1d");
    assert_snapshot!(transcript.text());
}
