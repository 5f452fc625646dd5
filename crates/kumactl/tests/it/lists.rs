//! `get`, `inspect`, `delete`, and `apply` of everything they need.

use insta::assert_snapshot;
use kuma_model::{KINDS, Kind};
use serde_json::json;

use crate::control_plane::{Answer, ControlPlane};
use crate::transcript::Transcript;

const ALL_KINDS: &str = include_str!("all-kinds.yaml");

#[test]
fn every_kind_is_applied_listed_and_deleted() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    transcript.run_with_input("apply", ALL_KINDS);
    for kind in offered() {
        transcript.run(&format!("get {} --mesh demo", kind.cli_list));
    }
    for kind in offered().rev() {
        let document = documents().into_iter().find(|document| document["type"] == kind.name);
        let name =
            document.as_ref().and_then(|document| document["name"].as_str()).expect("the example has every kind");
        transcript.run(&format!("delete {} {name} --mesh=demo", kind.cli_one));
    }
    assert_snapshot!(transcript.text());
}

fn offered() -> impl DoubleEndedIterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| !kind.server_made)
}

fn documents() -> Vec<serde_json::Value> {
    kuma_model::text::parse_documents(ALL_KINDS).expect("the example is well formed")
}

#[test]
fn a_list_is_shown_in_three_forms() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    transcript.run_with_input("apply -f -", ALL_KINDS).run("get dataplanes --mesh demo -o table");
    transcript.run("get dataplanes --mesh demo -o yaml").run("get dataplanes --mesh demo --output=json");
    transcript.run("get traffic-routes").run("get traffic-routes -o yaml").run("get traffic-routes -ojson");
    assert_snapshot!(transcript.text());
}

