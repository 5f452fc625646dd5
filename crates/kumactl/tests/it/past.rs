//! `history`, `diff`, `rollback`, `export`, `get --at` and `--note`.

use std::fs::File;
use std::os::fd::OwnedFd;

use insta::assert_snapshot;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::control_plane::{Answer, ControlPlane};
use crate::transcript::Transcript;

fn answer(json: &Value) -> Answer {
    Answer::new(200, json.to_string())
}

fn commit(revision: u64, note: &str, changes: Value) -> Value {
    json!({
        "revision": revision, "id": "0b8a2f0e-3a53-4d0e-9d0c-0d8f3a1d2b4c", "time": "2026-11-30T14:00:00.123456Z",
        "author": "CN=ada", "via": "kumactl/0.4.0", "note": note, "changes": changes,
    })
}

fn log(backend: &str) -> Value {
    let any = json!([{"match": {"service": "*"}}]);
    json!({"type": "TrafficLog", "mesh": "default", "name": "log-1", "sources": any, "destinations": any,
        "conf": {"backend": backend}})
}

fn difference(change: &str, before: Value, after: Value) -> Value {
    let key = ("TrafficLog", "default", "log-1");
    json!({"type": key.0, "mesh": key.1, "name": key.2, "change": change, "before": before, "after": after})
}

#[test]
fn the_history_is_listed() {
    let control_plane = ControlPlane::start();
    let change =
        |change: &str, name: &str| json!({"type": "TrafficLog", "mesh": "default", "name": name, "change": change});
    let first = commit(
        9,
        "more\nroom",
        json!([change("updated", "a"), change("deleted", "b"), change("created", "c"), change("created", "d")]),
    );
    let second = commit(
        8,
        "",
        json!([{"type": "Mesh", "name": "default", "change": "created", "version": 1},
        {"type": "Secret", "mesh": "default", "change": "created", "version": 1}]),
    );
    let page = |items: Value, next: Value| answer(&json!({"items": items, "floor": 0, "next": next}));
    control_plane.answers_in_turn(
        "GET /history",
        vec![
            page(json!([first, second]), Value::Null),
            page(json!([first]), json!("/history?limit=1&before=9")),
            page(json!([first]), json!("/history?limit=2&before=9")),
            page(json!([second]), Value::Null),
            page(json!([second]), Value::Null),
            page(json!([]), Value::Null),
        ],
    );
    let mut transcript = Transcript::new(&control_plane);
    transcript.run("history").run("history --limit 1").run("history --limit 2 -o json");
    transcript
        .run("history traffic-log a --mesh demo --since 2026-11-30T14:00:00Z --until 2026-12-01T00:00:00Z -o yaml");
    transcript.run("history");
    transcript.run("history --since soon").run("history --limit 0").run("history -o wide");
    assert_snapshot!(transcript.text());
}

#[test]
fn two_revisions_are_compared() {
    let control_plane = ControlPlane::start();
    let all = |items: Value| answer(&json!({"items": items, "from": 400, "to": 412}));
    control_plane.answers_in_turn(
        "GET /diff",
        vec![
            all(json!([
                difference("updated", log("a"), log("b")),
                {"type": "Mesh", "name": "demo", "change": "created", "before": null,
                    "after": {"type": "Mesh", "name": "demo"}},
            ])),
            all(json!([])),
            Answer::new(
                410,
                json!({"title": "Could not compare", "details": "That is not kept any more: the oldest \
                revision whose state is known is 17", "causes": [{"field": "from", "message": "must be 17 or later"}]})
                .to_string(),
            ),
            Answer::new(
                404,
                json!({"title": "Page Not Found", "details": "There is nothing at this path"}).to_string(),
            ),
        ],
    );
    let mut transcript = Transcript::new(&control_plane);
    transcript.run("diff --from 400 --to 412").run("diff --from 2026-11-30T14:00:00+01:00 --mesh demo");
    transcript.run("diff --from 3").run("diff --from 3");
    transcript.run("diff").run("diff --from yesterday").run("diff --to 3").run("diff -f - --from 3");
    assert_snapshot!(transcript.text());
}

fn plan(changes: Value, irreversible: Value) -> Value {
    json!({"to": 3, "revision": 7, "epoch": "7f3a", "irreversible": irreversible, "changes": changes})
}

#[test]
fn a_rollback_is_shown_and_carried_out() {
    let control_plane = ControlPlane::start();
    let planned = plan(json!([difference("updated", log("b"), log("a"))]), json!([]));
    let mut done = planned.clone();
    done["revision"] = 8.into();
    let outdated = json!({"title": "Could not roll back", "details": "Others have changed what would be written since \
        revision 7. Look at the plan as it is now", "causes": [{"field": "expected", "message": "the latest revision \
        is 9"}], "plan": planned});
    control_plane.answers_in_turn(
        "POST /rollback",
        vec![
            answer(&planned).at(7),
            answer(&planned).at(7),
            answer(&planned).at(7),
            answer(&done).at(8),
            answer(&planned).at(7),
            Answer::new(409, outdated.to_string()).at(9),
            answer(&plan(json!([]), json!([]))).at(7),
        ],
    );
    let mut transcript = Transcript::new(&control_plane);
    transcript.run("rollback 3 --dry-run").run_with_input("rollback 3", "y\n");
    transcript.run("rollback 3 --mesh default --type traffic-log --type mesh --yes --note 'typo'");
    transcript.run("rollback 3 -y").run("rollback 3");
    transcript.run("rollback").run("rollback yesterday").run("rollback 3 --type secret").run("rollback 3 -y --dry-run");
    assert_snapshot!(transcript.text());
}

