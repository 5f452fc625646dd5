//! Documents from YAML, and meshes from documents.

use std::sync::Arc;

use kuma_mesh::MeshSnapshot;
use kuma_model::{Dataplane, Resource, decode_spec, text};

/// The spec in a piece of YAML.
pub(crate) fn spec<R: Resource>(yaml: &str) -> R {
    let documents = text::parse_documents(yaml).expect("YAML");
    decode_spec(&documents[0]).expect("a spec")
}

/// The spec of a Dataplane with inbounds (ports from 8000 on, and tags as YAML) and outbounds (services).
pub(crate) fn dataplane(inbounds: &[&str], outbounds: &[&str]) -> Dataplane {
    let mut yaml = String::from("networking:\n  inbound:\n");
    for (index, tags) in inbounds.iter().enumerate() {
        yaml.push_str(&format!("  - interface: 10.0.0.1:{}:80\n    tags: {{{tags}}}\n", 8000 + index));
    }
    if !outbounds.is_empty() {
        yaml.push_str("  outbound:\n");
    }
    for (index, service) in outbounds.iter().enumerate() {
        yaml.push_str(&format!("  - interface: :{}\n    service: {service}\n", 9000 + index));
    }
    spec(&yaml)
}

/// A mesh with mTLS and these Dataplanes.
pub(crate) fn mesh(dataplanes: &[(&str, Dataplane)]) -> MeshSnapshot {
    let mut mesh = MeshSnapshot::new("default", false);
    mesh.set_mesh(Some(Arc::new(spec("mtls: {enabled: true, ca: {builtin: {}}}"))));
    for (name, spec) in dataplanes {
        mesh.set_dataplane(&Arc::from(*name), Some(spec.clone()));
    }
    mesh
}
