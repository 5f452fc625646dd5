//! Self-signed certificates for the admin server of a control plane and for its clients.
//!
//! They are not CAs. The admin server has a list of the client certificates that it accepts, and kumactl can be given
//! the server's certificate (`--admin-server-cert`).

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
    SanType,
};

/// How long they are valid. They are not renewed automatically, so it is ten years, as in the original Kuma.
const VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long before its creation a certificate becomes valid, for peers whose clocks are slow.
const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// The holder of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder<'a> {
    /// The admin server, under these names and addresses.
    Server(&'a [String]),
    /// A user of kumactl.
    Client,
}

/// A certificate and its key, both in PEM.
pub(crate) struct SelfSigned {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

/// Makes a certificate with an RSA key of 2048 bits. `localhost` is one of its names.
pub(crate) fn self_signed(holder: &Holder<'_>, now: SystemTime) -> Result<SelfSigned, String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = Default::default();
    params.distinguished_name.push(DnType::CommonName, "kuma");
    let hosts = match holder {
        Holder::Server(hosts) => *hosts,
        Holder::Client => &[],
    };
    for host in hosts.iter().map(String::as_str).chain(["localhost"]) {
        let name = match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(dns_name(host)?),
        };
        if !params.subject_alt_names.contains(&name) {
            params.subject_alt_names.push(name);
        }
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if *holder == Holder::Client {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATE);
    params.not_after = epoch + (now + VALIDITY);
    let made = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
        .and_then(|key| Ok(SelfSigned { cert_pem: params.self_signed(&key)?.pem(), key_pem: key.serialize_pem() }));
    made.map_err(|error| error.to_string())
}

/// A host name in ASCII; `*` may stand for its first label.
fn dns_name(host: &str) -> Result<rcgen::string::Ia5String, String> {
    let labels = host.strip_prefix("*.").unwrap_or(host).split('.');
    let valid = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = (host.len() <= 253 && labels.into_iter().all(valid)).then(|| host.try_into().ok());
    name.flatten().ok_or_else(|| format!("{host:?} is neither a host name nor an address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts() {
        for host in ["kuma-cp", "kuma.internal", "*.kuma.internal", "a_b", "X1"] {
            assert!(dns_name(host).is_ok(), "{host}");
        }
        for host in ["", "a..b", "-a", "a-", "http://a", "a:1", "a b", "é", "*", "a.*.b", &"a".repeat(64)] {
            assert!(dns_name(host).is_err(), "{host}");
        }
    }
}
