//! The rules for roots that users provide.

use kuma_ca::{Root, Secret, provided_root, svid_lint};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use proptest::prelude::*;

use crate::now;

const SELF_SIGNED: &str = "cert: certificate must be self-signed (intermediate CAs are not allowed)";
const CA: &str = "cert: basic constraint 'CA' must be set to 'true' (see X509-SVID: 4.1. Basic Constraints)";
const CERT_SIGN: &str = "cert: key usage extension 'keyCertSign' must be set (see X509-SVID: 4.3. Key Usage)";

fn must_not(usage: &str) -> String {
    format!("cert: key usage extension '{usage}' must NOT be set (see X509-SVID: Appendix A. X.509 Field Reference)")
}

/// The parameters of a valid root.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Example root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2029, 1, 1));
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let (mut params, key) = (params(), key());
    change(&mut params);
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

fn check(cert: &str, key: &str) -> Result<Root, Vec<String>> {
    let checked = provided_root(cert, &Secret::new(key.to_owned()), now());
    checked.map_err(|violations| {
        violations.iter().map(|violation| format!("{}: {}", violation.field, violation.message)).collect()
    })
}

fn refused(cert: &str, key: &str) -> Vec<String> {
    check(cert, key).map(|root| root.id()).expect_err("it is refused")
}

#[test]
fn a_root_is_taken_and_issues() {
    let (cert, key) = self_signed(|_| {});
    let root = check(&cert, &key).expect("it is taken");
    let services = std::collections::BTreeSet::from(["web"]);
    let request = kuma_ca::LeafRequest { mesh: "default", services: &services, validity: crate::DAY, now: now() };
    assert_eq!(svid_lint(&root.issue(&request).expect("issues").chain_pem), [] as [&str; 0]);
    let again = check(&cert, &key).expect("it is taken");
    assert_eq!((root.id(), root.id().len()), (again.id(), 36), "the same certificate has the same id");
    let (other, key) = self_signed(|_| {});
    assert_ne!(root.id(), check(&other, &key).expect("it is taken").id());
}

#[test]
fn what_stands_around_the_blocks_is_passed_over() {
    let (cert, key) = self_signed(|_| {});
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let wordy = format!("Certificate:\r\n    Data:\r\n{}", cert.replace('\n', "\r\n").trim_end());
    let root = check(&wordy, &format!("{parameters}{key}trailing")).expect("it is taken");
    assert!(root.cert_pem().starts_with("-----BEGIN CERTIFICATE-----\nMII") && root.cert_pem().ends_with("-----\n"));
    assert_eq!(root.id(), check(&cert, &key).expect("it is taken").id());
}

#[test]
fn a_pair_must_be_one() {
    let (cert, key) = self_signed(|_| {});
    let (_, other_key) = self_signed(|_| {});
    let pair = |reason: &str| vec![format!(".: not a valid TLS key pair: {reason}")];
    let no_cert = pair("there is no PEM block CERTIFICATE in the certificate");
    let no_key = pair("there is no PEM block PRIVATE KEY in the key");
    for (cert, key, expected) in [
        ("", &*key, &no_cert),
        ("certificate", &key, &no_cert),
        (&*key, &key, &no_cert),
        (&cert, "", &no_key),
        (&cert, &cert, &no_key),
        (
            "-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----\n",
            &key,
            &pair("the certificate does not parse"),
        ),
        (&cert, &other_key, &pair("the private key does not belong to the certificate")),
        (
            &cert,
            "-----BEGIN PRIVATE KEY-----\naGk=\n-----END PRIVATE KEY-----\n",
            &pair("not a private key that can sign (RSA of 2048 bits or more, or ECDSA)"),
        ),
        (&cert, "-----BEGIN PRIVATE KEY-----\naGk=\n", &pair("the block of the key has no end")),
        (
            &cert,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\naGk=\n-----END ENCRYPTED PRIVATE KEY-----\n",
            &pair("the key is encrypted: decrypt it first"),
        ),
    ] {
        assert_eq!(&refused(cert, key), expected, "{cert} {}", key.len());
    }
}

#[test]
fn no_chains() {
    let (cert, key) = self_signed(|_| {});
    let (other, _) = self_signed(|_| {});
    assert_eq!(
        refused(&format!("{cert}{other}"), &key),
        ["cert: certificate must be a root CA (certificate chains are not allowed)"]
    );
}

#[test]
fn no_intermediates() {
    let root = Issuer::new(params(), key());
    let (mut intermediate, key) = (params(), key());
    intermediate.distinguished_name.push(DnType::CommonName, "Example intermediate");
    let cert = intermediate.signed_by(&key, &root).expect("a certificate").pem();
    assert_eq!(refused(&cert, &key.serialize_pem()), [SELF_SIGNED]);
}

#[test]
fn it_must_be_a_ca_that_signs_certificates_and_nothing_else() {
    let (cert, key) = self_signed(|params| params.is_ca = IsCa::ExplicitNoCa);
    assert_eq!(refused(&cert, &key), [CA]);
    let (cert, key) = self_signed(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    assert_eq!(refused(&cert, &key), [CERT_SIGN]);
    let (cert, key) = self_signed(|params| params.key_usages = Vec::new());
    assert_eq!(refused(&cert, &key), [CERT_SIGN]);
    for (usage, name) in [
        (KeyUsagePurpose::DigitalSignature, "digitalSignature"),
        (KeyUsagePurpose::KeyAgreement, "keyAgreement"),
        (KeyUsagePurpose::KeyEncipherment, "keyEncipherment"),
    ] {
        let (cert, key) = self_signed(|params| params.key_usages.push(usage));
        assert_eq!(refused(&cert, &key), [must_not(name)]);
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let root = Issuer::new(params(), key());
    let (mut leaf, key) = (params(), key());
    leaf.distinguished_name.push(DnType::CommonName, "web");
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement, KeyUsagePurpose::KeyEncipherment];
    let cert = leaf.signed_by(&key, &root).expect("a certificate").pem();
    let expected = [SELF_SIGNED, CA, CERT_SIGN].map(str::to_owned).into_iter();
    let expected = expected.chain(["digitalSignature", "keyAgreement", "keyEncipherment"].map(must_not));
    assert_eq!(refused(&cert, &key.serialize_pem()), expected.collect::<Vec<_>>());
}

#[test]
fn nobody_would_accept_what_a_root_out_of_its_time_signs() {
    let (cert, key) = self_signed(|params| params.not_after = date_time_ymd(2020, 1, 1));
    assert_eq!(refused(&cert, &key), ["cert: certificate must be valid: it ended at Jan  1 00:00:00 2020 +00:00"]);
    let (cert, key) = self_signed(|params| params.not_before = date_time_ymd(2021, 1, 1));
    assert_eq!(refused(&cert, &key), ["cert: certificate must be valid: it begins at Jan  1 00:00:00 2021 +00:00"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any input gives a root or reasons, and the reasons have no part of the key.
    #[test]
    fn garbage_is_refused(cert in ".{0,200}", key in ".{0,200}", at in 0..2000usize, byte in 0..128u8) {
        prop_assert!(check(&cert, &key).is_err());
        let (good_cert, good_key) = self_signed(|_| {});
        let damaged = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            String::from_utf8(bytes).expect("ASCII")
        };
        for (cert, key) in [(damaged(&good_cert), good_key.clone()), (good_cert, damaged(&good_key)),
            (cert, good_key.clone())] {
            if let Err(reasons) = check(&cert, &key) {
                let body = good_key.lines().nth(1).expect("a key");
                prop_assert!(!reasons.is_empty() && !reasons.join(" ").contains(body));
            }
        }
    }
}
