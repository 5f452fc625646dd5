//! The root of a mesh, and the certificates that it issues to dataplanes.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};

use crate::authority::{Authority, Signed, blank_params};
use crate::mesh_roots::certificate_id;
use crate::time::from_unix;
use crate::{CaError, Secret, mesh_id, renewal, service_id};

/// The CA of one mesh: `builtin`, created by [`generate`](Root::generate), or `provided` by the user and read by
/// [`from_pem`](Root::from_pem).
///
/// It is parsed once, so that [`issue`](Root::issue) costs little more than an ECDSA key and a signature.
pub struct Root(Authority);

/// The inputs of a dataplane's certificate.
#[derive(Clone, Copy, Debug)]
pub struct LeafRequest<'a> {
    /// The mesh, which is the trust domain.
    pub mesh: &'a str,
    /// The distinct values of the Dataplane's `service` tags.
    pub services: &'a BTreeSet<&'a str>,
    /// How long it is valid from `now` on; less if the root ends earlier.
    pub validity: Duration,
    /// The time of issue.
    pub now: SystemTime,
}

/// A certificate with its key, for a dataplane or for a server of the control plane. The key is stored nowhere else.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The certificate in PEM. There are no intermediate certificates.
    pub chain_pem: String,
    /// The private key in PKCS#8 PEM.
    pub key_pem: Secret,
    /// When it was issued. Its life is counted from here, not from the back-dated [`not_before`](Leaf::not_before).
    pub issued: SystemTime,
    /// [`BACKDATE`](crate::BACKDATE) before `issued`.
    pub not_before: SystemTime,
    /// The last second in which it is valid.
    pub not_after: SystemTime,
}

impl Root {
    /// A new `builtin` root for `mesh`: ECDSA P-256, ten years.
    ///
    /// # Errors
    /// [`CaError::TrustDomain`] when the mesh's name is outside the SPIFFE alphabet.
    pub fn generate(mesh: &str, now: SystemTime) -> Result<Root, CaError> {
        let mut params = blank_params();
        params.distinguished_name.push(DnType::OrganizationName, "Kuma");
        params.distinguished_name.push(DnType::OrganizationalUnitName, "Mesh");
        params.distinguished_name.push(DnType::CommonName, mesh);
        params.subject_alt_names = vec![uri(mesh_id(mesh)?)?];
        Authority::generate(params, now).map(Root)
    }

    /// Reads a root: one certificate, and its RSA or ECDSA key.
    ///
    /// # Errors
    /// [`CaError::Certificate`], [`CaError::Key`], [`CaError::Mismatch`]. An expired root can be read, but issues no
    /// certificates.
    pub fn from_pem(cert_pem: &str, key_pem: &Secret) -> Result<Root, CaError> {
        Authority::from_pem(cert_pem, key_pem.expose()).map(Root)
    }

    /// The certificate in PEM, which is what peers trust.
    pub fn cert_pem(&self) -> &str {
        &self.0.cert_pem
    }

    /// The private key in PEM: PKCS#8 if it was made here, else as it was given.
    pub fn key_pem(&self) -> &Secret {
        self.0.key().pem()
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.0.fingerprint
    }

    /// A UUID of the certificate, made from its content, so that it is the same everywhere.
    pub fn id(&self) -> String {
        certificate_id(self.fingerprint())
    }

    /// Whether a verifier could take this root for the issuer of a certificate of `other`: both have the same subject,
    /// and no subject key identifiers that distinguish them.
    pub(crate) fn looks_like(&self, other: &Root) -> bool {
        self.0.looks_like(&other.0)
    }

    /// The hash of the inputs of a certificate from this root; see [`IdentityVersion`](crate::IdentityVersion).
    pub fn identity_inputs(&self, mesh: &str, services: &BTreeSet<&str>) -> u64 {
        renewal::identity_inputs(self.fingerprint(), mesh, services)
    }

    /// Creates a key and the certificate of a dataplane: ECDSA P-256, no subject, one SPIFFE id per service.
    ///
    /// # Errors
    /// [`CaError::TrustDomain`], [`CaError::Service`] or [`CaError::NoService`] for names that can't be an identity,
    /// [`CaError::Expired`] when the root's own time is over.
    pub fn issue(&self, request: &LeafRequest<'_>) -> Result<Leaf, CaError> {
        let LeafRequest { mesh, services, validity, now } = *request;
        if services.is_empty() {
            return Err(CaError::NoService);
        }
        let mut params = blank_params();
        params.subject_alt_names =
            services.iter().map(|service| uri(service_id(mesh, service)?)).collect::<Result<_, _>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(Leaf::new(self.0.sign(params, validity, now)?, now))
    }
}

/// Shows the certificate, and nothing of the key.
impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("cert_pem", &self.0.cert_pem).finish_non_exhaustive()
    }
}

impl Leaf {
    pub(crate) fn new(signed: Signed, now: SystemTime) -> Leaf {
        let Signed { cert_pem, key, validity } = signed;
        Leaf {
            chain_pem: cert_pem,
            key_pem: key.pem().clone(),
            issued: now,
            not_before: from_unix(validity.not_before),
            not_after: from_unix(validity.not_after),
        }
    }

    /// When to replace it: see [`renewal_time`](crate::renewal_time).
    pub fn renewal_time(&self, jitter: f64) -> SystemTime {
        renewal::renewal_time(self.issued, self.not_after, jitter)
    }
}

fn uri(id: String) -> Result<SanType, CaError> {
    id.try_into().map(SanType::URI).map_err(CaError::crypto("write a SPIFFE id"))
}
