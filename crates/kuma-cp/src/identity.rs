//! What the control plane itself is known by: the CA of its xDS server and the key that signs dataplane tokens.
//!
//! They outlive the process. A store that lasts has them as Secrets of no mesh, so that all control planes on it have
//! the same; the state folder has a copy then, which takes running proxies over a move from the memory store and over
//! the loss of the store. With the memory store, the state folder has the only one. Without a folder that can be
//! written they are made for this life alone, and the proxies that know them will not come back after it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kuma_ca::{Leaf, Secret, SigningKey, XdsCa};
use kuma_model::{Document, Key, NO_MESH, SECRET_KIND};
use kuma_store::{Cause, Proposal, Store, StoreError, Write};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CipherSuite, ServerConfig};
use serde_json::json;

use crate::state_folder::StateFolder;

/// Life of the certificate that the xDS server shows; a new one is made while the process runs.
pub const SERVER_VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);

/// How often keys are looked for again when another control plane makes them at the same time.
const ATTEMPTS: usize = 5;

/// The author of what the control plane commits by itself.
pub const AUTHOR: &str = "kuma-cp";

/// Both.
pub struct Identity {
    /// Signs dataplane tokens.
    pub signing_key: SigningKey,
    /// Signs the certificate of the xDS server. Every proxy has pinned it.
    pub xds_ca: XdsCa,
}

/// A key, and where it is kept.
trait Kept: Sized {
    const WHAT: &str;
    /// In the state folder.
    const FILE: &str;
    /// In the store, in no mesh.
    const SECRET: &str;

    fn generate(now: SystemTime) -> anyhow::Result<Self>;
    /// PEM.
    fn to_text(&self) -> Secret;
    fn from_text(text: &str) -> anyhow::Result<Self>;
}

impl Kept for SigningKey {
    const WHAT: &str = "key that signs dataplane tokens";
    const FILE: &str = "dataplane-token-signing-key.pem";
    const SECRET: &str = "dataplane-token-signing-key";

    fn generate(_now: SystemTime) -> anyhow::Result<SigningKey> {
        Ok(SigningKey::generate()?)
    }

    fn to_text(&self) -> Secret {
        self.to_pem().clone()
    }

    fn from_text(text: &str) -> anyhow::Result<SigningKey> {
        Ok(SigningKey::from_pem(&Secret::new(text.to_owned()))?)
    }
}

impl Kept for XdsCa {
    const WHAT: &str = "CA of the xDS server";
    const FILE: &str = "xds-ca.pem";
    const SECRET: &str = "xds-ca";

    fn generate(now: SystemTime) -> anyhow::Result<XdsCa> {
        Ok(XdsCa::generate(now)?)
    }

    fn to_text(&self) -> Secret {
        Secret::new(format!("{}{}", self.cert_pem(), self.key_pem().expose()))
    }

    fn from_text(text: &str) -> anyhow::Result<XdsCa> {
        let key_at = text.find("-----BEGIN PRIVATE KEY-----").context("it holds no private key")?;
        Ok(XdsCa::from_pem(&text[..key_at], &Secret::new(text[key_at..].to_owned()))?)
    }
}

impl Identity {
    /// Those that the folder has, or new ones that it has from now on.
    ///
    /// # Errors
    /// A kept one cannot be read: it is never silently made anew, since proxies and tokens depend on it.
    pub fn in_folder(folder: Option<&StateFolder>, now: SystemTime) -> anyhow::Result<Identity> {
        Ok(Identity { signing_key: in_folder(folder, now)?, xds_ca: in_folder(folder, now)? })
    }

    /// Those that the store has. What it lacks is taken from the folder, or made, and committed together with
    /// `further`; whatever another control plane has stored meanwhile stays. The folder gets a copy.
    ///
    /// # Errors
    /// As [`Identity::in_folder`], or the store does not answer.
    pub async fn in_store(
        store: &dyn Store,
        folder: Option<&StateFolder>,
        further: Vec<Document>,
        now: SystemTime,
    ) -> anyhow::Result<Identity> {
        for _ in 0..ATTEMPTS {
            let mut missing = Vec::new();
            for document in &further {
                if store.get(&document.key).await?.is_none() {
                    missing.push(Write::Create(document.clone()));
                }
            }
            let signing_key: SigningKey = stored(store, folder, &mut missing, now).await?;
            let xds_ca: XdsCa = stored(store, folder, &mut missing, now).await?;
            if !missing.is_empty() {
                let cause = Cause { author: AUTHOR.into(), note: "keys of the control plane".into(), via: "".into() };
                match store.propose(Proposal { writes: missing, cause, ..Proposal::default() }).await {
                    Ok(_) => {}
                    // Another control plane was faster: it is as good.
                    Err(StoreError::AlreadyExists(_)) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            let identity = Identity { signing_key, xds_ca };
            if let Some(folder) = folder {
                copy(&identity.signing_key, folder)?;
                copy(&identity.xds_ca, folder)?;
            }
            return Ok(identity);
        }
        bail!("other control planes change the keys in the store all the time")
    }
}

fn in_folder<K: Kept>(folder: Option<&StateFolder>, now: SystemTime) -> anyhow::Result<K> {
    let Some(folder) = folder else { return K::generate(now) };
    if let Some(kept) = read::<K>(folder)? {
        return Ok(kept);
    }
    let fresh = K::generate(now)?;
    let kept = folder.write_new(K::FILE, fresh.to_text().expose().as_bytes())?;
    parse(&kept).with_context(|| damaged::<K>(folder))
}

/// That of the folder, if it has one.
fn read<K: Kept>(folder: &StateFolder) -> anyhow::Result<Option<K>> {
    let Some(kept) = folder.read(K::FILE)? else { return Ok(None) };
    parse(&kept).map(Some).with_context(|| damaged::<K>(folder))
}

fn parse<K: Kept>(kept: &[u8]) -> anyhow::Result<K> {
    K::from_text(std::str::from_utf8(kept).context("it is not text")?)
}

fn damaged<K: Kept>(folder: &StateFolder) -> String {
    format!(
        "the {} in {} cannot be used; restore the file, or remove it and start the proxies again with new tokens",
        K::WHAT,
        folder.path().join(K::FILE).display()
    )
}

/// That of the store; otherwise one that is to be written, which is added to `missing`.
async fn stored<K: Kept>(
    store: &dyn Store,
    folder: Option<&StateFolder>,
    missing: &mut Vec<Write>,
    now: SystemTime,
) -> anyhow::Result<K> {
    let key = Key::new(SECRET_KIND, NO_MESH, K::SECRET);
    if let Some(stored) = store.get(&key).await? {
        let pem = stored.spec().get("pem").and_then(|pem| BASE64.decode(pem.as_str()?).ok());
        return pem.context("it is not text").and_then(|pem| parse(&zeroize::Zeroizing::new(pem))).with_context(|| {
            format!("the {} in the store ({key}) cannot be used; restore the store from a backup", K::WHAT)
        });
    }
    let kept = folder.map(read::<K>).transpose()?.flatten();
    let kept = kept.map_or_else(|| K::generate(now), Ok)?;
    let spec = json!({"pem": BASE64.encode(kept.to_text().expose())});
    missing.push(Write::Create(Document { key, spec }));
    Ok(kept)
}

/// Leaves a copy in the folder.
fn copy<K: Kept>(kept: &K, folder: &StateFolder) -> anyhow::Result<()> {
    let text = kept.to_text();
    if folder.read(K::FILE)?.is_none_or(|before| *before != text.expose().as_bytes()) {
        folder.replace(K::FILE, text.expose().as_bytes())?;
    }
    Ok(())
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
