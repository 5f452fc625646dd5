//! The control plane's own CA.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};

use crate::authority::{Authority, blank_params};
use crate::{CaError, Leaf, Secret};

/// Signs the certificates of the control plane's servers for dataplanes.
///
/// A bootstrap pins this CA and not a server's certificate, so that a control plane can renew its certificate, and
/// further control planes can be added, without a change to any proxy.
pub struct XdsCa(Authority);

impl XdsCa {
    /// A new CA: ECDSA P-256, ten years.
    ///
    /// # Errors
    /// [`CaError::Crypto`] when the library refuses.
    pub fn generate(now: SystemTime) -> Result<XdsCa, CaError> {
        let mut params = blank_params();
        params.distinguished_name.push(DnType::CommonName, "kuma xDS CA");
        Authority::generate(params, now).map(XdsCa)
    }

    /// Reads a CA from what [`cert_pem`](XdsCa::cert_pem) and [`key_pem`](XdsCa::key_pem) have returned.
    ///
    /// # Errors
    /// [`CaError::Certificate`], [`CaError::Key`], [`CaError::Mismatch`].
    pub fn from_pem(cert_pem: &str, key_pem: &Secret) -> Result<XdsCa, CaError> {
        Authority::from_pem(cert_pem, key_pem.expose()).map(XdsCa)
    }

    /// The certificate in PEM, for bootstraps to pin.
    pub fn cert_pem(&self) -> &str {
        &self.0.cert_pem
    }

    /// The private key in PEM.
    pub fn key_pem(&self) -> &Secret {
        self.0.key().pem()
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.0.fingerprint
    }

    /// Creates a key and the certificate of a server with these names and addresses.
    ///
    /// # Errors
    /// [`CaError::DnsName`] for a name that is not ASCII, [`CaError::NoService`] when there is neither name nor
    /// address, and [`CaError::Expired`] when the CA's own time is over.
    pub fn issue_server(
        &self,
        dns_names: &[&str],
        addresses: &[IpAddr],
        validity: Duration,
        now: SystemTime,
    ) -> Result<Leaf, CaError> {
        if dns_names.is_empty() && addresses.is_empty() {
            return Err(CaError::NoService);
        }
        let mut params = blank_params();
        for name in dns_names {
            let well_formed =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
            let name = if well_formed { (*name).try_into().ok() } else { None }
                .ok_or_else(|| CaError::DnsName(name.to_string()))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name.push(DnType::CommonName, "kuma-cp");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(Leaf::new(self.0.sign(params, validity, now)?, now))
    }
}

/// Shows the certificate, and nothing of the key.
impl fmt::Debug for XdsCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XdsCa").field("cert_pem", &self.0.cert_pem).finish_non_exhaustive()
    }
}
