//! SPIFFE ids of a mesh: `spiffe://<mesh>/<service>` (SPIFFE-ID, section 2; the mesh is the trust domain).

/// The id of a service of a mesh.
pub fn spiffe_id(mesh: &str, service: &str) -> String {
    format!("spiffe://{mesh}/{service}")
}

/// What every id of a mesh starts with, and no id of another mesh does: the slash ends the trust domain.
pub fn spiffe_prefix(mesh: &str) -> String {
    format!("spiffe://{mesh}/")
}
