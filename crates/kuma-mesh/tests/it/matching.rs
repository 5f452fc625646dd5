//! Which policy wins, by the worked table of the documents' rules, and against a naive model.

use std::sync::Arc;

use kuma_mesh::{MeshDataplane, Policies, best_policy};
use kuma_model::{TrafficLog, TrafficPermission};
use proptest::prelude::*;

use crate::support::{dataplane, mesh, spec};

/// Sources and destinations of the worked table, in the order in which each beats those before it.
const TABLE: &[(&str, &str, &str)] = &[
    ("a-all", "[{match: {service: '*'}}]", "[{match: {service: '*'}}]"),
    ("c-src", "[{match: {service: web}}]", "[{match: {service: '*'}}]"),
    ("b-dst", "[{match: {service: '*'}}]", "[{match: {service: backend}}]"),
    ("d-both", "[{match: {service: web}}]", "[{match: {service: backend}}]"),
    ("e-wild3", "[{match: {service: '*', region: '*'}}]", "[{match: {service: '*'}}]"),
    ("f-mix", "[{match: {service: web, version: '*'}}]", "[{match: {service: backend}}]"),
    ("g-exact", "[{match: {service: web, version: v1}}]", "[{match: {service: backend}}]"),
    (
        "h-two",
        "[{match: {service: web}}, {match: {service: '*', version: v1, region: us}}]",
        "[{match: {service: backend}}]",
    ),
];

fn policies(rows: &[(&str, &str, &str)]) -> Policies<TrafficLog> {
    let mut policies = Policies::default();
    for (name, sources, destinations) in rows {
        let policy: TrafficLog = spec(&format!("sources: {sources}\ndestinations: {destinations}\n"));
        policies.set(&Arc::from(*name), Some(Arc::new(policy)));
    }
    policies
}

fn web() -> MeshDataplane {
    MeshDataplane::new(Arc::from("web-01"), dataplane(&["service: web, version: v1, region: us"], &["backend"]))
}

fn winner(rows: &[(&str, &str, &str)]) -> Option<String> {
    best_policy(&policies(rows), &web(), "backend").map(|(name, _)| name.to_string())
}

#[test]
fn each_row_of_the_worked_table_beats_those_before_it() {
    for end in 1..=TABLE.len() {
        assert_eq!(winner(&TABLE[..end]).as_deref(), Some(TABLE[end - 1].0));
    }
}

#[test]
fn a_policy_that_does_not_match_never_wins() {
    assert_eq!(
        winner(&[("i-nomatch", "[{match: {service: web, version: v2}}]", "[{match: {service: backend}}]")]),
        None
    );
    assert_eq!(winner(&[("other", "[{match: {service: web}}]", "[{match: {service: redis}}]")]), None);
}

#[test]
fn tags_of_two_inbounds_are_never_mixed() {
    let kong = MeshDataplane::new(
        Arc::from("kong"),
        dataplane(&["service: kong, env: dev", "service: kong-admin, env: prod"], &["backend"]),
    );
    let mixed = policies(&[("mixed", "[{match: {service: kong, env: prod}}]", "[{match: {service: '*'}}]")]);
    assert!(best_policy(&mixed, &kong, "backend").is_none());
}

#[test]
fn permissions_add_up_and_the_rest_is_denied() {
    let mut mesh = mesh(&[
        ("redis-1", dataplane(&["service: redis, version: '5.0'"], &[])),
        ("web-1", dataplane(&["service: web"], &["redis"])),
    ]);
    let redis = mesh.dataplane("redis-1").expect("there").clone();
    let web = mesh.dataplane("web-1").expect("there").clone();
    assert!(mesh.admitted(&redis.inbounds[0]).is_empty());
    assert!(!mesh.is_flow_permitted(&web, "redis"));

    let permission = |sources: &str, destinations: &str| -> Option<Arc<TrafficPermission>> {
        Some(Arc::new(spec(&format!(
            "sources: [{{match: {{{sources}}}}}]\ndestinations: [{{match: {{{destinations}}}}}]\n"
        ))))
    };
    mesh.set_permission(&Arc::from("b"), permission("service: web", "service: redis, version: '5.0'"));
    mesh.set_permission(&Arc::from("a"), permission("service: '*'", "service: '*'"));
    mesh.set_permission(&Arc::from("c"), permission("service: web", "service: redis, version: '6.0'"));
    let names: Vec<_> =
        mesh.admitted(&redis.inbounds[0]).iter().map(|admitted| admitted.permission.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    mesh.set_permission(&Arc::from("a"), None);
    assert!(mesh.is_flow_permitted(&web, "redis"));
    mesh.set_permission(&Arc::from("b"), None);
    assert!(!mesh.is_flow_permitted(&web, "redis"), "a permission for another version is none");
}

proptest! {
    #[test]
    fn the_winner_does_not_depend_on_the_order_of_writing(order in Just((0..TABLE.len()).collect::<Vec<_>>()).prop_shuffle(), take in 1..=TABLE.len()) {
        let rows: Vec<_> = order[..take].iter().map(|&index| TABLE[index]).collect();
        // The table is in ascending order, so the highest index wins.
        let best = order[..take].iter().max().map(|&index| TABLE[index].0.to_owned());
        prop_assert_eq!(winner(&rows), best);
    }
}
