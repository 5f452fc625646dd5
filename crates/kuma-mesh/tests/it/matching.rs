//! Which policy wins, by the worked table of the documents' rules, and against a naive model.

use std::sync::Arc;

use kuma_mesh::{Affected, Destination, Flow, KnownCallers, MeshDataplane, MeshSnapshot, Policies, best_policy};
use kuma_model::{Tags, TrafficLog, TrafficPermission, TrafficRoute};
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
    let flow = |mesh: &MeshSnapshot| mesh.flow(&web, "redis", &mesh.destinations(&web, &Arc::from("redis")));
    assert_eq!(flow(&mesh), Flow::Denied);

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
    assert_eq!(flow(&mesh), Flow::Permitted);
    mesh.set_permission(&Arc::from("b"), None);
    assert_eq!(flow(&mesh), Flow::Denied, "a permission for another version is none");
}

/// What of web's flow to redis is permitted, under routes and with permissions from web to these destinations.
fn flow(conf: &str, permitted: &[&str]) -> Flow {
    let mut mesh = mesh(&[
        ("redis-1", dataplane(&["service: redis, version: '1'"], &[])),
        ("redis-2", dataplane(&["service: redis, version: '2'"], &[])),
        ("valkey-1", dataplane(&["service: valkey, version: '1', zone: a"], &[])),
        ("web-1", dataplane(&["service: web"], &["redis"])),
    ]);
    if !conf.is_empty() {
        let route = spec::<TrafficRoute>(&format!(
            "sources: [{{match: {{service: web}}}}]\ndestinations: [{{match: {{service: redis}}}}]\nconf: {conf}"
        ));
        mesh.set_route(&Arc::from("r"), Some(Arc::new(route)));
    }
    for destination in permitted {
        let policy = spec::<TrafficPermission>(&format!(
            "sources: [{{match: {{service: web}}}}]\ndestinations: [{{match: {{{destination}}}}}]"
        ));
        mesh.set_permission(&Arc::from(*destination), Some(Arc::new(policy)));
    }
    let web = mesh.dataplane("web-1").expect("there").clone();
    let destinations = mesh.destinations(&web, &Arc::from("redis"));
    let flow = mesh.flow(&web, "redis", &destinations);
    assert_eq!(KnownCallers::default().flow(&mesh, &web, "redis", &destinations), flow, "the two ways differ");
    flow
}

#[test]
fn a_flow_is_permitted_by_what_admits_it_where_its_route_leads() {
    let elsewhere = "[{weight: 1, destination: {service: valkey}}]";
    assert_eq!(flow("", &["service: redis"]), Flow::Permitted);
    assert_eq!(flow(elsewhere, &["service: redis"]), Flow::Denied);
    assert_eq!(flow(elsewhere, &["service: valkey"]), Flow::Permitted);
    assert_eq!(flow(elsewhere, &["service: valkey, zone: a"]), Flow::Permitted);
    assert_eq!(flow(elsewhere, &["service: valkey, zone: b"]), Flow::Denied);
    assert_eq!(flow(elsewhere, &["service: '*'"]), Flow::Permitted);
}

#[test]
fn of_a_split_each_destination_counts_by_itself() {
    let to = |service: &str, tags: Tags, weight| Destination { service: Arc::from(service), tags, weight };
    let version = |version: &str| Tags::from([("version", version)]);
    let split =
        "[{weight: 90, destination: {service: redis, version: '1'}}, {weight: 10, destination: {service: valkey}}]";
    assert_eq!(flow(split, &["service: redis", "service: valkey"]), Flow::Permitted);
    assert_eq!(flow(split, &["service: redis"]), Flow::Partly(vec![to("redis", version("1"), 90)]));
    assert_eq!(flow(split, &["service: valkey"]), Flow::Partly(vec![to("valkey", Tags::default(), 10)]));
    assert_eq!(flow(split, &["service: redis, version: '2'"]), Flow::Denied);

    // Versions of one service.
    let versions = "[{weight: 1, destination: {service: redis, version: '1'}}, {weight: 1, destination: {service: \
        redis, version: '2'}}]";
    assert_eq!(flow(versions, &["service: redis, version: '2'"]), Flow::Partly(vec![to("redis", version("2"), 1)]));
    assert_eq!(flow(versions, &["service: redis, version: '*'"]), Flow::Permitted);

    // One that nobody offers is judged by its tags.
    let nobody = "[{weight: 1, destination: {service: redis, version: '3'}}]";
    assert_eq!(flow(nobody, &["service: redis"]), Flow::Permitted);
    assert_eq!(flow(nobody, &["service: redis, version: '3'"]), Flow::Permitted);
    assert_eq!(flow(nobody, &["service: redis, version: '1'"]), Flow::Denied);
    assert_eq!(flow("[{weight: 1, destination: {service: new}}]", &["service: new"]), Flow::Permitted);
}

