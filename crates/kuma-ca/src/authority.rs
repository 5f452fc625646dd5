//! A certificate with its key, parsed once and ready to sign many times. [`Root`](crate::Root) and
//! [`XdsCa`](crate::XdsCa) are made of it.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use x509_parser::extensions::ParsedExtension;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::CaError;
use crate::key::{LeafKey, PrivateKey};
use crate::time::{Validity, unix_seconds};

/// How long a new CA is valid: ten years, as the builtin CA of the original Kuma.
const CA_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A CA: certificate, key, and the parts of the certificate that each signature needs.
pub(crate) struct Authority {
    pub(crate) cert_pem: String,
    /// SHA-256 of the certificate in DER.
    pub(crate) fingerprint: [u8; 32],
    not_after: u64,
    issuer: Issuer<'static, PrivateKey>,
}

/// The fields by which verifiers look up the issuer of a certificate.
#[derive(PartialEq)]
struct LookUp {
    subject: Vec<u8>,
    key_id: Option<Vec<u8>>,
}

/// A certificate that an [`Authority`] signed, and its key.
pub(crate) struct Signed {
    pub(crate) cert_pem: String,
    pub(crate) key: LeafKey,
    pub(crate) validity: Validity,
}

impl Authority {
    /// A new self-signed CA with a P-256 key. `params` has subject and SANs; this function sets the rest.
    pub(crate) fn generate(mut params: CertificateParams, now: SystemTime) -> Result<Authority, CaError> {
        let key = PrivateKey::generate_p256()?;
        let validity = Validity::starting(now, CA_VALIDITY);
        validity.apply(&mut params);
        params.serial_number = Some(random_serial()?);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).map_err(CaError::crypto("sign a CA certificate"))?;
        Ok(Authority {
            cert_pem: cert.pem(),
            fingerprint: fingerprint(cert.der()),
            not_after: validity.not_after,
            issuer: Issuer::new(params, key),
        })
    }

    /// Reads a CA that was created earlier, by this program or by the user.
    ///
    /// # Errors
    /// If there is not exactly one CA certificate, if the key is unusable or belongs to another certificate, or if the
    /// subject of the certificate cannot be reproduced byte for byte: verifiers compare names as bytes, and would
    /// reject every certificate of this CA.
    pub(crate) fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Authority, CaError> {
        let not_a = |what: &str| CaError::Certificate(what.to_string());
        let mut certs = Pem::iter_from_buffer(cert_pem.as_bytes());
        let (first, second) = (certs.next(), certs.next());
        let Some(Ok(pem)) = first else {
            return Err(not_a("there is no PEM block"));
        };
        if second.is_some() {
            return Err(not_a("there is more than one PEM block"));
        }
        if pem.label != "CERTIFICATE" {
            return Err(not_a("the PEM block is not a CERTIFICATE"));
        }
        let (rest, cert) = X509Certificate::from_der(&pem.contents).map_err(|_| not_a("it does not parse"))?;
        if !rest.is_empty() {
            return Err(not_a("there is something behind it"));
        }
        if !cert.is_ca() {
            return Err(not_a("basic constraint CA is not set"));
        }
        let key = PrivateKey::from_pem(key_pem)?;
        if cert.public_key().raw != key.subject_public_key_info() {
            return Err(CaError::Mismatch);
        }
        let issuer =
            Issuer::from_ca_cert_der(&pem.contents.as_slice().into(), key).map_err(|_| not_a("it does not parse"))?;
        let authority = Authority {
            cert_pem: cert_pem.to_string(),
            fingerprint: fingerprint(&pem.contents),
            not_after: u64::try_from(cert.validity().not_after.timestamp()).unwrap_or(0),
            issuer,
        };
        if authority.issuer_name()? != cert.subject().as_raw() {
            return Err(not_a("its subject has parts that we can't repeat in the certificates it signs"));
        }
        Ok(authority)
    }

    /// See [`Root::looks_like`](crate::Root).
    pub(crate) fn looks_like(&self, other: &Authority) -> bool {
        let (Some(one), Some(other)) = (self.look_up(), other.look_up()) else { return true };
        one.subject == other.subject && (one.key_id.is_none() || other.key_id.is_none() || one == other)
    }

    fn look_up(&self) -> Option<LookUp> {
        let der = certificate_der(&self.cert_pem).ok()?;
        let (_, cert) = X509Certificate::from_der(&der).ok()?;
        let key_id = cert.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        Some(LookUp { subject: cert.subject().as_raw().to_vec(), key_id })
    }

    pub(crate) fn key(&self) -> &PrivateKey {
        self.issuer.key()
    }

    /// Creates a key and a certificate for it, which becomes valid a little before `now` and does not outlive the CA.
    /// The caller sets subject, SANs and usages.
    pub(crate) fn sign(
        &self,
        mut params: CertificateParams,
        length: Duration,
        now: SystemTime,
    ) -> Result<Signed, CaError> {
        if self.not_after <= unix_seconds(now) {
            return Err(CaError::Expired);
        }
        let mut validity = Validity::starting(now, length);
        validity.not_after = validity.not_after.min(self.not_after);
        validity.apply(&mut params);
        params.serial_number = Some(random_serial()?);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        let key = LeafKey::generate()?;
        let cert = params.signed_by(&key, &self.issuer).map_err(CaError::crypto("sign a certificate"))?;
        Ok(Signed { cert_pem: cert.pem(), key, validity })
    }

    /// The issuer's name as it is encoded in a certificate. It creates a certificate for that, which is discarded.
    fn issuer_name(&self) -> Result<Vec<u8>, CaError> {
        let cert = CertificateParams::default()
            .signed_by(self.key(), &self.issuer)
            .map_err(CaError::crypto("sign a certificate with this key"))?;
        let name = X509Certificate::from_der(cert.der()).map(|(_, cert)| cert.issuer().as_raw().to_vec());
        name.map_err(|_| CaError::Certificate("what it signs does not parse".to_string()))
    }
}

/// Empty parameters. The library's default has a subject.
pub(crate) fn blank_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
}

/// The SHA-256 of the first certificate in a PEM text.
pub(crate) fn fingerprint_of_pem(pem: &str) -> Result<[u8; 32], CaError> {
    certificate_der(pem).map(|der| fingerprint(&der))
}

fn certificate_der(pem: &str) -> Result<Vec<u8>, CaError> {
    match Pem::iter_from_buffer(pem.as_bytes()).next() {
        Some(Ok(pem)) if pem.label == "CERTIFICATE" => Ok(pem.contents),
        _ => Err(CaError::Certificate("there is no PEM block CERTIFICATE".to_owned())),
    }
}

fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, der).as_ref());
    bytes
}

/// The bits `01` and 126 random bits: positive, never zero, always of the same length (RFC 5280, 4.1.2.2 requires a
/// positive number of at most 20 bytes).
fn random_serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| CaError::crypto("make a serial number")(rcgen::Error::RemoteKeyError))?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
