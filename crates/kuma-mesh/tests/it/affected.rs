//! `Affected` may name too many, never too few: who is not named sees exactly what it saw before. And the mesh that
//! results depends on the documents alone, not on the order in which they came.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuma_mesh::{Admitted, Affected, Destination, Endpoints, Flow, KnownCallers, MeshDataplane, MeshSnapshot};
use kuma_model::{
    Dataplane, HealthCheck, LoggingBackend, Mesh, TracingBackend, TrafficLog, TrafficPermission, TrafficRoute,
    TrafficTrace,
};
use proptest::prelude::*;

use crate::support::{dataplane, spec};

const SERVICES: &[&str] = &["web", "redis", "backend"];
const NAMES: &[&str] = &["one", "two", "three", "four"];

/// What a Mesh may say of tracing.
const TRACING: &[&str] = &[
    "{}",
    "{defaultBackend: a, backends: [{name: a, zipkin: {url: 'http://a:1'}}]}",
    "{defaultBackend: b, backends: [{name: a, zipkin: {url: 'http://a:2'}}, {name: b, zipkin: {url: 'http://b:1'}}]}",
];

/// Weights, each with the tags of its destination.
type Weights = Vec<(u32, String)>;

#[derive(Clone, Debug)]
enum Edit {
    Mesh(Option<(bool, Option<&'static str>, &'static str)>),
    Dataplane(usize, Option<(Vec<String>, Vec<usize>)>),
    Departed(usize, bool),
    Permission(usize, Option<(String, String)>),
    Route(usize, Option<(String, String, Weights)>),
    HealthCheck(usize, Option<(String, String, u32)>),
    Log(usize, Option<(String, String, &'static str)>),
    Trace(usize, Option<(String, &'static str)>),
}

fn service() -> impl Strategy<Value = &'static str> {
    prop::sample::select(SERVICES)
}

fn selector() -> impl Strategy<Value = String> {
    let service = prop_oneof![service().prop_map(str::to_owned), Just("'*'".to_owned())];
    let version = prop::option::of(prop::sample::select(vec!["v1", "v2", "'*'"]));
    (service, version).prop_map(|(service, version)| match version {
        Some(version) => format!("service: {service}, version: {version}"),
        None => format!("service: {service}"),
    })
}

fn tags() -> impl Strategy<Value = String> {
    let version = prop_oneof![Just(""), Just(", version: v1"), Just(", version: v2")];
    (service(), version).prop_map(|(service, version)| format!("service: {service}{version}"))
}

fn inbound() -> impl Strategy<Value = String> {
    let protocol = prop_oneof![1 => Just(""), 4 => Just(", protocol: http"), 1 => Just(", protocol: tcp")];
    (tags(), protocol).prop_map(|(tags, protocol)| format!("{tags}{protocol}"))
}

fn edit() -> impl Strategy<Value = Edit> {
    let name = 0..NAMES.len();
    let any_service =
        prop_oneof![4 => service().prop_map(|name| format!("service: {name}")), 1 => Just("service: '*'".to_owned())];
    let sources = prop_oneof![service().prop_map(|name| format!("service: {name}")), Just("service: '*'".to_owned())];
    prop_oneof![
        1 => prop::option::of((any::<bool>(), prop::option::of(prop::sample::select(vec!["a", "b"])),
            prop::sample::select(TRACING.to_vec()))).prop_map(Edit::Mesh),
        5 => (name.clone(), prop::option::weighted(0.8, (prop::collection::vec(inbound(), 1..3),
            prop::collection::vec(0..SERVICES.len(), 0..3))))
            .prop_map(|(name, content)| Edit::Dataplane(name, content)),
        1 => (name.clone(), any::<bool>()).prop_map(|(name, departed)| Edit::Departed(name, departed)),
        3 => (name.clone(), prop::option::weighted(0.7, (sources.clone(), selector()))).prop_map(|(name,
            content)| Edit::Permission(name, content)),
        2 => (name.clone(), prop::option::weighted(0.7, (selector(), sources.clone(), 1u32..3))).prop_map(|(name,
            content)| Edit::HealthCheck(name, content)),
        2 => (name.clone(), prop::option::weighted(0.7, (selector(), sources.clone(), prop::sample::select(vec!["",
            "a", "none"])))).prop_map(|(name, content)| Edit::Log(name, content)),
        2 => (name.clone(), prop::option::weighted(0.7, (prop_oneof![selector(), Just("version: v1".to_owned())],
            prop::sample::select(vec!["", "a", "none"])))).prop_map(|(name, content)| Edit::Trace(name, content)),
        3 => (name, prop::option::weighted(0.7, (selector(), any_service, prop::collection::vec((0u32..3, tags()),
            1..4))))
            .prop_map(|(name, content)| Edit::Route(name, content)),
    ]
}

fn apply(mesh: &mut MeshSnapshot, edit: &Edit) -> Affected {
    match edit {
        Edit::Mesh(content) => mesh.set_mesh(content.map(|(mtls, default, tracing)| {
            let default = default.unwrap_or("''");
            Arc::new(spec::<Mesh>(&format!(
                "mtls: {{enabled: {mtls}, ca: {{builtin: {{}}}}}}\nlogging: {{defaultBackend: {default}, backends: \
                 [{{name: a, file: {{path: /a}}}}, {{name: b, tcp: {{address: 'b:1'}}}}]}}\ntracing: {tracing}"
            )))
        })),
        Edit::Dataplane(name, content) => {
            let spec: Option<Dataplane> = content.as_ref().map(|(inbounds, outbounds)| {
                let inbounds: Vec<&str> = inbounds.iter().map(String::as_str).collect();
                let outbounds: Vec<&str> = outbounds.iter().map(|&index| SERVICES[index]).collect();
                dataplane(&inbounds, &outbounds)
            });
            mesh.set_dataplane(&Arc::from(NAMES[*name]), spec)
        }
        Edit::Departed(name, departed) => mesh.set_departed(&Arc::from(NAMES[*name]), *departed),
        Edit::Permission(name, content) => {
            let policy = content.as_ref().map(|(source, destination)| {
                let yaml = format!("sources: [{{match: {{{source}}}}}]\ndestinations: [{{match: {{{destination}}}}}]");
                Arc::new(spec::<TrafficPermission>(&yaml))
            });
            mesh.set_permission(&Arc::from(NAMES[*name]), policy)
        }
        Edit::Route(name, content) => {
            let policy = content.as_ref().map(|(source, destination, conf)| {
                let conf: String = conf
                    .iter()
                    .map(|(weight, tags)| {
                        format!(
                            "- {{weight: {weight}, destination: \
                    {{{tags}}}}}\n"
                        )
                    })
                    .collect();
                let yaml = format!(
                    "sources: [{{match: {{{source}}}}}]\ndestinations: [{{match: {{{destination}}}}}]\n\
                    conf:\n{conf}"
                );
                Arc::new(spec::<TrafficRoute>(&yaml))
            });
            mesh.set_route(&Arc::from(NAMES[*name]), policy)
        }
        Edit::HealthCheck(name, content) => {
            let policy = content.as_ref().map(|(source, destination, threshold)| {
                let yaml = format!(
                    "sources: [{{match: {{{source}}}}}]\ndestinations: [{{match: {{{destination}}}}}]\n\
                    conf: {{passiveChecks: {{unhealthyThreshold: {threshold}, penaltyInterval: 5s}}}}"
                );
                Arc::new(spec::<HealthCheck>(&yaml))
            });
            mesh.set_health_check(&Arc::from(NAMES[*name]), policy)
        }
        Edit::Log(name, content) => {
            let policy = content.as_ref().map(|(source, destination, backend)| {
                let yaml = format!(
                    "sources: [{{match: {{{source}}}}}]\ndestinations: [{{match: {{{destination}}}}}]\n\
                    conf: {{backend: '{backend}'}}"
                );
                Arc::new(spec::<TrafficLog>(&yaml))
            });
            mesh.set_log(&Arc::from(NAMES[*name]), policy)
        }
        Edit::Trace(name, content) => {
            let policy = content.as_ref().map(|(selector, backend)| {
                let yaml = format!("selectors: [{{match: {{{selector}}}}}]\nconf: {{backend: '{backend}'}}");
                Arc::new(spec::<TrafficTrace>(&yaml))
            });
            mesh.set_trace(&Arc::from(NAMES[*name]), policy)
        }
    }
}

/// One way that the connections of an outbound go.
#[derive(Debug, PartialEq)]
struct Way {
    to: Destination,
    endpoints: Arc<Endpoints>,
    check: Option<Arc<HealthCheck>>,
    http: bool,
}

/// Where the connections of an outbound go, and what is done on the way.
#[derive(Debug, PartialEq)]
struct Outbound {
    service: String,
    flow: Option<Flow>,
    http: bool,
    ways: Vec<Way>,
    log: Option<LoggingBackend>,
}

/// All that a proxy's configuration is made of.
#[derive(Debug, PartialEq)]
struct View {
    spec: Dataplane,
    mtls: bool,
    admitted: Vec<Vec<Admitted>>,
    outbounds: Vec<Outbound>,
    trace: Option<TracingBackend>,
}

impl View {
    /// How much of what each outbound carries is permitted.
    fn flows(&self) -> Vec<Option<&Flow>> {
        self.outbounds.iter().map(|outbound| outbound.flow.as_ref()).collect()
    }
}

/// How much of a flow is permitted, found out in both ways.
fn flow(mesh: &MeshSnapshot, dataplane: &MeshDataplane, service: &Arc<str>) -> Flow {
    let destinations = mesh.destinations(dataplane, service);
    let flow = mesh.flow(dataplane, service, &destinations);
    assert_eq!(flow, KnownCallers::default().flow(mesh, dataplane, service, &destinations), "the two ways differ");
    flow
}

fn views(mesh: &MeshSnapshot) -> BTreeMap<String, View> {
    let view = |name: &Arc<str>| {
        let dataplane = mesh.dataplane(name)?;
        let mtls = mesh.mtls_enabled();
        let outbounds = dataplane.outbounds.iter().map(|outbound| Outbound {
            service: outbound.service.to_string(),
            flow: mtls.then(|| flow(mesh, dataplane, &outbound.service)),
            http: mesh.is_http_outbound(dataplane, &outbound.service),
            ways: mesh
                .destinations(dataplane, &outbound.service)
                .iter()
                .cloned()
                .map(|to| Way {
                    endpoints: mesh.endpoints(&to),
                    check: mesh.health_check(dataplane, &to.service).cloned(),
                    http: mesh.is_http(&to.service),
                    to,
                })
                .collect(),
            log: mesh.log_backend(dataplane, &outbound.service).cloned(),
        });
        Some(View {
            spec: dataplane.spec.clone(),
            mtls,
            admitted: if mtls {
                dataplane.inbounds.iter().map(|inbound| mesh.admitted(inbound)).collect()
            } else {
                Vec::new()
            },
            outbounds: outbounds.collect(),
            trace: mesh.trace_backend(dataplane).cloned(),
        })
    };
    mesh.dataplanes().filter_map(|dataplane| Some((dataplane.name.to_string(), view(&dataplane.name)?))).collect()
}

proptest! {
    #[test]
    fn whoever_is_not_named_sees_what_it_saw(edits in prop::collection::vec(edit(), 1..30)) {
        let mut mesh = MeshSnapshot::new("default", false);
        let mut before = views(&mesh);
        for edit in &edits {
            let affected = apply(&mut mesh, edit);
            let after = views(&mesh);
            for name in NAMES.iter().filter(|name| !affected.contains(name)) {
                prop_assert_eq!(before.get(*name), after.get(*name), "{} is not named by {:?}", name, edit);
            }
            if let Affected::Proxies { whole, admission, flows, .. } = &affected {
                for name in NAMES.iter().filter(|name| !whole.contains(**name)) {
                    let (Some(before), Some(after)) = (before.get(*name), after.get(*name)) else { continue };
                    if !admission.contains(*name) {
                        prop_assert_eq!(&before.admitted, &after.admitted, "{} by {:?}", name, edit);
                    }
                    if !flows.contains(*name) {
                        prop_assert_eq!(before.flows(), after.flows(), "{} by {:?}", name, edit);
                    }
                }
            }
            before = after;
        }
    }

    #[test]
    fn the_mesh_depends_on_the_documents_alone(edits in prop::collection::vec(edit(), 1..30)) {
        let mut mesh = MeshSnapshot::new("default", false);
        let mut last: BTreeMap<(u8, usize), &Edit> = BTreeMap::new();
        for edit in &edits {
            apply(&mut mesh, edit);
            match edit {
                Edit::Mesh(_) => { last.insert((0, 0), edit); }
                Edit::Dataplane(name, content) => {
                    last.insert((1, *name), edit);
                    if content.is_none() { last.remove(&(2, *name)); }
                }
                Edit::Departed(name, _) => { last.insert((2, *name), edit); }
                Edit::Permission(name, _) => { last.insert((3, *name), edit); }
                Edit::Route(name, _) => { last.insert((4, *name), edit); }
                Edit::HealthCheck(name, _) => { last.insert((5, *name), edit); }
                Edit::Log(name, _) => { last.insert((6, *name), edit); }
                Edit::Trace(name, _) => { last.insert((7, *name), edit); }
            }
        }
        let mut fresh = MeshSnapshot::new("default", false);
        for edit in last.values().rev() {
            apply(&mut fresh, edit);
        }
        prop_assert_eq!(views(&mesh), views(&fresh));
    }
}
