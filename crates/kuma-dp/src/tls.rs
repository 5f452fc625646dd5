//! The CAs that kuma-dp trusts: the system's CAs for `https://` addresses, the pinned CA of the bootstrap for xDS.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsSetupError {
    #[error("the system has no CA certificates that can be used{}",
        .0.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    NoSystemRoots(Option<rustls_native_certs::Error>),
    #[error("the pinned CA is not a certificate in PEM form: {0}")]
    BadPin(String),
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Installs the crypto provider. Must be called before anything else in this module.
pub(crate) fn install_provider() {
    // An error means that a provider is already installed, which happens in tests only.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

/// The name that a server's certificate must have: a host name or an IP address.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(host.to_owned())
}

/// For `https://` URLs that a user configured. Verification cannot be turned off.
pub(crate) fn trusting_the_system() -> Result<Arc<ClientConfig>, TlsSetupError> {
    let mut found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(TlsSetupError::NoSystemRoots(found.errors.pop()));
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// For the control plane's xDS server: trusts only the certificates in `pem`, as Envoy does with the same bootstrap.
/// The server's certificate must have one of `names`; without names, every certificate that `pem` verifies is accepted.
pub(crate) fn trusting_only(pem: &str, names: &[String]) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let bad_pin = |error: &dyn std::fmt::Display| TlsSetupError::BadPin(error.to_string());
    let pins = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad_pin(&error))?;
    let mut roots = RootCertStore::empty();
    for pin in &pins {
        roots.add(pin.clone()).map_err(|error| bad_pin(&error))?;
    }
    let names =
        names.iter().map(|name| server_name(name)).collect::<Result<Vec<_>, _>>().map_err(|error| bad_pin(&error))?;
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| bad_pin(&error))?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedServer { pins, names, chain }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Accepts a server whose certificate is pinned itself, or was issued by a pinned CA, in its time of validity.
///
/// The first case is for a certificate that an operator made for the control plane by `openssl req -x509`. That marks
/// it as a CA, and webpki accepts no CA as a server's certificate, not even when that certificate itself is pinned.
#[derive(Debug)]
struct PinnedServer {
    pins: Vec<CertificateDer<'static>>,
    names: Vec<ServerName<'static>>,
    chain: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pins.iter().any(|pin| pin == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let verify =
            |name: &ServerName<'_>| self.chain.verify_server_cert(end_entity, intermediates, name, ocsp_response, now);
        if self.names.is_empty() {
            // webpki checks the name last: an error about the name means that the chain is valid.
            return match verify(server_name) {
                Err(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => Ok(ServerCertVerified::assertion()),
                verdict => verdict,
            };
        }
        let mut verdict = Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForName));
        for name in &self.names {
            verdict = verify(name);
            if verdict.is_ok() {
                break;
            }
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
