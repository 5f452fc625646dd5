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
        let document = documents()
            .into_iter()
            .find(|document| document["type"] == kind.name);
        let name = document
            .as_ref()
            .and_then(|document| document["name"].as_str())
            .expect("the example has every kind");
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
    transcript
        .run_with_input("apply -f -", ALL_KINDS)
        .run("get dataplanes --mesh demo -o table");
    transcript
        .run("get dataplanes --mesh demo -o yaml")
        .run("get dataplanes --mesh demo --output=json");
    transcript
        .run("get traffic-routes")
        .run("get traffic-routes -o yaml")
        .run("get traffic-routes -ojson");
    assert_snapshot!(transcript.text());
}

#[test]
fn what_is_shown_as_yaml_can_be_applied_again() {
    let control_plane = ControlPlane::start();
    let mut transcript = Transcript::new(&control_plane);
    transcript.run_with_input("apply", ALL_KINDS);
    let before = transcript
        .output("get traffic-routes --mesh demo -o json", "")
        .stdout;
    let yaml = String::from_utf8(
        transcript
            .output("get traffic-routes --mesh demo -o yaml", "")
            .stdout,
    )
    .expect("text");
    let item = yaml
        .replace("items:\n- ", "  ")
        .replace("\n  ", "\n")
        .trim_start()
        .to_owned();
    let output = transcript.output("apply", &item);
    assert!(
        output.status.success(),
        "{}\n{item}",
        String::from_utf8_lossy(&output.stderr)
    );
    let after = transcript
        .output("get traffic-routes --mesh demo -o json", "")
        .stdout;
    let parsed =
        |bytes: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&bytes).expect("JSON");
    assert_eq!(parsed(after), parsed(before));
}

#[test]
fn dataplanes_are_inspected() {
    let control_plane = ControlPlane::start();
    let ago = |seconds: i64| {
        (jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds)).to_string()
    };
    let tags = |service: &str| json!({"networking": {"inbound": [{"interface": "127.0.0.1:80:8080", "tags": {"service": service, "version": "v2"}}]}});
    let items = json!({"items": [
        {"type": "DataplaneOverview", "mesh": "default", "name": "web-1", "dataplane": tags("web"), "dataplaneInsight": {"subscriptions": [
            {"id": "1", "controlPlaneInstanceId": "a", "connectTime": ago(400_000), "disconnectTime": ago(300_000),
             "status": {"lastUpdateTime": ago(390_000), "total": {"responsesSent": "40", "responsesAcknowledged": "38", "responsesRejected": "2"}}},
            {"id": "2", "controlPlaneInstanceId": "a", "connectTime": ago(7_384),
             "status": {"lastUpdateTime": ago(0), "total": {"responsesSent": "2", "responsesAcknowledged": "2"}}}]}},
        {"type": "DataplaneOverview", "mesh": "default", "name": "gone", "dataplane": tags("web"), "dataplaneInsight": {"subscriptions": [
            {"id": "3", "controlPlaneInstanceId": "a", "connectTime": ago(90), "disconnectTime": ago(10)}]}},
        {"type": "DataplaneOverview", "mesh": "default", "name": "never", "dataplane": {"networking": {"gateway": {"tags": {"service": "gw"}}}}}
    ]});
    control_plane.answers(
        "GET /meshes/default/dataplanes+insights",
        Answer::new(200, items.to_string()),
    );
    let mut transcript = Transcript::new(&control_plane);
    transcript.run("inspect dataplanes");
    transcript.run(
        "inspect dataplanes --tag service=web.default.svc:80 --tag version=v2,env=a=b -o json",
    );
    // A loaded machine may take seconds for a command.
    let ages = without_times(&transcript.text());
    assert_snapshot!(ages);
}

/// Ages within a minute of what they should be, made equal.
fn without_times(text: &str) -> String {
    let instant = |word: &str| {
        word.contains('T')
            && word
                .trim_matches([',', '"'])
                .parse::<jiff::Timestamp>()
                .is_ok()
    };
    let age = |word: &str| {
        word.strip_suffix('s').is_some_and(|rest| {
            rest.chars()
                .all(|c| c.is_ascii_digit() || c == 'm' || c == 'h')
                && !rest.is_empty()
        })
    };
    let mut shown = String::new();
    for line in text.split_inclusive('\n') {
        let mut rest = line;
        while let Some(end) = rest.find([' ', '\n']) {
            let (word, space) = rest[..end + 1].split_at(end);
            if instant(word) {
                shown.push_str("\"INSTANT\"");
            } else if age(word) {
                // Seconds may differ; hours may not.
                let hours = word.split_once('h').map(|(hours, _)| format!("{hours}h"));
                shown.push_str(&format!("{}…", hours.unwrap_or_default()));
            } else {
                shown.push_str(word);
            }
            shown.push_str(space);
            rest = &rest[end + 1..];
        }
        shown.push_str(rest);
    }
    shown
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
    assert!(
        !transcript.path(".kumactl").exists(),
        "what needs no configuration makes none"
    );
}
