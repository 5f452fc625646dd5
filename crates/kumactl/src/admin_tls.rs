//! TLS to the admin server of another machine: the client certificate and the verification of the server.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use crate::config::AdminApi;
use crate::failure::Failure;

/// The TLS settings for these credentials. Without the server's certificate the server is not verified; the caller
/// warns about that.
pub(crate) fn client_config(credentials: &AdminApi) -> Result<ClientConfig, Failure> {
    let AdminApi { client_cert, client_key, server_cert } = credentials;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = ServerIdentity::new(server_cert, &provider)?;
    let chain = certificates(client_cert)?;
    let key = PrivateKeyDer::from_pem_file(Path::new(client_key)).map_err(|error| unreadable(client_key, &error))?;
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)))
        .and_then(|builder| builder.with_client_auth_cert(chain, key))
        .map_err(|error| Failure::new(format!("{client_cert:?} and {client_key:?} can't be used: {error}")))
}

/// The certificates in a file; at least one.
pub(crate) fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(Path::new(path)).and_then(|certificates| certificates.collect());
    let certificates = certificates.map_err(|error| unreadable(path, &error))?;
    if certificates.is_empty() {
        return Err(Failure::new(format!("there is no certificate in {path:?}")));
    }
    Ok(certificates)
}

fn unreadable(path: &str, error: &rustls::pki_types::pem::Error) -> Failure {
    Failure::new(format!("could not read {path:?}: {error}"))
}

/// Accepts a server whose certificate is one that the user has named, or is signed by one of those and valid for its
/// host. Accepts every server if the user has named no certificate.
#[derive(Debug)]
struct ServerIdentity {
    named: Vec<CertificateDer<'static>>,
    signed: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerIdentity {
    fn new(path: &str, provider: &Arc<CryptoProvider>) -> Result<ServerIdentity, Failure> {
        let provider = provider.clone();
        if path.is_empty() {
            return Ok(ServerIdentity { named: Vec::new(), signed: None, provider });
        }
        let named = certificates(path)?;
        let invalid = |reason: &dyn std::fmt::Display| {
            Failure::new(format!("the certificate in {path:?} can't be used: {reason}"))
        };
        let mut roots = RootCertStore::empty();
        for certificate in &named {
            roots.add(certificate.clone()).map_err(|error| invalid(&error))?;
        }
        let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        Ok(ServerIdentity { named, signed: Some(signed.map_err(|error| invalid(&error))?), provider })
    }
}

impl ServerCertVerifier for ServerIdentity {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(signed) = &self.signed else { return Ok(ServerCertVerified::assertion()) };
        match signed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(TlsError::InvalidCertificate(
                error @ (CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }),
            )) => Err(error.into()),
            // A certificate that the user has named is accepted as it is, whatever its signature and host names.
            Err(_) if self.named.iter().any(|named| named == end_entity) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
