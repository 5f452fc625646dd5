//! `apply -f URL` with a malicious server.

use insta::assert_snapshot;

use crate::control_plane::{Answer, ControlPlane};
use crate::transcript::Transcript;

const MESH: &str = "type: Mesh\nname: {{name}}\n";

#[test]
fn a_document_is_downloaded() {
    let control_plane = ControlPlane::start();
    control_plane.answers("GET /mesh.yaml", Answer::new(200, MESH));
    for hop in 1..=6 {
        let next =
            if hop == 1 { "/mesh.yaml".to_owned() } else { format!("{}/hop-{}", control_plane.address(), hop - 1) };
        control_plane.answers(&format!("GET /hop-{hop}"), Answer::redirect(&next));
    }
    let mut transcript = Transcript::new(&control_plane);
    transcript.run("apply -f SERVER/mesh.yaml -v name=demo");
    transcript.run("apply -f SERVER/hop-5 -v name=demo");
    transcript.run("apply -f SERVER/hop-6 -v name=demo");
    assert_snapshot!(transcript.text());
}

#[test]
fn what_may_not_be_downloaded_is_refused() {
    let control_plane = ControlPlane::start();
    control_plane.answers("GET /file", Answer::redirect("file:///etc/passwd"));
    control_plane.answers("GET /nowhere", Answer::redirect("http://"));
    control_plane.answers("GET /password", Answer::redirect("http://user:secret@127.0.0.1:1/"));
    control_plane.answers("GET /empty", Answer::new(204, ""));
    control_plane.answers("GET /binary", Answer::new(200, b"\xff\xfe".to_vec()));
    control_plane.answers("GET /large", Answer::new(200, vec![b'a'; (10 << 20) + 1]));
    let mut transcript = Transcript::new(&control_plane);
    for url in [
        "SERVER/missing",
        "SERVER/file",
        "SERVER/nowhere",
        "SERVER/password",
        "SERVER/empty",
        "SERVER/binary",
        "SERVER/large",
        "http://user:secret@127.0.0.1:1/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://",
        "http://127.0.0.1:1/x",
    ] {
        transcript.run(&format!("apply -f {url}"));
    }
    assert_snapshot!(transcript.text());
}
