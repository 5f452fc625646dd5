//! `store accept`.

use insta::assert_snapshot;
use serde_json::json;

use crate::control_plane::{Answer, ControlPlane};
use crate::transcript::Transcript;

#[test]
fn a_store_is_accepted_after_what_it_takes_away_was_shown() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    let store = |complete: bool, documents: serde_json::Value, proxies: serde_json::Value| {
        let missing = json!({"documentCount": documents.as_array().map(Vec::len), "documents": documents,
            "proxyCount": proxies.as_array().map(Vec::len), "proxies": proxies});
        let (id, commit) = ("5d1e", "77ac");
        json!({"store": id, "revision": 3, "commit": commit, "durable": true, "complete": complete, "away": null,
            "missing": missing})
        .to_string()
    };
    let documents = json!([{"type": "Mesh", "name": "shop"}, {"type": "Dataplane", "mesh": "shop", "name": "web-1"}]);
    let proxies = json!([{"mesh": "shop", "name": "web-1"}]);
    control_plane.answers("GET /store", Answer::new(200, store(false, documents, proxies)));
    control_plane.answers("POST /store/accept", Answer::new(200, store(true, json!([]), json!([]))));
    transcript.run("store accept");
    transcript.run("store accept --yes");
    control_plane.answers("GET /store", Answer::new(200, store(false, json!([]), json!([]))));
    transcript.run("store accept -y");
    let moved = json!({"title": "Could not accept the store", "details": "The store is 77, and not 5d1e any more"});
    control_plane.answers("POST /store/accept", Answer::new(409, moved.to_string()));
    transcript.run("store accept -y");
    control_plane.answers("GET /store", Answer::new(200, store(true, json!([]), json!([]))));
    transcript.run("store accept");
    assert_snapshot!(transcript.text());
}