/// A terminal on which somebody has typed a line, for stdin.
fn terminal_with(line: &[u8]) -> (OwnedFd, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("a terminal");
    let path = ptsname(&ours, Vec::new()).expect("a name").into_string().expect("text");
    let theirs = File::options().read(true).write(true).open(path).expect("its other side");
    rustix::io::write(&ours, line).expect("it takes a line");
    (ours, theirs)
}

#[test]
fn a_rollback_is_confirmed_on_a_terminal() {
    let control_plane = ControlPlane::start();
    let planned = plan(json!([difference("updated", log("b"), log("a"))]), json!([]));
    control_plane.answers("POST /rollback", answer(&planned).at(7));
    let transcript = Transcript::new(&control_plane);
    for (typed, code, requests) in [("y\n", 0, 2), ("yes\n", 0, 2), ("n\n", 1, 1), ("\n", 1, 1)] {
        let (_ours, theirs) = terminal_with(typed.as_bytes());
        let output = transcript.output_on("rollback 3", theirs);
        let error = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(code), "{typed:?}: {error}");
        assert!(error.starts_with("Execute this plan? [y/N] "), "{error}");
        assert_eq!(error.ends_with("Error: nothing was done\n"), code == 1, "{error}");
        assert_eq!(control_plane.take_requests().len(), requests, "{typed:?}");
    }
}

#[test]
fn what_cannot_be_undone_needs_force() {
    let control_plane = ControlPlane::start();
    let reason = "mesh \"demo\" gets a new CA (it was deleted since, with its CA): under mTLS, proxies that trust the \
        old one have to start again";
    let planned = plan(json!([difference("created", Value::Null, log("a"))]), json!([reason]));
    control_plane.answers("POST /rollback", answer(&planned).at(7));
    let mut transcript = Transcript::new(&control_plane);
    transcript.run("rollback 3 --yes").run("rollback 3 --yes --force").run("rollback 3 --dry-run");
    control_plane.answers(
        "POST /rollback",
        Answer::new(
            400,
            json!({"title": "Could not roll back", "details": "Resource is not valid", "causes": [{"field":
            "TrafficLog \"log-1\" of mesh \"default\".mesh", "message": "mesh of name default is not found"}]})
            .to_string(),
        ),
    );
    transcript.run("rollback 3 --yes");
    control_plane.answers("POST /rollback", Answer::new(405, "405: Method Not Allowed"));
    transcript.run("rollback 3 --yes");
    assert_snapshot!(transcript.text());
}

#[test]
fn resources_are_shown_as_they_were() {
    let control_plane = ControlPlane::start();
    control_plane
        .answers("GET /meshes/default/traffic-logs", answer(&json!({"items": [log("a")]})).at(412))
        .answers("GET /meshes/default/traffic-logs/log-1", answer(&log("a")).at(412))
        .answers(
            "GET /meshes/default/traffic-logs/log-2",
            Answer::new(
                404,
                json!({"title": "Could not retrieve a \
            resource", "details": "Not found"})
                .to_string(),
            ),
        );
    let mut transcript = Transcript::new(&control_plane);
    transcript.run("get traffic-logs --at 412").run("get traffic-logs log-1 --at 2026-11-30T14:00:00Z -o yaml");
    transcript.run("get traffic-logs log-2 --at 412");
    // One that knows no past answers with the present.
    transcript.run("get meshes --at 412");
    transcript.run("get meshes --at soon").run("get meshes --at 412 -w");
    assert_snapshot!(transcript.text());
}

#[test]
fn everything_is_exported_and_can_be_applied() {
    let control_plane = ControlPlane::start();
    control_plane.takes_changes();
    let empty = || answer(&json!({"items": []})).at(412);
    let mesh = |name: &str| json!({"type": "Mesh", "name": name, "mtls": {"enabled": true, "ca": {"builtin": {}}}});
    control_plane.answers("GET /meshes", answer(&json!({"items": [mesh("default"), mesh("demo")]})).at(412));
    for name in ["default", "demo"] {
        for kind in kuma_model::KINDS.iter().filter(|kind| kind.name != "Mesh") {
            control_plane.answers(&format!("GET /meshes/{name}/{}", kind.api_path), empty());
        }
    }
    let mut braces = log("{{backend}}");
    braces["mesh"] = "demo".into();
    control_plane
        .answers("GET /meshes/default/traffic-logs", answer(&json!({"items": [log("a")]})).at(412))
        .answers("GET /meshes/demo/traffic-logs", answer(&json!({"items": [braces]})).at(412));
    let mut transcript = Transcript::new(&control_plane);
    transcript.run("export").run("export --mesh demo --at 412").run("export --mesh nowhere");
    let exported = transcript.output("export", "").stdout;
    let _ = control_plane.take_requests();
    let exported = String::from_utf8(exported).expect("text");
    // Nothing is there yet, and all goes in at once.
    transcript.run_with_input("apply -f - --note moved-é", &exported);
    assert_snapshot!(transcript.text());
}

#[test]
fn notes_go_with_writes_alone() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    transcript.run_with_input("apply --note why", "type: Mesh\nname: demo");
    transcript.run("delete mesh demo --note because").run("delete mesh demo --note because");
    transcript.run("delete mesh demo --note a\tb");
    assert_snapshot!(transcript.text());
    for (length, code) in [(1024, 1), (1025, 2)] {
        let output = transcript.output(&format!("delete mesh demo --note {}", "x".repeat(length)), "");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}
