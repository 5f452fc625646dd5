//! What the control plane itself is known by: the CA of its xDS server and the key that signs dataplane tokens.
//!
//! Both outlive the process in the state folder. Without a folder that can be written they are made for this life
//! alone, and the proxies that know them will not come back after it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use kuma_ca::{Leaf, Secret, SigningKey, XdsCa};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CipherSuite, ServerConfig};

use crate::state_folder::StateFolder;

const SIGNING_KEY: &str = "dataplane-token-signing-key.pem";
const XDS_CA: &str = "xds-ca.pem";

/// Life of the certificate that the xDS server shows; a new one is made while the process runs.
pub const SERVER_VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);

/// The key that signs dataplane tokens: the kept one, or a new one that is kept.
///
/// # Errors
/// The kept one cannot be read: it is never silently made anew, since every token would be refused.
pub fn signing_key(folder: Option<&StateFolder>) -> anyhow::Result<SigningKey> {
    let Some(folder) = folder else { return Ok(SigningKey::generate()?) };
    let kept = match folder.read(SIGNING_KEY)? {
        Some(kept) => kept,
        None => folder.write_new(SIGNING_KEY, SigningKey::generate()?.to_pem().expose().as_bytes())?,
    };
    let pem = String::from_utf8(kept.to_vec()).ok().map(Secret::new);
    let key = pem.context("it is not text").and_then(|pem| Ok(SigningKey::from_pem(&pem)?));
    key.with_context(|| damaged("key that signs dataplane tokens", folder, SIGNING_KEY))
}

/// The CA of the xDS server: the kept one, or a new one that is kept.
///
/// # Errors
/// The kept one cannot be read: every proxy has pinned it.
pub fn xds_ca(folder: Option<&StateFolder>, now: SystemTime) -> anyhow::Result<XdsCa> {
    let Some(folder) = folder else { return Ok(XdsCa::generate(now)?) };
    let kept = match folder.read(XDS_CA)? {
        Some(kept) => kept,
        None => {
            let fresh = XdsCa::generate(now)?;
            let text = Secret::new(format!("{}{}", fresh.cert_pem(), fresh.key_pem().expose()));
            folder.write_new(XDS_CA, text.expose().as_bytes())?
        }
    };
    let parse = || -> anyhow::Result<XdsCa> {
        let text = std::str::from_utf8(&kept).context("it is not text")?;
        let key_at = text.find("-----BEGIN PRIVATE KEY-----").context("it holds no private key")?;
        Ok(XdsCa::from_pem(&text[..key_at], &Secret::new(text[key_at..].to_owned()))?)
    };
    parse().with_context(|| damaged("CA of the xDS server", folder, XDS_CA))
}

fn damaged(what: &str, folder: &StateFolder, name: &str) -> String {
    let path = folder.path().join(name);
    format!(
        "the {what} in {} cannot be used; restore the file, or remove it and start the proxies again with new tokens",
        path.display()
    )
}

/// A certificate for the xDS server under the names that proxies may use for it.
///
/// # Errors
/// A host that is neither a name nor an address.
pub fn server_leaf(ca: &XdsCa, hosts: &[&str], now: SystemTime) -> anyhow::Result<Leaf> {
    let mut names = vec!["localhost"];
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0u16, 0, 0, 0, 0, 0, 0, 1])];
    for host in hosts {
        match host.parse::<IpAddr>() {
            Ok(address) if !addresses.contains(&address) => addresses.push(address),
            Ok(_) => {}
            Err(_) if !names.contains(host) => names.push(host),
            Err(_) => {}
        }
    }
    Ok(ca.issue_server(&names, &addresses, SERVER_VALIDITY, now)?)
}

/// The TLS settings of a gRPC server with this certificate, at least TLS 1.2.
///
/// # Errors
/// The certificate or the key is not one.
pub fn grpc_tls(chain_pem: &str, key_pem: &str) -> anyhow::Result<Arc<ServerConfig>> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<_, _>>()
        .context("the certificate is not PEM")?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).context("the key is not PEM")?;
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // As Envoy orders them: SHA-384 costs more than all else in a handshake but the key exchange.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Envoy does not resume, and every ticket costs memory.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
