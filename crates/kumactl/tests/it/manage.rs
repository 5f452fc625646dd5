//! `manage ca`.

use insta::assert_snapshot;
use serde_json::json;

use crate::control_plane::{Answer, ControlPlane};
use crate::transcript::Transcript;

const CERT: &str = include_str!("root.pem");
const PROVIDED: &str = "/meshes/default/ca/provided";
const PAIR: &str = "--key-file=ca.key --cert-file=ca.pem";

fn user(control_plane: &ControlPlane) -> Transcript<'_> {
    let transcript = Transcript::new(control_plane);
    transcript.file("ca.key", "the key");
    transcript.file("ca.pem", "the certificate");
    transcript
}

#[test]
fn certificates_of_a_provided_ca() {
    let control_plane = ControlPlane::start();
    let mut transcript = user(&control_plane);
    let added = json!({"id": "1234", "cert": CERT}).to_string();
    control_plane.answers(&format!("POST {PROVIDED}/certificates"), Answer::new(200, added.clone()));
    transcript.run(&format!("manage ca provided certificates add {PAIR}"));
    let list = json!([{"id": "1234", "cert": CERT, "state": "signing"}]);
    control_plane.answers(&format!("GET {PROVIDED}/certificates"), Answer::new(200, list.to_string()));
    transcript.run("manage ca provided certificates list");
    transcript.run("manage ca provided certificates list -o yaml");
    transcript.run("manage ca provided certificates list -o json");
    transcript.run("manage ca provided certificates list -o name");
    control_plane.answers(&format!("DELETE {PROVIDED}/certificates/1234"), Answer::new(200, ""));
    transcript.run("manage ca provided certificates delete --id=1234");
    control_plane.answers(&format!("GET {PROVIDED}/certificates"), Answer::new(200, "[]"));
    transcript.run("manage ca provided certificates list");
    control_plane.answers("POST /meshes/demo/ca/provided/certificates", Answer::new(200, added));
    transcript.run(&format!("manage ca provided certificates add {PAIR} --mesh=demo"));
    assert_snapshot!(transcript.text());
}

#[test]
fn rotations() {
    let control_plane = ControlPlane::start();
    let mut transcript = user(&control_plane);
    let added = json!({"id": "5678", "cert": CERT}).to_string();
    for ca in ["provided", "builtin"] {
        let path = format!("/meshes/default/ca/{ca}");
        let pair = if ca == "provided" { format!(" {PAIR}") } else { String::new() };
        control_plane.answers(&format!("POST {path}/rotation"), Answer::new(200, added.clone()));
        transcript.run(&format!("manage ca {ca} certificates rotate{pair} --wait=10m"));
        let list =
            json!([{"id": "1234", "cert": CERT, "state": "signing"}, {"id": "5678", "cert": CERT, "state": "next"}]);
        control_plane.answers(&format!("GET {path}/certificates"), Answer::new(200, list.to_string()));
        let status = json!({"phase": "introducing", "signing": "1234", "next": "5678", "proxies":
            {"connected": 7, "waiting": 2, "waitingFor": ["web-1", "web-2"], "away": 1, "awayNames": ["old"]},
            "until": "2026-01-01T00:00:00Z"});
        control_plane.answers(&format!("GET {path}/rotation"), Answer::new(200, status.to_string()));
        transcript.run(&format!("manage ca {ca} certificates list"));
        let status = json!({"phase": "replacing", "signing": "5678", "old": "1234", "proxies":
            {"connected": 7, "waiting": 0, "waitingFor": [], "away": 0, "awayNames": []}});
        control_plane.answers(&format!("GET {path}/rotation"), Answer::new(200, status.to_string()));
        transcript.run(&format!("manage ca {ca} certificates list"));
        let status = json!({"phase": "replacing", "signing": "5678", "old": "1234", "waitsForMesh": true});
        control_plane.answers(&format!("GET {path}/rotation"), Answer::new(200, status.to_string()));
        transcript.run(&format!("manage ca {ca} certificates list"));
        control_plane.answers(&format!("DELETE {path}/certificates/1234"), Answer::new(200, ""));
        transcript.run(&format!("manage ca {ca} certificates delete --id=1234 --force"));
    }
    assert_snapshot!(transcript.text());
}

#[test]
fn why_a_ca_is_not_changed() {
    let control_plane = ControlPlane::start();
    let mut transcript = user(&control_plane);
    let error = |title: &str, details: &str, causes: serde_json::Value| {
        json!({"title": title, "details": details, "causes": causes}).to_string()
    };
    let post = format!("POST {PROVIDED}/certificates");
    let add = format!("manage ca provided certificates add {PAIR}");
    let causes = json!([
        {"field": "cert", "message": "certificate must be self-signed (intermediate CAs are not allowed)"},
        {"field": "cert", "message": "key usage extension 'keyCertSign' must be set (see X509-SVID: 4.3. Key Usage)"}
    ]);
    let invalid = error("Could not add signing cert", "Resource is not valid", causes);
    control_plane.answers(&post, Answer::new(400, invalid));
    transcript.run(&add);
    let second = error("Could not add signing cert", "cannot add more than 1 CA root to provided CA", json!([]));
    control_plane.answers(&post, Answer::new(409, second));
    transcript.run(&add);
    let none = error("Could not retrieve signing certs", "Not found", json!([]));
    control_plane.answers(&format!("GET {PROVIDED}/certificates"), Answer::new(404, none));
    transcript.run("manage ca provided certificates list");
    let in_use = "Cannot delete signing certificate when the mTLS in the mesh is active and type of CA is Provided";
    let in_use = error("Could not delete signing cert", in_use, json!([]));
    control_plane.answers(&format!("DELETE {PROVIDED}/certificates/1234"), Answer::new(400, in_use));
    transcript.run("manage ca provided certificates delete --id=1234");
    let none = error("Could not rotate the CA", "Not found", json!([]));
    control_plane.answers(&format!("POST {PROVIDED}/rotation"), Answer::new(404, none));
    transcript.run(&format!("manage ca provided certificates rotate {PAIR}"));
    transcript.run("manage ca provided certificates delete --id=..");
    transcript.run("manage ca provided certificates add --key-file=none --cert-file=ca.pem");
    transcript.run("manage ca provided certificates add --key-file=ca.key");
    assert_snapshot!(transcript.text());
}

#[test]
fn a_key_goes_to_the_admin_server_and_nowhere_else() {
    let control_plane = ControlPlane::start();
    let transcript = user(&control_plane);
    transcript.file("ca.key", "canary");
    for status in [200, 400, 500] {
        control_plane.answers(&format!("POST {PROVIDED}/certificates"), Answer::new(status, "{}"));
        let output = transcript.output(&format!("--log-level=debug manage ca provided certificates add {PAIR}"), "");
        let seen = format!("{output:?}");
        assert!(!seen.contains("canary"), "{seen}");
        let requests = control_plane.take_requests();
        assert_eq!(requests.iter().filter(|request| request.contains("canary")).count(), 1, "{requests:?}");
    }
}
