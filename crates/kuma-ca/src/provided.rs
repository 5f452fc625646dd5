//! Roots that users provide, and the rules for them.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kuma_model::Violations;
use rcgen::PublicKeyData as _;
use x509_parser::extensions::KeyUsage;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::key::PrivateKey;
use crate::time::unix_seconds;
use crate::{CaError, Root, Secret};

/// Field of a violation that concerns the pair as a whole.
const PAIR: &str = ".";
/// Field of a violation that concerns the certificate.
const CERT: &str = "cert";

/// The root that a user provides for a mesh, each part as PEM.
///
/// Other blocks, such as `EC PARAMETERS` before a key, are ignored.
///
/// # Errors
/// All violations: those of the pair have the field `.`, those of the certificate `cert`. The messages are the
/// documented ones, where there are any, and hold nothing of the key.
pub fn provided_root(cert_pem: &str, key_pem: &Secret, now: SystemTime) -> Result<Root, Violations> {
    let ders = certificates(cert_pem).map_err(|reason| no_pair(&reason))?;
    let first = ders.first().ok_or_else(|| no_pair("there is no PEM block CERTIFICATE in the certificate"))?;
    let (rest, cert) = X509Certificate::from_der(first).map_err(|_| no_pair("the certificate does not parse"))?;
    let key_block = private_key(key_pem.expose()).map_err(no_pair)?;
    let key = PrivateKey::from_pem(key_block).map_err(|error| no_pair(&error.to_string()))?;
    if cert.public_key().raw != key.subject_public_key_info() {
        return Err(no_pair(&CaError::Mismatch.to_string()));
    }
    if ders.len() > 1 {
        return Err(broken("certificate must be a root CA (certificate chains are not allowed)"));
    }
    if !rest.is_empty() {
        return Err(broken("not a valid x509 certificate: there is something behind it"));
    }

    let mut violations = rules(&cert);
    if violations.is_empty() {
        validity(&cert, now, &mut violations);
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    let cert_pem = pem_block(first);
    Root::from_pem(&cert_pem, &Secret::new(key_block.to_owned()))
        .map_err(|error| broken(&format!("not a certificate that can sign: {error}")))
}

/// The documented rules for the one certificate.
fn rules(cert: &X509Certificate<'_>) -> Violations {
    let mut violations = Violations::default();
    let mut require = |is_met: bool, message: &str| {
        if !is_met {
            violations.add(CERT, message);
        }
    };
    require(
        cert.subject().as_raw() == cert.issuer().as_raw(),
        "certificate must be self-signed (intermediate CAs are not allowed)",
    );
    require(cert.is_ca(), "basic constraint 'CA' must be set to 'true' (see X509-SVID: 4.1. Basic Constraints)");
    let usage = cert.key_usage().ok().flatten().map(|extension| *extension.value);
    let has = |flag: fn(&KeyUsage) -> bool| usage.as_ref().is_some_and(flag);
    require(
        has(KeyUsage::key_cert_sign),
        "key usage extension 'keyCertSign' must be set (see X509-SVID: 4.3. Key Usage)",
    );
    for (name, is_set) in [
        ("digitalSignature", has(KeyUsage::digital_signature)),
        ("keyAgreement", has(KeyUsage::key_agreement)),
        ("keyEncipherment", has(KeyUsage::key_encipherment)),
    ] {
        require(
            !is_set,
            &format!("key usage extension '{name}' must NOT be set (see X509-SVID: Appendix A. X.509 Field Reference)"),
        );
    }
    violations
}

/// Checks the validity period: proxies reject certificates of an expired root.
fn validity(cert: &X509Certificate<'_>, now: SystemTime, violations: &mut Violations) {
    let now = i64::try_from(unix_seconds(now)).unwrap_or(i64::MAX);
    let (not_before, not_after) = (cert.validity().not_before, cert.validity().not_after);
    if not_after.timestamp() <= now {
        violations.add(CERT, format!("certificate must be valid: it ended at {not_after}"));
    }
    if not_before.timestamp() > now {
        violations.add(CERT, format!("certificate must be valid: it begins at {not_before}"));
    }
}

fn no_pair(reason: &str) -> Violations {
    violation(PAIR, format!("not a valid TLS key pair: {reason}"))
}

fn broken(message: &str) -> Violations {
    violation(CERT, message.to_owned())
}

fn violation(field: &str, message: String) -> Violations {
    let mut violations = Violations::default();
    violations.add(field, message);
    violations
}

/// The certificates of a PEM text, in DER.
fn certificates(pem: &str) -> Result<Vec<Vec<u8>>, String> {
    let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(pem.as_bytes()).collect();
    let blocks = blocks.map_err(|_| "the certificate is not PEM".to_owned())?;
    Ok(blocks.into_iter().filter(|block| block.label == "CERTIFICATE").map(|block| block.contents).collect())
}

/// The block with the private key.
fn private_key(pem: &str) -> Result<&str, &'static str> {
    const BEGIN: &str = "-----BEGIN ";
    const END: &str = "PRIVATE KEY-----";
    let mut from = 0;
    while let Some(begin) = pem[from..].find(BEGIN).map(|at| from + at) {
        let line = pem[begin..].lines().next().unwrap_or_default().trim_end();
        if line.ends_with("ENCRYPTED PRIVATE KEY-----") || pem[begin..].contains("Proc-Type: 4,ENCRYPTED") {
            return Err("the key is encrypted: decrypt it first");
        }
        if line.ends_with(END) {
            let body = begin + line.len();
            let end = pem[body..].find(END).ok_or("the block of the key has no end")?;
            return Ok(&pem[begin..body + end + END.len()]);
        }
        from = begin + BEGIN.len();
    }
    Err("there is no PEM block PRIVATE KEY in the key")
}

/// A certificate in PEM, in lines of 64 characters (RFC 7468, 2).
fn pem_block(der: &[u8]) -> String {
    let mut text = BASE64.encode(der);
    let mut at = 64;
    while at < text.len() {
        text.insert(at, '\n');
        at += 65;
    }
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