#[test]
fn what_is_shown_can_be_applied_again() {
    let control_plane = ControlPlane::start();
    let transcript = Transcript::new(&control_plane);
    assert!(transcript.output("apply", ALL_KINDS).status.success());
    for kind in offered() {
        for format in ["yaml", "json"] {
            let list = format!("get {} --mesh demo -o {format}", kind.cli_list);
            let shown = String::from_utf8(transcript.output(&list, "").stdout).expect("text");
            let output = transcript.output("apply", &shown);
            assert!(output.status.success(), "{}\n{shown}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(String::from_utf8_lossy(&transcript.output(&list, "").stdout), shown);
        }
    }
}

#[test]
fn dataplanes_are_inspected() {
    let control_plane = ControlPlane::start();
    let overviews = |now: jiff::Timestamp| {
        let ago = |seconds| (now - jiff::SignedDuration::from_secs(seconds)).to_string();
        let inbound = json!({"interface": "127.0.0.1:80:8080", "tags": {"service": "web", "version": "v2"}});
        let networking = json!({"networking": {"inbound": [inbound]}});
        let sent = |sent: &str, rejected: &str| json!({"responsesSent": sent, "responsesRejected": rejected});
        let before = json!({"id": "1", "controlPlaneInstanceId": "a", "connectTime": ago(400_000),
            "disconnectTime": ago(300_000),
            "status": {"lastUpdateTime": ago(390_000), "total": sent("40", "2")}});
        let latest = json!({"id": "2", "controlPlaneInstanceId": "a", "connectTime": ago(7_384),
            "status": {"lastUpdateTime": ago(0), "total": sent("2", "0")}});
        let ended =
            json!({"id": "3", "controlPlaneInstanceId": "a", "connectTime": ago(90), "disconnectTime": ago(10)});
        json!({"items": [
            {"type": "DataplaneOverview", "mesh": "default", "name": "web-1",
             "dataplane": networking, "dataplaneInsight": {"subscriptions": [before, latest]}},
            {"type": "DataplaneOverview", "mesh": "default", "name": "gone",
             "dataplane": networking, "dataplaneInsight": {"subscriptions": [ended]}},
            {"type": "DataplaneOverview", "mesh": "default", "name": "never",
             "dataplane": {"networking": {"gateway": {"tags": {"service": "gw"}}}}},
        ]})
        .to_string()
    };
    let request = "GET /meshes/default/dataplanes+insights";
    let mut transcript = Transcript::new(&control_plane);
    control_plane.answers(request, Answer::new(200, overviews(jiff::Timestamp::now())));
    transcript.run("inspect dataplanes");
    let instant = "2020-01-26T12:00:00Z".parse().expect("a time");
    control_plane.answers(request, Answer::new(200, overviews(instant)));
    transcript.run("inspect dataplanes --tag service=web.default.svc:80 --tag version=v2,env=a=b -o json");
    transcript.run("inspect dataplanes -o yaml");
    control_plane.answers(request, Answer::new(200, overviews(jiff::Timestamp::now())));
    transcript.run("inspect dataplanes -o wide");
    assert_snapshot!(without_ages(&transcript.text()));
}

#[test]
fn one_dataplane_is_inspected() {
    let control_plane = ControlPlane::start();
    let networking = json!({"networking": {"gateway": {"tags": {"service": "gw"}}}});
    let overview = json!({"type": "DataplaneOverview", "mesh": "default", "name": "gw-1", "dataplane": networking,
        "dataplaneInsight": {"subscriptions": [{"id": "1", "connectTime": "2020-01-26T11:00:00Z", "status": {
            "total": {"responsesSent": "1"}, "cds": {"responsesSent": "1"}}}]}});
    control_plane.answers("GET /meshes/default/dataplanes+insights/gw-1", Answer::new(200, overview.to_string()));
    let mut transcript = Transcript::new(&control_plane);
    for line in ["", " -o json", " -o yaml", " -o name"] {
        transcript.run(&format!("inspect dataplane gw-1{line}"));
    }
    transcript.run("inspect dataplane nobody").run("inspect dataplane ..").run("inspect dataplane");
    assert_snapshot!(without_ages(&transcript.text()));
}

/// Ages in rows replaced, and with them the padding: how long a command takes is up to the machine. Ages and padding
/// have unit tests.
fn without_ages(text: &str) -> String {
    let is_age = |word: &str| {
        let digits = word.strip_suffix('s').unwrap_or_default();
        digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.chars().all(|c| c.is_ascii_digit() || c == 'm' || c == 'h')
    };
    let line = |line: &str| match line.split(' ').any(is_age) {
        true => {
            line.split_whitespace().map(|word| if is_age(word) { "AGE" } else { word }).collect::<Vec<_>>().join("   ")
        }
        false => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn help_and_version() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::of_new_user(&control_plane);
    for line in [
        "help",
        "--help",
        "help apply",
        "get --help",
        "delete --help",
        "help config control-planes add",
        "generate dataplane-token -h",
    ] {
        transcript.run(line);
    }
    assert_snapshot!(transcript.text());
    let version = |line: &str| String::from_utf8(transcript.output(line, "").stdout).expect("text");
    assert_eq!(version("version"), kuma_version::text(false));
    assert_eq!(version("version -a"), kuma_version::text(true));
    assert_eq!(version("version --detailed"), kuma_version::text(true));
    assert!(!transcript.path(".kumactl").exists(), "what needs no configuration makes none");
}

#[test]
fn a_mesh_that_is_not_there_is_told() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    transcript.run("get dataplanes").run("get dataplanes --mesh defualt").run("get dataplanes --mesh defualt -o name");
    transcript.run("get dataplane web-1 --mesh defualt").run("get dataplane web-1").run("get mesh defualt");
    transcript.run("inspect dataplanes --mesh defualt").run("inspect dataplane web-1 --mesh defualt");
    transcript.run("delete traffic-log all --mesh defualt");
    transcript.run("generate dataplane-token --dataplane=web-1 --mesh=defualt");
    transcript.run("generate dataplane-token --dataplane=web-1");
    assert_snapshot!(transcript.text());
}
