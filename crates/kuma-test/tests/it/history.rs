//! The history with the programs: changes are listed, compared and rolled back, and Envoys follow.

use std::process::Output;

use kuma_test::ControlPlane;
use kuma_test::documents::{mesh, permission};
use serde_json::Value;

use crate::scene::Scene;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ok(output: &Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    text(&output.stdout)
}

fn run(cp: &ControlPlane, line: &str) -> Output {
    cp.kumactl(&line.split(' ').collect::<Vec<_>>(), "")
}

/// The commits that `kumactl history` lists, the latest first.
fn history(cp: &ControlPlane, arguments: &str) -> Vec<Value> {
    let listed: Value = serde_json::from_str(&ok(&run(cp, &format!("history -o json{arguments}")))).expect("JSON");
    listed["items"].as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_was_taken_away_is_rolled_back() {
    let scene = Scene::start().await;
    let cp = &scene.cp;
    cp.apply(&mesh("default", true)).await;
    let open = permission("default", "web-to-redis", "web", "redis").to_string();
    ok(&cp.kumactl(&["apply", "--note", "redis-is-needed", "-f", "-"], &open));
    scene.open().await;
    let good = history(cp, "")[0]["revision"].as_u64().expect("a number");

    let narrow = permission("default", "web-to-redis", "batch", "redis").to_string();
    ok(&cp.kumactl(&["apply", "-f", "-", "--wait"], &narrow));
    scene.closed().await;

    let listed = history(cp, " traffic-permission web-to-redis --mesh default --since 1h");
    let changes: Vec<&str> =
        listed.iter().map(|commit| commit["changes"][0]["change"].as_str().expect("a text")).collect();
    assert_eq!(changes, ["updated", "created"]);
    assert_eq!(listed[1]["revision"], good);
    let was = ok(&run(cp, &format!("get traffic-permissions web-to-redis --at {good} -o json")));
    assert_eq!(serde_json::from_str::<Value>(&was).expect("JSON"), serde_json::from_str::<Value>(&open).expect("JSON"));

    let differs = run(cp, &format!("diff --from {good}"));
    assert_eq!(differs.status.code(), Some(3), "{differs:?}");
    let difference = text(&differs.stdout);
    let lines: Vec<&str> = difference.lines().filter(|line| line.starts_with(['-', '+'])).collect();
    assert_eq!(
        lines,
        [
            &*format!("--- default/traffic-permission/web-to-redis\trevision {good}"),
            &*format!("+++ default/traffic-permission/web-to-redis\trevision {}", good + 1),
            "-    service: web",
            "+    service: batch",
        ]
    );

    // There is no terminal to ask for confirmation.
    let unasked = run(cp, &format!("rollback {good}"));
    assert_eq!(unasked.status.code(), Some(1), "{unasked:?}");
    assert!(text(&unasked.stderr).contains("--yes"), "{unasked:?}");
    scene.closed().await;
    ok(&run(cp, &format!("rollback {good} --dry-run")));

    let done = ok(&run(cp, &format!("rollback {good} --yes --wait")));
    assert!(done.contains(&format!("rolled back to revision {good}, as revision {}\n", good + 2)), "{done}");
    assert!(done.contains(&format!("revision {}: live on ", good + 2)), "{done}");
    scene.open().await;
    let same = run(cp, &format!("diff --from {good}"));
    assert_eq!((same.status.code(), text(&same.stdout)), (Some(0), String::new()));

    // The export can be applied to another control plane.
    let exported = ok(&run(cp, "export"));
    let other = ControlPlane::start().await;
    ok(&other.kumactl(&["apply", "-f", "-"], &exported));
    let without_revision = |text: &str| text.split_once('\n').map(|(_, rest)| rest.to_owned()).expect("lines");
    assert_eq!(without_revision(&ok(&run(&other, "export"))), without_revision(&exported));
    let past = run(&other, "get meshes --at 99999");
    assert!(text(&past.stderr).contains("* at: there is no revision 99999: the latest one is "), "{past:?}");
}
