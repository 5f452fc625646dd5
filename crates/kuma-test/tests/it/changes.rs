//! Several documents in one change, with the real programs.

use std::fmt::Write as _;
use std::process::Output;

use kuma_test::ControlPlane;
use serde_json::json;

const APPLY: &[&str] = &["apply", "-f", "-"];
const DRY_RUN: &[&str] = &["apply", "--dry-run", "-f", "-"];

/// A permission for `source` to call every service.
fn permission(mesh: &str, name: &str, source: &str) -> String {
    format!(
        "---\ntype: TrafficPermission\nmesh: {mesh}\nname: {name}\n\
         sources: [{{match: {{service: {source}}}}}]\ndestinations: [{{match: {{service: '*'}}}}]\n"
    )
}

fn ok(output: &Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(output: &Output) -> String {
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The latest revision.
async fn head(cp: &ControlPlane) -> u64 {
    let changes = reqwest::Client::new().post(format!("{}/changes", cp.api_url())).json(&json!({}));
    let answer = changes.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let revision = answer.headers()["kuma-revision"].to_str().expect("text").parse().expect("a number");
    assert!(answer.headers().contains_key("kuma-epoch"));
    revision
}

#[tokio::test(flavor = "multi_thread")]
async fn kumactl_applies_several_documents_in_one_commit() {
    let cp = ControlPlane::start().await;
    let before = head(&cp).await;

    // A refused document is reported, also by a dry run; the other documents are not stored either.
    let missing = format!("{}{}", permission("default", "here", "a"), permission("nowhere", "there", "a"));
    let cause = "Error: Could not change resources (Resource is not valid)\n* document 2 of standard input, \
        TrafficPermission \"there\" of mesh \"nowhere\", mesh: mesh of name nowhere is not found\n";
    assert_eq!(refused(&cp.kumactl(APPLY, &missing)), format!("{cause}Nothing was applied.\n"));
    assert_eq!(refused(&cp.kumactl(DRY_RUN, &missing)), cause);
    let one = refused(&cp.kumactl(DRY_RUN, &permission("nowhere", "there", "a")));
    assert!(one.ends_with("of mesh \"nowhere\", mesh: mesh of name nowhere is not found\n"), "{one}");
    let provided = "type: Mesh\nname: other\nmtls: {ca: {provided: {}}}\n";
    let no_ca = refused(&cp.kumactl(DRY_RUN, provided));
    assert!(no_ca.contains("Mesh \"other\", mtls.ca.provided: There is no signing certificate"), "{no_ca}");
    let twice = format!("{}{}", permission("default", "here", "a"), permission("default", "here", "b"));
    let twice = refused(&cp.kumactl(APPLY, &twice));
    let same = "document 2 of standard input: TrafficPermission \"here\" of mesh \"default\" is document 1 of standard \
                input already";
    assert!(twice.contains(same), "{twice}");
    assert_eq!(head(&cp).await, before);

    let all =
        format!("{}{}---\ntype: Mesh\nname: demo\n", permission("demo", "a", "x"), permission("default", "b", "x"));
    let would = "Mesh \"demo\" would be created\nTrafficPermission \"a\" of mesh \"demo\" would be created\n\
        TrafficPermission \"b\" of mesh \"default\" would be created\n";
    assert_eq!(ok(&cp.kumactl(DRY_RUN, &all)), would);
    assert_eq!(head(&cp).await, before);
    assert_eq!(ok(&cp.kumactl(APPLY, &all)), would.replace("would be ", ""));
    assert_eq!(head(&cp).await, before + 1, "one commit");
    let changed = all.replacen("service: x", "service: y", 1);
    assert_eq!(
        ok(&cp.kumactl(APPLY, &changed)),
        "Mesh \"demo\" unchanged\nTrafficPermission \"a\" of mesh \"demo\" changed\nTrafficPermission \"b\" of mesh \
         \"default\" unchanged\n"
    );
    assert_eq!(head(&cp).await, before + 2);
    // A document that is stored but has no effect causes a warning.
    let log = "type: TrafficLog\nmesh: demo\nname: l\nsources: [{match: {service: '*'}}]\n\
               destinations: [{match: {service: '*'}}]\nconf: {backend: file}\n---\ntype: Mesh\nname: demo\n";
    let told = "Warning: TrafficLog \"l\" logs nothing: the Mesh has no log backend \"file\"\n";
    for arguments in [DRY_RUN, APPLY] {
        let output = cp.kumactl(arguments, log);
        assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(0), told));
    }
    assert_eq!(cp.get("/meshes/demo/traffic-permissions/a").await["sources"][0]["match"]["service"], "y");
}

#[tokio::test(flavor = "multi_thread")]
async fn kumactl_applies_more_documents_than_one_commit_takes() {
    let cp = ControlPlane::start().await;
    let mut all = String::new();
    (0..1001).for_each(|n| write!(all, "{}", permission("default", &format!("p-{n}"), "a")).expect("text"));
    let output = cp.kumactl(APPLY, &all);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("more than the Control Plane takes at once"), "{output:?}");
    let list = cp.get("/meshes/default/traffic-permissions").await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1001));
}
