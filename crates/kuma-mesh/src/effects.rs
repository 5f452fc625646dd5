//! What documents of each kind do to their mesh: the one table, so that no kind can be forgotten.

use std::sync::Arc;

use kuma_model::{
    Dataplane, DataplaneInsight, HealthCheck, Key, Mesh, ProxyTemplate, Resource, TrafficLog, TrafficPermission,
    TrafficRoute, TrafficTrace, Violations, decode_spec,
};
use serde_json::Value;

use crate::{Affected, MeshSnapshot, Template};

/// Reads the raw resources of a ProxyTemplate, and says what is wrong with those that it leaves out. Only those who
/// know Envoy's messages can.
pub type ReadTemplate = fn(&ProxyTemplate) -> (Template, Violations);

/// What a document, or its deletion, has done to its mesh.
#[derive(Debug)]
pub struct Applied {
    /// Whom it concerns.
    pub affected: Affected,
    /// What keeps the document, or a part of it, from taking effect; for the log.
    pub problem: Option<String>,
}

/// What documents of a kind do.
pub enum Effect {
    /// They bear on the configuration of proxies: the function puts a document in its place, or takes it out.
    OnProxies(Apply),
    /// They bear on no configuration, for this reason.
    None(&'static str),
}

/// Puts the document of a name and spec in its place; `None` takes it out.
type Apply = fn(&mut MeshSnapshot, &Arc<str>, Option<&Value>, ReadTemplate) -> Applied;

/// The effect of every kind in [`kuma_model::KINDS`].
pub static EFFECTS: &[(&str, Effect)] = &[
    (Mesh::KIND, Effect::OnProxies(mesh)),
    (Dataplane::KIND, Effect::OnProxies(dataplane)),
    (DataplaneInsight::KIND, Effect::None("it tells what a proxy was given; no configuration depends on it")),
    (HealthCheck::KIND, Effect::OnProxies(health_check)),
    (ProxyTemplate::KIND, Effect::OnProxies(proxy_template)),
    (TrafficLog::KIND, Effect::OnProxies(traffic_log)),
    (TrafficPermission::KIND, Effect::OnProxies(traffic_permission)),
    (TrafficRoute::KIND, Effect::OnProxies(traffic_route)),
    (TrafficTrace::KIND, Effect::OnProxies(traffic_trace)),
];

impl MeshSnapshot {
    /// Puts a document of the mesh in its place, or takes it out (`None`). One that cannot be read counts as not there:
    /// where it guards access, that denies.
    pub fn apply(&mut self, key: &Key, spec: Option<&Value>, read_template: ReadTemplate) -> Applied {
        match EFFECTS.iter().find(|(kind, _)| *kind == key.kind) {
            Some((_, Effect::OnProxies(apply))) => apply(self, &key.name, spec, read_template),
            Some((_, Effect::None(_))) => Applied { affected: Affected::none(), problem: None },
            None => {
                let problem = format!("documents of kind {} have no effect that is known", key.kind);
                Applied { affected: Affected::none(), problem: Some(problem) }
            }
        }
    }
}

/// The document, if it can be read, and what is wrong with it if it cannot.
fn read<R: Resource>(spec: Option<&Value>) -> (Option<R>, Option<String>) {
    match spec.map(decode_spec::<R>) {
        None => (None, None),
        Some(Ok(resource)) => (Some(resource), None),
        Some(Err(violations)) => (None, Some(format!("it cannot be read and is left out: {violations}"))),
    }
}

fn mesh(snapshot: &mut MeshSnapshot, _: &Arc<str>, spec: Option<&Value>, _: ReadTemplate) -> Applied {
    let (mesh, problem) = read::<Mesh>(spec);
    Applied { affected: snapshot.set_mesh(mesh.map(Arc::new)), problem }
}

fn dataplane(snapshot: &mut MeshSnapshot, name: &Arc<str>, spec: Option<&Value>, _: ReadTemplate) -> Applied {
    let (dataplane, problem) = read::<Dataplane>(spec);
    Applied { affected: snapshot.set_dataplane(name, dataplane), problem }
}

fn traffic_permission(snapshot: &mut MeshSnapshot, name: &Arc<str>, spec: Option<&Value>, _: ReadTemplate) -> Applied {
    let (permission, problem) = read::<TrafficPermission>(spec);
    Applied { affected: snapshot.set_permission(name, permission.map(Arc::new)), problem }
}

fn traffic_route(snapshot: &mut MeshSnapshot, name: &Arc<str>, spec: Option<&Value>, _: ReadTemplate) -> Applied {
    let (route, problem) = read::<TrafficRoute>(spec);
    Applied { affected: snapshot.set_route(name, route.map(Arc::new)), problem }
}

fn health_check(snapshot: &mut MeshSnapshot, name: &Arc<str>, spec: Option<&Value>, _: ReadTemplate) -> Applied {
    let (check, problem) = read::<HealthCheck>(spec);
    Applied { affected: snapshot.set_health_check(name, check.map(Arc::new)), problem }
}

fn traffic_log(snapshot: &mut MeshSnapshot, name: &Arc<str>, spec: Option<&Value>, _: ReadTemplate) -> Applied {
    let (log, mut problem) = read::<TrafficLog>(spec);
    if log.as_ref().is_some_and(|log| snapshot.backend_of(log).is_none()) {
        problem = Some("the mesh has no such log backend, or no default one: nothing is logged".to_owned());
    }
    Applied { affected: snapshot.set_log(name, log.map(Arc::new)), problem }
}

fn traffic_trace(snapshot: &mut MeshSnapshot, name: &Arc<str>, spec: Option<&Value>, _: ReadTemplate) -> Applied {
    let (trace, mut problem) = read::<TrafficTrace>(spec);
    if trace.as_ref().is_some_and(|trace| snapshot.trace_backend_of(trace).is_none()) {
        problem = Some("the mesh has no such trace backend, or no default one: nothing is traced".to_owned());
    }
    Applied { affected: snapshot.set_trace(name, trace.map(Arc::new)), problem }
}

fn proxy_template(
    snapshot: &mut MeshSnapshot,
    name: &Arc<str>,
    spec: Option<&Value>,
    read_template: ReadTemplate,
) -> Applied {
    let (template, mut problem) = read::<ProxyTemplate>(spec);
    let template = template.map(|template| {
        let (template, violations) = read_template(&template);
        if !violations.is_empty() {
            problem = Some(format!("resources of it cannot be read and are left out: {violations}"));
        }
        Arc::new(template)
    });
    Applied { affected: snapshot.set_template(name, template), problem }
}

#[cfg(test)]
mod tests {
    use kuma_model::KINDS;

    use super::*;

    #[test]
    fn every_kind_has_its_effect_and_nothing_else_has_one() {
        let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        let effects: Vec<&str> = EFFECTS.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(effects, kinds);
    }
}
