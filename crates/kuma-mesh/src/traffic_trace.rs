//! TrafficTrace: where the proxies that it selects send their spans.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use kuma_model::{Mesh, TracingBackend, TrafficTrace};

use crate::matching::best_for_proxy;
use crate::policies::exact_service;
use crate::{Affected, MeshDataplane, MeshSnapshot};

/// The TrafficTraces of a mesh, by name.
pub(crate) type Traces = BTreeMap<Arc<str>, Arc<TrafficTrace>>;

impl MeshSnapshot {
    /// The backend that gets the spans of a proxy, if one does: the one that its best TrafficTrace names, else the
    /// mesh's default. A name that no backend of the mesh has traces nothing.
    pub fn trace_backend(&self, dataplane: &MeshDataplane) -> Option<&TracingBackend> {
        let (_, trace) = best_for_proxy(&self.traces, dataplane)?;
        self.trace_backend_of(trace)
    }

    /// The backend that a trace goes to, whomever it is about; `None` if the mesh has no such backend.
    pub fn trace_backend_of(&self, trace: &TrafficTrace) -> Option<&TracingBackend> {
        self.mesh.as_ref()?.trace_backend(trace)
    }

    /// Puts or deletes a TrafficTrace.
    pub fn set_trace(&mut self, name: &Arc<str>, trace: Option<Arc<TrafficTrace>>) -> Affected {
        let before = match &trace {
            Some(trace) => self.traces.insert(name.clone(), trace.clone()),
            None => self.traces.remove(name),
        };
        if before == trace {
            return Affected::none();
        }
        Affected::proxies(self.selected_by(before.iter().chain(&trace)))
    }

    /// Puts or deletes the Mesh document. A change of where traces go concerns the proxies that trace.
    pub fn set_mesh(&mut self, mesh: Option<Arc<Mesh>>) -> Affected {
        if self.mesh == mesh {
            return Affected::none();
        }
        let before = mem::replace(&mut self.mesh, mesh);
        match (&before, &self.mesh) {
            (Some(before), Some(after)) if differ_in_tracing_alone(before, after) => {
                Affected::proxies(self.selected_by(self.traces.values()))
            }
            _ => Affected::All,
        }
    }

    /// The proxies that one of these is about.
    fn selected_by<'a>(&'a self, traces: impl Iterator<Item = &'a Arc<TrafficTrace>>) -> BTreeSet<Arc<str>> {
        let mut selected = BTreeSet::new();
        for selector in traces.flat_map(|trace| &trace.selectors) {
            let dataplanes = self.providers(exact_service(selector));
            let matching = dataplanes.filter(|dataplane| dataplane.matches(selector));
            selected.extend(matching.map(|dataplane| dataplane.name.clone()));
        }
        selected
    }
}

fn differ_in_tracing_alone(one: &Mesh, other: &Mesh) -> bool {
    let Mesh { mtls, tracing: _, logging, metrics } = one;
    (mtls, logging, metrics) == (&other.mtls, &other.logging, &other.metrics)
}
