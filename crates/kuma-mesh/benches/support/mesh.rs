//! The mesh of docs/performance.md, as values: documents, and the snapshot that they make. Benches of other crates use
//! this file too.

#![allow(dead_code, reason = "no bench needs all of it")]

use std::collections::BTreeSet;
use std::sync::Arc;

use kuma_mesh::{MeshDataplane, MeshSnapshot};
use kuma_model::{Document, Resource, decode_spec};
use serde_json::{Value, json};

/// How large a mesh is.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) dataplanes: usize,
    /// Services that each dials.
    pub(crate) outbounds: usize,
    /// Dataplanes of each service.
    pub(crate) instances: usize,
}

/// 1,000 proxies, 200 services, 20 outbounds each, 5 instances each.
pub(crate) const BASE: Shape = Shape { dataplanes: 1000, outbounds: 20, instances: 5 };

impl Shape {
    pub(crate) fn services(&self) -> usize {
        self.dataplanes / self.instances
    }

    /// The services that a Dataplane dials, spread evenly.
    fn dials(&self, dataplane: usize) -> BTreeSet<usize> {
        let step = self.services() / self.outbounds;
        (0..self.outbounds).map(|index| (dataplane * 7 + index * step) % self.services()).collect()
    }

    /// A Dataplane, with an address of its own or another.
    pub(crate) fn dataplane(&self, number: usize, address: Option<&str>) -> Value {
        let own = format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255);
        let address = address.unwrap_or(&own);
        let outbound = |(index, service)| {
            json!({"interface": format!(":{}", 20_000 + index),
            "service": format!("svc-{service}")})
        };
        json!({
            "type": "Dataplane", "mesh": "default", "name": format!("dp-{number}"),
            "networking": {
                "inbound": [{
                    "interface": format!("{address}:8080:9090"),
                    "tags": {"service": format!("svc-{}", number % self.services()), "version": "v1", "zone": "east"},
                }],
                "outbound": self.dials(number).into_iter().enumerate().map(outbound).collect::<Vec<_>>(),
            },
        })
    }

    /// Everything: a Mesh with mTLS, a permission for all, and the Dataplanes.
    pub(crate) fn documents(&self) -> Vec<Value> {
        let mesh = json!({"type": "Mesh", "name": "default", "mtls": {"enabled": true, "ca": {"builtin": {}}}});
        let dataplanes = (0..self.dataplanes).map(|number| self.dataplane(number, None));
        [mesh, permission("everyone", "*", "*")].into_iter().chain(dataplanes).collect()
    }

    /// The mesh that they make.
    pub(crate) fn snapshot(&self) -> MeshSnapshot {
        let mut snapshot = MeshSnapshot::new("default", false);
        for document in self.documents() {
            let document = parsed(&document);
            let name = &document.key.name;
            match document.key.kind {
                "Mesh" => drop(snapshot.set_mesh(Some(Arc::new(spec(&document))))),
                "TrafficPermission" => drop(snapshot.set_permission(name, Some(Arc::new(spec(&document))))),
                _ => drop(snapshot.set_dataplane(name, Some(spec(&document)))),
            }
        }
        snapshot
    }
}

/// A TrafficPermission.
pub(crate) fn permission(name: &str, source: &str, destination: &str) -> Value {
    json!({
        "type": "TrafficPermission", "mesh": "default", "name": name,
        "sources": [{"match": {"service": source}}], "destinations": [{"match": {"service": destination}}],
    })
}

/// A TrafficRoute from one service to another, half of it to each of two versions.
pub(crate) fn route(name: &str, source: &str, destination: &str) -> Value {
    let half = |version: &str| json!({"weight": 50, "destination": {"service": destination, "version": version}});
    json!({
        "type": "TrafficRoute", "mesh": "default", "name": name,
        "sources": [{"match": {"service": source}}], "destinations": [{"match": {"service": destination}}],
        "conf": [half("v1"), half("v2")],
    })
}

/// A document as the HTTP API takes it.
pub(crate) fn parsed(document: &Value) -> Document {
    Document::parse(document).unwrap_or_else(|violations| panic!("{violations}: {document}"))
}

/// What a document says.
pub(crate) fn spec<R: Resource>(document: &Document) -> R {
    decode_spec(&document.spec).unwrap_or_else(|violations| panic!("{violations}"))
}

/// A Dataplane of a snapshot.
pub(crate) fn dataplane(snapshot: &MeshSnapshot, number: usize) -> Arc<MeshDataplane> {
    snapshot.dataplane(&format!("dp-{number}")).expect("it is in the mesh").clone()
}
