//! SPIFFE ids: `spiffe://<mesh>` for a root, `spiffe://<mesh>/<service>` for a dataplane.
//!
//! Names are checked when documents are written. They are checked here again, because a certificate with a wrong name
//! could be taken for another identity.

use crate::CaError;

/// The longest trust domain that implementations of SPIFFE must support.
const MAX_TRUST_DOMAIN: usize = 255;
/// The longest `service`: the length of a DNS name, which services of Kubernetes with their port need.
const MAX_SERVICE: usize = 253;

/// `spiffe://<mesh>`, the id of a mesh's root.
///
/// # Errors
/// [`CaError::TrustDomain`] when the mesh's name is outside the SPIFFE alphabet.
pub fn mesh_id(mesh: &str) -> Result<String, CaError> {
    // SPIFFE-ID, 2.1: lower case letters, digits, dots, dashes and underscores.
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    if mesh.is_empty() || mesh.len() > MAX_TRUST_DOMAIN || !mesh.bytes().all(allowed) {
        return Err(CaError::TrustDomain(mesh.to_string()));
    }
    Ok(format!("spiffe://{mesh}"))
}

/// `spiffe://<mesh>/<service>`, the id of every dataplane of a service.
///
/// # Errors
/// [`CaError::TrustDomain`] or [`CaError::Service`] when a name is outside the SPIFFE alphabet; for services that
/// alphabet plus the colon, which Kubernetes service tags carry before the port.
pub fn service_id(mesh: &str, service: &str) -> Result<String, CaError> {
    mesh_id(mesh)?;
    // SPIFFE-ID, 2.2: a segment is not empty, "." or "..", and has no characters that need escaping.
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    let relative = matches!(service, "." | "..");
    if service.is_empty() || service.len() > MAX_SERVICE || relative || !service.bytes().all(allowed) {
        return Err(CaError::Service(service.to_string()));
    }
    Ok(kuma_model::spiffe_id(mesh, service))
}

#[cfg(test)]
mod tests {
    use super::{mesh_id, service_id};

    #[test]
    fn ids_are_spelled_as_documented() {
        assert_eq!(mesh_id("default").unwrap(), "spiffe://default");
        assert_eq!(service_id("default", "backend").unwrap(), "spiffe://default/backend");
        assert_eq!(service_id("m-1_a", "web.shop.svc:80").unwrap(), "spiffe://m-1_a/web.shop.svc:80");
        assert!(service_id("default", &"s".repeat(253)).is_ok());
    }

    #[test]
    fn names_that_could_mean_something_else_are_refused() {
        for mesh in ["", "Default", "a/b", "a b", "a\0", "münchen", "a:1", "user@a", &"m".repeat(256)] {
            assert!(mesh_id(mesh).is_err(), "mesh {mesh:?}");
            assert!(service_id(mesh, "web").is_err(), "mesh {mesh:?}");
        }
        for service in [
            "",
            ".",
            "..",
            "a/b",
            "../web",
            "a b",
            "web\n",
            "web\0.evil",
            "we%62",
            "web?x",
            "web#x",
            "wéb",
            &"s".repeat(254),
        ] {
            assert!(service_id("default", service).is_err(), "service {service:?}");
        }
    }
}
