//! The choice of a policy against a model that is as plain as the rules: look at every policy, every selector, every
//! set of tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuma_mesh::{MeshDataplane, MeshSnapshot, Peer, Policies, best_policy};
use kuma_model::{HealthCheck, Mesh, Selector, Tags, TrafficLog, TrafficPermission, TrafficRoute};
use proptest::prelude::*;

use crate::support::{dataplane, spec};

const SERVICES: [&str; 3] = ["web", "redis", "backend"];

type Pairs = Vec<(&'static str, &'static str)>;

fn selector() -> impl Strategy<Value = Pairs> {
    let service = prop::sample::select(vec!["web", "redis", "backend", "*"]);
    let other = |key: &'static str| {
        prop::option::weighted(0.4, prop::sample::select(vec!["a", "b", "*"]))
            .prop_map(move |value| value.map(|v| (key, v)))
    };
    (service, other("version"), other("region")).prop_map(|(service, version, region)| {
        [Some(("service", service)), version, region].into_iter().flatten().collect()
    })
}

fn inbound() -> impl Strategy<Value = Pairs> {
    let value = |key: &'static str| {
        prop::option::weighted(0.6, prop::sample::select(vec!["a", "b"])).prop_map(move |value| value.map(|v| (key, v)))
    };
    (prop::sample::select(SERVICES.to_vec()), value("version"), value("region")).prop_map(
        |(service, version, region)| [Some(("service", service)), version, region].into_iter().flatten().collect(),
    )
}