#[test]
fn a_destination_of_weight_0_counts_only_where_all_are_0() {
    let idle = "[{weight: 1, destination: {service: redis}}, {weight: 0, destination: {service: valkey}}]";
    assert_eq!(flow(idle, &["service: redis"]), Flow::Permitted);
    assert_eq!(flow(idle, &["service: valkey"]), Flow::Denied);
    // Stopping the traffic decides nothing else: connections that are open go on.
    let stopped = "[{weight: 0, destination: {service: valkey}}]";
    assert_eq!(flow(stopped, &["service: valkey"]), Flow::Permitted);
    assert_eq!(flow(stopped, &["service: redis"]), Flow::Denied);
}

/// Names of the proxies that are concerned in their flows.
fn flows(affected: &Affected) -> Vec<&str> {
    let Affected::Proxies { flows, .. } = affected else { panic!("all are concerned") };
    flows.iter().map(|name| &**name).collect()
}

#[test]
fn a_permission_concerns_whoever_a_route_leads_there() {
    let mut mesh = mesh(&[
        ("redis-1", dataplane(&["service: redis"], &[])),
        ("api-1", dataplane(&["service: api"], &["redis"])),
        ("web-1", dataplane(&["service: web"], &["redis"])),
        ("web-2", dataplane(&["service: web, version: '2'"], &["other"])),
    ]);
    let route = |source: &str, to: &str| {
        let route = spec::<TrafficRoute>(&format!(
            "sources: [{{match: {{{source}}}}}]\ndestinations: [{{match: {{service: '*'}}}}]\n\
             conf: [{{weight: 0, destination: {{service: {to}}}}}]"
        ));
        Some(Arc::new(route))
    };
    let permission = |source: &str, destination: &str| {
        let policy = spec::<TrafficPermission>(&format!(
            "sources: [{{match: {{service: '{source}'}}}}]\ndestinations: [{{match: {{service: '{destination}'}}}}]"
        ));
        Some(Arc::new(policy))
    };
    let concerned = |mesh: &MeshSnapshot, source: &str, destination: &str| -> Vec<String> {
        let affected = mesh.clone().set_permission(&Arc::from("p"), permission(source, destination));
        flows(&affected).into_iter().map(str::to_owned).collect()
    };
    assert_eq!(concerned(&mesh, "*", "valkey"), Vec::<String>::new());
    mesh.set_route(&Arc::from("r"), route("service: web", "valkey"));
    assert_eq!(concerned(&mesh, "*", "valkey"), ["web-1", "web-2"]);
    assert_eq!(concerned(&mesh, "web", "valkey"), ["web-1", "web-2"]);
    assert_eq!(concerned(&mesh, "api", "valkey"), Vec::<String>::new());
    // A better route leads one of them elsewhere.
    mesh.set_route(&Arc::from("s"), route("service: web, version: '2'", "keydb"));
    assert_eq!(concerned(&mesh, "*", "valkey"), ["web-1"]);
    assert_eq!(concerned(&mesh, "web", "keydb"), ["web-2"]);
    mesh.set_dataplane(&Arc::from("web-1"), Some(dataplane(&["service: web"], &[])));
    assert_eq!(concerned(&mesh, "*", "valkey"), Vec::<String>::new());
    mesh.set_route(&Arc::from("s"), None);
    assert_eq!(concerned(&mesh, "*", "valkey"), ["web-2"]);
    mesh.set_route(&Arc::from("r"), None);
    assert_eq!(concerned(&mesh, "*", "valkey"), Vec::<String>::new());
}

proptest! {
    #[test]
    fn the_winner_does_not_depend_on_the_order_of_writing(
        order in Just((0..TABLE.len()).collect::<Vec<_>>()).prop_shuffle(),
        take in 1..=TABLE.len(),
    ) {
        let rows: Vec<_> = order[..take].iter().map(|&index| TABLE[index]).collect();
        // The table is in ascending order, so the highest index wins.
        let best = order[..take].iter().max().map(|&index| TABLE[index].0.to_owned());
        prop_assert_eq!(winner(&rows), best);
    }
}
