//! After any edits, the incremental path gives every proxy the same as planning from scratch, and wakes no stream
//! without a change.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuma_model::Key;
use kuma_store::Stored;
use kuma_xds::ResourceType;
use proptest::prelude::*;

use crate::support::{Mesh, Stream, ca, mesh, permission, redis, stored, web};

const NAMES: [&str; 4] = ["one", "two", "three", "four"];
const SERVICES: [&str; 3] = ["web", "redis", "backend"];

#[derive(Clone, Debug)]
enum Step {
    Write(String),
    Delete(&'static str, usize),
    Open(usize),
    Close(usize),
    Departed(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let service = || prop::sample::select(SERVICES.to_vec());
    let any_service = || prop_oneof![service(), Just("*")];
    let protocol = prop_oneof![1 => Just(""), 3 => Just(", protocol: http"), 1 => Just(", protocol: tcp")];
    let dataplane = (name.clone(), service(), protocol, 1..4u8, prop::collection::btree_set(service(), 0..3)).prop_map(
        |(name, service, protocol, host, outbounds)| {
            let outbounds: String = outbounds
                .iter()
                .enumerate()
                .map(|(index, service)| format!("\n  - {{interface: ':{}', service: {service}}}", 9000 + index))
                .collect();
            Step::Write(format!(
                "type: Dataplane\nmesh: default\nname: {}\nnetworking:\n  inbound:\n  - interface: \
                 10.0.0.{host}:80:8080\n    tags: {{service: {service}, version: v{host}{protocol}}}\n  outbound: \
                 {}{outbounds}",
                NAMES[name],
                if outbounds.is_empty() { "[]" } else { "" },
            ))
        },
    );
    let version = prop_oneof![3 => Just(""), 1 => Just(", version: v1"), 1 => Just(", version: '*'")];
    let permission =
        (name.clone(), any_service(), any_service(), version).prop_map(|(name, source, destination, version)| {
            Step::Write(format!(
                "type: TrafficPermission\nmesh: default\nname: {}\nsources: [{{match: {{service: '{source}'}}}}]\n\
             destinations: [{{match: {{service: '{destination}'{version}}}}}]",
                NAMES[name]
            ))
        });
    // Permissions and routes that distinguish versions, and routes that lead to other services, to several or to none.
    let destination = || {
        (service(), prop::option::of(1..4u8)).prop_map(|(service, version)| match version {
            Some(version) => format!("service: {service}, version: v{version}"),
            None => format!("service: {service}"),
        })
    };
    let ways = prop::collection::vec((0..3u32, destination()), 1..4);
    let route = (name.clone(), any_service(), any_service(), ways).prop_map(|(name, source, destination, ways)| {
        let conf: String =
            ways.iter().map(|(weight, to)| format!("\n- {{weight: {weight}, destination: {{{to}}}}}")).collect();
        Step::Write(format!(
            "type: TrafficRoute\nmesh: default\nname: {}\nsources: [{{match: {{service: '{source}'}}}}]\n\
             destinations: [{{match: {{service: '{destination}'}}}}]\nconf:{conf}",
            NAMES[name]
        ))
    });
    let health_check =
        (name.clone(), any_service(), any_service(), 1..3u32).prop_map(|(name, source, destination, threshold)| {
            Step::Write(format!(
                "type: HealthCheck\nmesh: default\nname: {}\nsources: [{{match: {{service: '{source}'}}}}]\n\
             destinations: [{{match: {{service: '{destination}'}}}}]\nconf: {{passiveChecks: {{unhealthyThreshold: \
             {threshold}, penaltyInterval: 5s}}}}",
                NAMES[name]
            ))
        });
    let backends = prop::sample::select(vec!["", "file", "tcp", "none"]);
    let log =
        (name.clone(), any_service(), any_service(), backends).prop_map(|(name, source, destination, backend)| {
            Step::Write(format!(
                "type: TrafficLog\nmesh: default\nname: {}\nsources: [{{match: {{service: '{source}'}}}}]\n\
             destinations: [{{match: {{service: '{destination}'}}}}]\nconf: {{backend: '{backend}'}}",
                NAMES[name]
            ))
        });
    let trace = (name.clone(), any_service(), prop::sample::select(vec!["", "a", "none"])).prop_map(
        |(name, service, backend)| {
            Step::Write(format!(
                "type: TrafficTrace\nmesh: default\nname: {}\nselectors: [{{match: {{service: '{service}'}}}}]\n\
                 conf: {{backend: '{backend}'}}",
                NAMES[name]
            ))
        },
    );
    let template = (name.clone(), any_service(), service(), any::<bool>(), any::<bool>()).prop_map(
        |(name, selected, cluster, imports, eds)| {
            let imports = if imports { "default-proxy" } else { "" };
            let source = if eds { "eds_cluster_config: {eds_config: {ads: {}}}, type: EDS" } else { "type: STATIC" };
            Step::Write(format!(
                "type: ProxyTemplate\nmesh: default\nname: {}\nselectors: [{{match: {{service: '{selected}'}}}}]\n\
                 conf:\n  imports: [{imports}]\n  resources:\n  - name: n\n    version: v\n    resource: \"{{'@type': \
                 type.googleapis.com/envoy.config.cluster.v3.Cluster, name: {cluster}, {source}}}\"",
                NAMES[name]
            ))
        },
    );
    let metrics = prop::sample::select(vec!["{}", "{prometheus: {}}", "{prometheus: {port: 80}}"]);
    let tracing = prop::sample::select(vec![
        "{}",
        "{defaultBackend: a, backends: [{name: a, zipkin: {url: 'http://a:1'}}, {name: b, zipkin: {url: \
         'http://b:1'}}]}",
        "{defaultBackend: b, backends: [{name: a, sampling: 1, zipkin: {url: 'http://1.1.1.1:2/'}}, {name: b, zipkin: \
         {url: 'http://b:1'}}]}",
    ]);
    let mesh = (any::<bool>(), prop::sample::select(vec!["", "file", "tcp"]), metrics, tracing).prop_map(
        |(mtls, default, metrics, tracing)| {
            Step::Write(format!(
                "type: Mesh\nname: default\nmtls: {{enabled: {mtls}, ca: {{builtin: {{}}}}}}\nmetrics: {metrics}\n\
             tracing: {tracing}\nlogging: {{defaultBackend: '{default}', backends: [{{name: file, file: {{path: \
             /log}}}}, {{name: tcp, format: '%KUMA_SOURCE_ADDRESS%', tcp: {{address: 'log:1'}}}}]}}"
            ))
        },
    );
    let kinds = prop::sample::select(vec![
        "Dataplane",
        "TrafficPermission",
        "TrafficRoute",
        "HealthCheck",
        "TrafficLog",
        "TrafficTrace",
        "ProxyTemplate",
    ]);
    prop_oneof![
        4 => dataplane,
        3 => permission,
        3 => route,
        2 => health_check,
        2 => log,
        2 => trace,
        2 => template,
        1 => mesh,
        3 => (kinds, name.clone()).prop_map(|(kind, name)| Step::Delete(kind, name)),
        3 => name.clone().prop_map(Step::Open),
        1 => name.clone().prop_map(Step::Close),
        1 => (name, any::<bool>()).prop_map(|(name, departed)| Step::Departed(name, departed)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn every_proxy_has_what_the_whole_path_gives(steps in prop::collection::vec(step(), 1..40),
        durable in any::<bool>()) {
        let mut life = Mesh::new(durable);
        life.write(&[&mesh(true), &ca()]);
        let mut streams: BTreeMap<usize, Stream> = BTreeMap::new();
        for step in &steps {
            match step {
                Step::Write(yaml) => {
                    let document: Arc<Stored> = stored(yaml);
                    life.write(&[&document]);
                }
                Step::Delete(kind, name) => {
                    let kind = kuma_model::kind(kind).expect("a kind").name;
                    life.delete(&Key::new(kind, "default", NAMES[*name]));
                }
                Step::Open(name) => {
                    let stream = life.open(NAMES[*name], false);
                    if let Some(before) = streams.insert(*name, stream) {
                        life.close(&before, true);
                    }
                }
                Step::Close(name) => {
                    if let Some(stream) = streams.remove(name) {
                        life.close(&stream, true);
                    }
                }
                Step::Departed(name, departed) => life.engine.set_departed(&Arc::from(NAMES[*name]), *departed,
                    life.now),
            }
            prop_assert_eq!(life.engine.audit(usize::MAX), Vec::<String>::new(), "after {:?}", step);
            for (name, stream) in &streams {
                let Some(whole) = life.engine.generate(NAMES[*name]) else { continue };
                let served = stream.served();
                prop_assert!(served.is_some(), "{} is not served after {:?}", NAMES[*name], step);
                let served = served.expect("checked");
                for kind in ResourceType::ALL {
                    let names = |snapshot: &kuma_xds::Snapshot| -> Vec<(String, String)> {
                        snapshot.list(kind).iter().map(|one| (one.name().to_string(),
                            one.version().to_owned())).collect()
                    };
                    prop_assert_eq!(names(&served), names(&whole), "{} after {:?}", NAMES[*name], step);
                }
            }
        }
    }
}

#[test]
fn whom_a_change_does_not_concern_is_not_woken() {
    let mut life = Mesh::new(true);
    life.write(&[&mesh(true), &ca(), &redis(), &web()]);
    let mut other = life.open("redis-1", false);
    let mut concerned = life.open("web-1", false);
    other.state.mark_unchanged();
    concerned.state.mark_unchanged();
    life.write(&[&permission("p", "backend", "web")]);
    assert!(concerned.state.has_changed().expect("open"));
    assert!(!other.state.has_changed().expect("open"));
}

#[test]
fn equal_resources_are_one_in_memory() {
    let mut life = Mesh::new(true);
    let second = stored(
        "type: Dataplane\nmesh: default\nname: web-2\nnetworking:\n  inbound:\n  - interface: 10.0.0.3:8000:80\n    \
         tags: {service: web}\n  outbound:\n  - {interface: ':9000', service: redis}",
    );
    life.write(&[&mesh(false), &ca(), &redis(), &web(), &second]);
    let (a, b) = (life.open("web-1", false), life.open("web-2", false));
    let (a, b) = (a.served().expect("served"), b.served().expect("served"));
    for (kind, name) in [
        (ResourceType::Cluster, "redis"),
        (ResourceType::Endpoint, "redis"),
        (ResourceType::Listener, "outbound:127.0.0.1:9000"),
    ] {
        let (a, b) = (a.get(kind, name).expect("there"), b.get(kind, name).expect("there"));
        assert!(Arc::ptr_eq(a, b), "{name} was encoded twice");
    }
}
