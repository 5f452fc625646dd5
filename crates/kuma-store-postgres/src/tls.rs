//! TLS for connections to PostgreSQL, with the meaning that libpq gives to its modes.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_lc_rs::digest;
use futures_util::future::BoxFuture;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::config::{PostgresTls, TlsMode};

/// Makes connections secure. Without a configuration it is never asked to.
#[derive(Clone)]
pub(crate) struct Connector(Option<Arc<ClientConfig>>);

impl Connector {
    /// Reads the files.
    ///
    /// # Errors
    /// Says which file is not as it should be.
    pub(crate) fn new(tls: &PostgresTls) -> Result<Connector, String> {
        let PostgresTls { mode, ca, cert, key } = tls;
        if *mode == TlsMode::Disable {
            return Ok(Connector(None));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut trusted = Vec::new();
        let webpki = match (mode, ca) {
            (TlsMode::VerifyNone, _) => None,
            (_, None) => return Err("there is no CA to check the server's certificate against".into()),
            (_, Some(path)) => {
                trusted = certificates(path)?;
                let mut roots = RootCertStore::empty();
                for certificate in &trusted {
                    roots.add(certificate.clone()).map_err(|error| in_file(path, &error))?;
                }
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
                Some(verifier.build().map_err(|error| in_file(path, &error))?)
            }
        };
        let verifier = Arc::new(Verifier { mode: *mode, webpki, trusted, provider: provider.clone() });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match (cert, key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| in_file(key, &error))?;
                config.with_client_auth_cert(chain, key).map_err(|error| in_file(cert, &error))?
            }
            _ => config.with_no_client_auth(),
        };
        Ok(Connector(Some(Arc::new(config))))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found = found.map_err(|error| in_file(path, &error))?;
    if found.is_empty() { Err(in_file(path, &"there is no certificate in it")) } else { Ok(found) }
}

fn in_file(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

#[derive(Debug)]
struct Verifier {
    mode: TlsMode,
    /// Missing when any certificate will do.
    webpki: Option<Arc<WebPkiServerVerifier>>,
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(webpki) = &self.webpki else { return Ok(ServerCertVerified::assertion()) };
        if self.trusted.iter().any(|trusted| trusted.as_ref() == leaf.as_ref()) {
            // The usual certificate of a PostgreSQL server signs itself, which webpki accepts of a CA alone.
            return self.verify_trusted(leaf, name, now);
        }
        match webpki.verify_server_cert(leaf, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.mode == TlsMode::VerifyCa => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Verifier {
    /// Looks at a certificate that is trusted as it is: whether it is still in use, and, if asked to, whom it names.
    fn verify_trusted(
        &self,
        leaf: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let wrong = |error| Err(Error::InvalidCertificate(error));
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
            return wrong(CertificateError::BadEncoding);
        };
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let validity = certificate.validity();
        if seconds < validity.not_before.timestamp() {
            return wrong(CertificateError::NotValidYet);
        }
        if seconds > validity.not_after.timestamp() {
            return wrong(CertificateError::Expired);
        }
        if self.mode == TlsMode::VerifyFull && !names(&certificate, name) {
            return wrong(CertificateError::NotValidForName);
        }
        Ok(ServerCertVerified::assertion())
    }
}

/// Whether a certificate names the host; by its common name if it has no other names, as libpq does.
fn names(certificate: &X509Certificate<'_>, host: &ServerName<'_>) -> bool {
    let host_text = host.to_str();
    let is_host = |name: &str| name.eq_ignore_ascii_case(&host_text);
    match certificate.subject_alternative_name().ok().flatten() {
        Some(names) => names.value.general_names.iter().any(|name| match (name, host) {
            (GeneralName::DNSName(name), ServerName::DnsName(_)) => is_host(name),
            (GeneralName::IPAddress(bytes), ServerName::IpAddress(ip)) => match std::net::IpAddr::from(*ip) {
                std::net::IpAddr::V4(ip) => ip.octets() == **bytes,
                std::net::IpAddr::V6(ip) => ip.octets() == **bytes,
            },
            _ => false,
        }),
        None => certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).any(is_host),
    }
}

/// One connection on its way to be secure.
pub(crate) struct Connecting(Option<(Arc<ClientConfig>, ServerName<'static>)>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Connector {
    type Stream = Stream<S>;
    type TlsConnect = Connecting;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Connecting> {
        let Some(config) = &self.0 else { return Ok(Connecting(None)) };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Connecting(Some((config.clone(), name))))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Connecting {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Stream<S>>>;

    fn connect(self, socket: S) -> Self::Future {
        Box::pin(async move {
            let (config, name) = self.0.ok_or_else(|| io::Error::other("TLS is not set up"))?;
            tokio_rustls::TlsConnector::from(config).connect(name, socket).await.map(Stream)
        })
    }
}

/// A secure connection.
pub(crate) struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let certificates = self.0.get_ref().1.peer_certificates();
        match certificates.and_then(|certificates| end_point(certificates.first()?)) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

/// The channel binding `tls-server-end-point` of RFC 5929: a hash of the certificate, by the hash of its signature.
fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // RSA and ECDSA with SHA-384, then with SHA-512.
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        // MD5 and SHA-1 are to be replaced by SHA-256.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => &digest::SHA256,
        "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => &digest::SHA256,
        // Ed25519 and RSA-PSS name no hash that both sides would agree on.
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
