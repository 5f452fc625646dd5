//! Mutual TLS with a folder of client certificates: a client is let in if its certificate is one of the files, byte for
//! byte. They are not roots: nobody who holds one can make another.
//!
//! The folder is read for every connection and every request, so a file that is added or removed counts at once.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, ServerConfig, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Largest file that is taken for a certificate, in bytes.
const MAX_FILE: u64 = 64 * 1024;
/// Most files that are looked at.
const MAX_FILES: usize = 1000;

/// Who a request is from: the holder of the key to one of the certificates in the folder. The server puts it into the
/// request's extensions, which nothing that a client sends can do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientCertificate {
    /// Name of the file, for the log.
    pub file: Arc<str>,
    der: CertificateDer<'static>,
}

impl ClientCertificate {
    /// The subject of the certificate, such as `CN=alice`; the name of its file if it has none.
    pub fn subject(&self) -> String {
        let subject = X509Certificate::from_der(&self.der).map(|(_, parsed)| parsed.subject().to_string());
        subject.ok().filter(|subject| !subject.is_empty()).unwrap_or_else(|| self.file.to_string())
    }
}

/// A server's own certificate, and the folder with those of its clients.
pub struct MutualTls {
    server: Arc<dyn ResolvesServerCert>,
    provider: Arc<CryptoProvider>,
    folder: PathBuf,
}

impl MutualTls {
    /// Reads the server's certificate and key, and looks whether the folder can be read.
    ///
    /// # Errors
    /// What can't be used, with its path.
    pub fn new(cert_file: &Path, key_file: &Path, folder: &Path) -> anyhow::Result<MutualTls> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(cert_file)?)
            .collect::<Result<_, _>>()
            .with_context(|| format!("{} is not a certificate in PEM", cert_file.display()))?;
        let key_pem = zeroize::Zeroizing::new(read(key_file)?);
        let key = PrivateKeyDer::from_pem_slice(&key_pem)
            .with_context(|| format!("{} is not a private key in PEM", key_file.display()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .with_context(|| format!("{} and {} do not fit", cert_file.display(), key_file.display()))?;
        let tls = MutualTls { server: config.cert_resolver, provider, folder: folder.to_owned() };
        let known = read_folder(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
        if known.is_empty() {
            tracing::warn!(folder = %folder.display(), "there is no client certificate yet (*.pem): nobody is let in");
        }
        Ok(tls)
    }

    /// Makes a TLS connection of `stream`.
    ///
    /// # Errors
    /// The client has no certificate that is in the folder and valid now, or it does not speak TLS 1.2 or later.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, ClientCertificate)> {
        let known = self.known().await?;
        let verifier = Known { files: known, algorithms: self.provider.signature_verification_algorithms };
        let verifier = Arc::new(verifier);
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(verifier.clone())
            .with_cert_resolver(self.server.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session would skip the look at the folder.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let client = shown.and_then(|shown| verifier.files.iter().find(|known| known.der == *shown)).cloned();
        let client = client.ok_or_else(|| io::Error::other("the client has shown no certificate"))?;
        Ok((stream, client))
    }

    /// Whether a certificate that was let in still would be: its file may have gone meanwhile.
    pub async fn still_knows(&self, client: &ClientCertificate) -> bool {
        let known = self.known().await.unwrap_or_else(|error| {
            tracing::error!(folder = %self.folder.display(), %error,
                "the client certificates cannot be read; nobody is let in");
            Vec::new()
        });
        known.iter().any(|known| known.der == client.der) && is_valid(&client.der, UnixTime::now())
    }

    async fn known(&self) -> io::Result<Vec<ClientCertificate>> {
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || read_folder(&folder)).await.map_err(io::Error::other)?
    }
}

/// The certificates in the `*.pem` files right inside of `folder`. A file that can't be read lets nobody in, and is no
/// reason to shut everybody else out.
fn read_folder(folder: &Path) -> io::Result<Vec<ClientCertificate>> {
    let mut known = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(MAX_FILES) {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "pem") {
            continue;
        }
        // The target of a link counts: mounted secrets are links.
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_FILE => {}
            _ => continue,
        }
        let file: Arc<str> = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default().into();
        match std::fs::read(&path) {
            Ok(text) => {
                for der in CertificateDer::pem_slice_iter(&text) {
                    match der {
                        Ok(der) => known.push(ClientCertificate { file: file.clone(), der }),
                        Err(error) => {
                            tracing::warn!(file = %path.display(), ?error, "not a certificate in PEM");
                            break;
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(file = %path.display(), %error, "cannot read a client certificate"),
        }
    }
    Ok(known)
}

fn is_valid(der: &CertificateDer<'_>, now: UnixTime) -> bool {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| {
        let validity = certificate.validity();
        validity.not_before.timestamp() <= now && now <= validity.not_after.timestamp()
    })
}

/// Lets in whoever holds the key to one of these.
struct Known {
    files: Vec<ClientCertificate>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.files.iter().map(|known| &known.file)).finish()
    }
}

impl ClientCertVerifier for Known {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        if !self.files.iter().any(|known| known.der == *end_entity) {
            return Err(CertificateError::UnknownIssuer.into());
        }
        if !is_valid(end_entity, now) {
            return Err(CertificateError::Expired.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
