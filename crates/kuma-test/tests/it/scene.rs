//! The setup of most tests: `web` calls `redis` through two Envoys.

use kuma_test::apps::{Client, Greeter};
use kuma_test::documents::dataplane;
use kuma_test::ports::free_port;
use kuma_test::wire::Wire;
use kuma_test::{ControlPlane, Dataplane, eventually};

/// A control plane, the application `redis`, which sends a greeting first, and the proxies of `redis` and `web`.
pub(crate) struct Scene {
    pub(crate) cp: ControlPlane,
    pub(crate) redis: Greeter,
    pub(crate) web_proxy: Dataplane,
    pub(crate) redis_proxy: Dataplane,
    /// Port of web's outbound to redis.
    pub(crate) outbound: u16,
    /// Port of redis's inbound.
    pub(crate) inbound: u16,
    web_inbound: u16,
}

impl Scene {
    /// Starts it in the mesh `default`, without mTLS.
    pub(crate) async fn start() -> Scene {
        Scene::start_with(&[]).await
    }

    /// The same with further variables in the environment of the control plane.
    pub(crate) async fn start_with(env: &[(&str, &str)]) -> Scene {
        let cp = ControlPlane::start_with(env).await;
        let redis = Greeter::start().await;
        let (inbound, outbound, web_inbound) = (free_port(), free_port(), free_port());
        let [redis_document, web_document] = documents(redis.port, inbound, outbound, web_inbound);
        cp.apply(&redis_document).await;
        cp.apply(&web_document).await;
        let redis_proxy = Dataplane::start(&cp, "default", "redis-1");
        let web_proxy = Dataplane::start(&cp, "default", "web-1");
        redis_proxy.live().await;
        web_proxy.live().await;
        let scene = Scene { cp, redis, web_proxy, redis_proxy, outbound, inbound, web_inbound };
        scene.open().await;
        scene
    }

    /// The same, with a wire between the proxies and the control plane.
    pub(crate) async fn start_wired() -> (Scene, Wire) {
        let port = free_port();
        let wire = Wire::start(port).await;
        let env = [
            ("KUMA_XDS_SERVER_GRPC_PORT", port.to_string()),
            ("KUMA_BOOTSTRAP_SERVER_PARAMS_XDS_PORT", wire.port.to_string()),
        ];
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        (Scene::start_with(&env).await, wire)
    }

    /// The Dataplanes of redis and web.
    pub(crate) fn documents(&self) -> [serde_json::Value; 2] {
        documents(self.redis.port, self.inbound, self.outbound, self.web_inbound)
    }

    /// Waits until web reaches redis, and returns the connection.
    pub(crate) async fn open(&self) -> Client {
        eventually("web reaches redis", || Client::connect(self.outbound)).await
    }

    /// Waits until web does not reach redis any more.
    pub(crate) async fn closed(&self) {
        eventually("web is refused by redis", || async {
            Client::connect(self.outbound).await.is_none().then_some(())
        })
        .await;
    }
}

fn documents(app: u16, inbound: u16, outbound: u16, web_inbound: u16) -> [serde_json::Value; 2] {
    [
        dataplane("default", "redis-1", "redis", (inbound, app), &[]),
        dataplane("default", "web-1", "web", (web_inbound, app), &[(outbound, "redis")]),
    ]
}

impl Scene {
    /// Waits until redis's proxy passes no data of the application to a client without TLS.
    pub(crate) async fn closed_to_plain_text(&self) {
        use kuma_test::apps::{GREETING, bytes_from};
        eventually("plain text is refused", || async {
            let bytes = bytes_from(self.inbound).await;
            (!bytes.windows(GREETING.len()).any(|window| window == GREETING)).then_some(())
        })
        .await;
    }

    /// The certificate that redis's proxy shows, as DER.
    pub(crate) async fn certificate(&self) -> Vec<u8> {
        eventually("redis's proxy shows a certificate", || shown_certificate(self.inbound)).await
    }

    /// The URI names in the certificate that redis's proxy shows.
    pub(crate) async fn certificate_uris(&self) -> Vec<String> {
        uris(&self.certificate().await)
    }
}

/// The URI names in a certificate.
pub(crate) fn uris(der: &[u8]) -> Vec<String> {
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(der).expect("a certificate");
    let names = certificate.subject_alternative_name().expect("readable names").expect("names");
    let uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    uris.collect()
}

/// The certificate that a TLS server presents to a client without a certificate. The handshake may fail after that.
pub(crate) async fn shown_certificate(port: u16) -> Option<Vec<u8>> {
    certificate_for(port, rustls::crypto::aws_lc_rs::default_provider()).await
}

/// The same, for a client with this cryptography.
pub(crate) async fn certificate_for(port: u16, provider: rustls::crypto::CryptoProvider) -> Option<Vec<u8>> {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
    let provider = std::sync::Arc::new(provider);
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(std::sync::Arc::new(Noting { seen: seen.clone(), provider }))
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = rustls::pki_types::ServerName::try_from("redis").ok()?;
    // Without a client certificate it fails, but only after the server has presented its own.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), connector.connect(name, stream)).await;
    seen.lock().ok()?.take()
}

/// Accepts any server and records its certificate.
#[derive(Debug)]
struct Noting {
    seen: std::sync::Arc<std::sync::Mutex<Option<Vec<u8>>>>,
    provider: std::sync::Arc<rustls::crypto::CryptoProvider>,
}

impl rustls::client::danger::ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        end_entity: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        *self.seen.lock().expect("nothing panics while it is held") = Some(end_entity.to_vec());
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