/// A policy: its sources, and the services of its destinations.
type Written = (Vec<Pairs>, Vec<&'static str>);

fn policies() -> impl Strategy<Value = BTreeMap<String, Written>> {
    let destinations = prop::collection::vec(prop::sample::select(vec!["web", "redis", "backend", "*"]), 1..3);
    let written = (prop::collection::vec(selector(), 1..3), destinations);
    prop::collection::btree_map("[a-d][a-d]?", written, 0..6)
}

/// Rank of a selector that matches: how many tags, then how many of them exactly.
fn rank(selector: &Pairs, tags: &Pairs) -> Option<(usize, usize)> {
    let value = |key: &str| tags.iter().find(|(known, _)| *known == key).map(|(_, value)| *value);
    let matches =
        selector.iter().all(|(key, wanted)| value(key).is_some_and(|value| *wanted == "*" || value == *wanted));
    matches.then(|| (selector.len(), selector.iter().filter(|(_, wanted)| *wanted != "*").count()))
}

fn model<'a>(policies: &'a BTreeMap<String, Written>, inbounds: &[Pairs], service: &'static str) -> Option<&'a String> {
    let mut candidates = Vec::new();
    for (name, (sources, destinations)) in policies {
        for source in sources {
            for inbound in inbounds {
                for destination in destinations {
                    let here = rank(source, inbound);
                    let there = rank(&vec![("service", *destination)], &vec![("service", service)]);
                    if let (Some(here), Some(there)) = (here, there) {
                        candidates.push((here.0 + there.0, here.1 + there.1, std::cmp::Reverse(name)));
                    }
                }
            }
        }
    }
    candidates.into_iter().max().map(|(.., std::cmp::Reverse(name))| name)
}

fn selector_of(pairs: &Pairs) -> Selector {
    Selector { tags: Tags::from_iter(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn the_best_policy_is_that_of_the_plain_model(policies in policies(), inbounds in prop::collection::vec(inbound(),
        1..3), service in prop::sample::select(SERVICES.to_vec())) {
        let mut set = Policies::default();
        for (name, (sources, destinations)) in &policies {
            let policy = TrafficRoute {
                sources: sources.iter().map(selector_of).collect(),
                destinations: destinations.iter().map(|service| selector_of(&vec![("service", *service)])).collect(),
                conf: Vec::new(),
            };
            set.set(&Arc::from(name.as_str()), Some(Arc::new(policy)));
        }
        let inbounds_yaml: Vec<String> = inbounds
            .iter()
            .map(|tags| tags.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", "))
            .collect();
        let inbounds_yaml: Vec<&str> = inbounds_yaml.iter().map(String::as_str).collect();
        let proxy = MeshDataplane::new(Arc::from("it"), dataplane(&inbounds_yaml, &[]));
        let best = best_policy(&set, &proxy, service).map(|(name, _)| name.to_string());
        prop_assert_eq!(best.as_ref(), model(&policies, &inbounds, service));
    }
}

proptest! {
    /// All permissions that match count, each for its own inbound: tags of two inbounds are never mixed.
    #[test]
    fn permissions_admit_whom_the_plain_model_admits(
        permissions in prop::collection::btree_map("[a-d]", (prop::collection::vec(prop::sample::select(vec!["web",
            "redis", "*"]), 1..3), prop::collection::vec(selector(), 1..3)), 0..4),
        inbounds in prop::collection::vec(inbound(), 1..3),
    ) {
        let mut mesh = MeshSnapshot::new("default", false);
        mesh.set_mesh(Some(Arc::new(spec::<Mesh>("mtls: {enabled: true, ca: {builtin: {}}}"))));
        for (name, (sources, destinations)) in &permissions {
            let policy = TrafficPermission {
                sources: sources.iter().map(|service| selector_of(&vec![("service", *service)])).collect(),
                destinations: destinations.iter().map(selector_of).collect(),
            };
            mesh.set_permission(&Arc::from(name.as_str()), Some(Arc::new(policy)));
        }
        let yaml: Vec<String> = inbounds
            .iter()
            .map(|tags| tags.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", "))
            .collect();
        let yaml: Vec<&str> = yaml.iter().map(String::as_str).collect();
        let proxy = MeshDataplane::new(Arc::from("it"), dataplane(&yaml, &[]));
        for (tags, inbound) in inbounds.iter().zip(&proxy.inbounds) {
            let admitted: Vec<(String, Vec<String>)> = mesh
                .admitted(inbound)
                .into_iter()
                .map(|admitted| {
                    let mut peers: Vec<String> = admitted.peers.iter().map(|peer| match peer {
                        Peer::Service(id) => id.strip_prefix("spiffe://default/").expect("of the mesh").to_owned(),
                        Peer::Mesh(prefix) => {
                            assert_eq!(&**prefix, "spiffe://default/");
                            "*".to_owned()
                        }
                    }).collect();
                    peers.sort_unstable();
                    (admitted.permission.to_string(), peers)
                })
                .collect();
            let expected: Vec<(String, Vec<String>)> = permissions
                .iter()
                .filter(|(_, (_, destinations))| destinations.iter().any(|selector| rank(selector, tags).is_some()))
                .map(|(name, (sources, _))| {
                    let mut peers: Vec<String> = sources.iter().map(|service| (*service).to_owned()).collect();
                    peers.sort_unstable();
                    peers.dedup();
                    (name.clone(), peers)
                })
                .collect();
            prop_assert_eq!(admitted, expected);
        }
    }
}

/// A mesh with two log backends, and a web that dials redis.
fn logging(default: &str) -> MeshSnapshot {
    let mut mesh = MeshSnapshot::new("default", false);
    let backends = "backends: [{name: a, file: {path: /a}}, {name: b, file: {path: /b}}]";
    mesh.set_mesh(Some(Arc::new(spec::<Mesh>(&format!("logging: {{defaultBackend: '{default}', {backends}}}")))));
    mesh.set_dataplane(&Arc::from("web-1"), Some(dataplane(&["service: web"], &["redis"])));
    mesh
}

#[test]
fn a_log_goes_to_the_backend_that_it_names_or_to_the_default() {
    for (default, conf, expected) in [
        ("a", "", Some("a")),
        ("a", "conf: {}", Some("a")),
        ("a", "conf: {backend: b}", Some("b")),
        ("a", "conf: {backend: nobody}", None),
        ("", "conf: {backend: b}", Some("b")),
        ("", "", None),
    ] {
        let mut mesh = logging(default);
        let web = mesh.dataplane("web-1").expect("there").clone();
        assert_eq!(mesh.log_backend(&web, "redis"), None, "nothing is logged unless a policy says so");
        let policy =
            format!("sources: [{{match: {{service: web}}}}]\ndestinations: [{{match: {{service: redis}}}}]\n{conf}");
        mesh.set_log(&Arc::from("log"), Some(Arc::new(spec::<TrafficLog>(&policy))));
        let backend = mesh.log_backend(&web, "redis").map(|backend| backend.name.as_str());
        assert_eq!(backend, expected, "{default:?} {conf:?}");
        assert_eq!(mesh.log_backend(&web, "web"), None);
    }
}

#[test]
fn a_check_is_looked_up_by_the_service_that_is_dialled_in_the_end() {
    let mut mesh = logging("");
    let web = mesh.dataplane("web-1").expect("there").clone();
    let route = "sources: [{match: {service: '*'}}]\ndestinations: [{match: {service: redis}}]\n\
        conf: [{weight: 1, destination: {service: backend}}]";
    mesh.set_route(&Arc::from("route"), Some(Arc::new(spec::<TrafficRoute>(route))));
    let check = "sources: [{match: {service: web}}]\ndestinations: [{match: {service: backend}}]\n\
        conf: {passiveChecks: {unhealthyThreshold: 1, penaltyInterval: 1s}}";
    let affected = mesh.set_health_check(&Arc::from("check"), Some(Arc::new(spec::<HealthCheck>(check))));
    assert!(affected.contains("web-1"), "its outbound is called redis, and leads to backend");
    assert!(mesh.health_check(&web, "backend").is_some());
    assert!(mesh.health_check(&web, "redis").is_none());
}
