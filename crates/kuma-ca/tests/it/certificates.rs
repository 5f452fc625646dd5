use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kuma_ca::{CaError, IdentityVersion, Leaf, LeafRequest, Root, Secret, XdsCa, svid_lint};
use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;

use crate::{DAY, MINUTE, now};

fn issue(root: &Root, services: &[&str]) -> Leaf {
    let services = services.iter().copied().collect();
    root.issue(&LeafRequest { mesh: "default", services: &services, validity: DAY, now: now() }).expect("issues")
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate in PEM")
}

fn trust(root_pem: &str) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(der(root_pem)).expect("a trust anchor");
    Arc::new(roots)
}

fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970"))
}

/// Verifies as a server does the certificate of a client. Names are not checked: Envoy matches SPIFFE ids itself.
fn verify(root_pem: &str, leaf: &Leaf, at: SystemTime) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(trust(root_pem), provider).build().expect("a verifier");
    verifier.verify_client_cert(&der(&leaf.chain_pem), &[], unix(at)).map(drop)
}

/// Verifies as a TLS client that knows the server by a name.
fn verify_server(root_pem: &str, leaf: &Leaf, name: &str) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(trust(root_pem), provider)
        .build()
        .expect("a verifier");
    let name = ServerName::try_from(name).expect("a name");
    verifier.verify_server_cert(&der(&leaf.chain_pem), &[], &name, &[], unix(now())).map(drop)
}

/// What rustls requires of a pair: the key parses and belongs to the certificate.
fn assert_usable(leaf: &Leaf) {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.expose().as_bytes()).expect("a key in PEM");
    let certified =
        rustls::sign::CertifiedKey::from_der(vec![der(&leaf.chain_pem)], key, &provider).expect("a usable pair");
    certified.keys_match().expect("the key is the certificate's");
}

#[test]
fn builtin_root_is_as_documented() {
    let root = Root::generate("default", now()).unwrap();
    assert_eq!(svid_lint(root.cert_pem()), Vec::<String>::new());

    let der = der(root.cert_pem());
    let (_, cert) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert_eq!(cert.subject().to_string(), "O=Kuma, OU=Mesh, CN=default");
    assert_eq!(cert.issuer(), cert.subject());
    let san = cert.subject_alternative_name().unwrap().unwrap();
    assert_eq!(san.value.general_names, vec![GeneralName::URI("spiffe://default")]);
    assert!(cert.basic_constraints().unwrap().unwrap().value.ca);
    let usage = cert.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    let validity = cert.validity();
    assert_eq!(validity.not_before.timestamp(), 1_580_000_000 - 300);
    assert_eq!(validity.not_after.timestamp(), 1_580_000_000 + 3650 * 24 * 3600);
    cert.verify_signature(None).expect("signed by itself");

    let other = Root::generate("default", now()).unwrap();
    assert_ne!(root.fingerprint(), other.fingerprint());
    assert!(matches!(Root::generate("a/b", now()), Err(CaError::TrustDomain(_))));
}

#[test]
fn leaf_is_as_documented_and_verifies() {
    let root = Root::generate("default", now()).unwrap();
    let leaf = issue(&root, &["web", "api", "shop.ns.svc:80"]);
    assert_eq!(svid_lint(&leaf.chain_pem), Vec::<String>::new());
    assert_usable(&leaf);

    let der = der(&leaf.chain_pem);
    let (_, cert) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert_eq!(cert.subject().iter().count(), 0);
    let san = cert.subject_alternative_name().unwrap().unwrap();
    assert!(san.critical);
    let ids = ["spiffe://default/api", "spiffe://default/shop.ns.svc:80", "spiffe://default/web"];
    assert_eq!(san.value.general_names, ids.map(GeneralName::URI));
    assert!(!cert.basic_constraints().unwrap().unwrap().value.ca);
    assert_eq!((leaf.not_before, leaf.not_after), (now() - 5 * MINUTE, now() + DAY));
    assert_eq!(cert.validity().not_after.timestamp(), 1_580_000_000 + 24 * 3600);

    verify(root.cert_pem(), &leaf, now()).expect("valid when issued");
    verify(root.cert_pem(), &leaf, now() - 4 * MINUTE).expect("valid where the clock is slow");
    verify(root.cert_pem(), &leaf, now() - 6 * MINUTE).expect_err("not valid long before");
    verify(root.cert_pem(), &leaf, now() + DAY + MINUTE).expect_err("not valid when it is over");
    let stranger = Root::generate("default", now()).unwrap();
    verify(stranger.cert_pem(), &leaf, now()).expect_err("another root with the same name did not sign it");
}

#[test]
fn every_leaf_has_its_own_key_and_serial() {
    let root = Root::generate("default", now()).unwrap();
    let leaves: Vec<_> = (0..20).map(|_| issue(&root, &["web"])).collect();
    let keys: BTreeSet<_> = leaves.iter().map(|leaf| leaf.key_pem.expose()).collect();
    let serials: BTreeSet<_> = leaves
        .iter()
        .map(|leaf| {
            let der = der(&leaf.chain_pem);
            let (_, cert) = x509_parser::parse_x509_certificate(&der).unwrap();
            cert.raw_serial().to_vec()
        })
        .collect();
    assert_eq!((keys.len(), serials.len()), (20, 20));
}

#[test]
fn names_outside_the_spiffe_alphabet_get_no_certificate() {
    let root = Root::generate("default", now()).unwrap();
    let issue = |mesh: &str, services: &[&str]| {
        let services = services.iter().copied().collect();
        root.issue(&LeafRequest { mesh, services: &services, validity: DAY, now: now() })
    };
    assert!(matches!(issue("default", &[]), Err(CaError::NoService)));
    assert!(matches!(issue("default", &["web", "../admin"]), Err(CaError::Service(name)) if name == "../admin"));
    assert!(matches!(issue("default", &["web\0"]), Err(CaError::Service(_))));
    assert!(matches!(issue("other/default", &["web"]), Err(CaError::TrustDomain(_))));
}

#[test]
fn a_leaf_does_not_outlive_its_root_and_an_expired_root_signs_nothing() {
    let root = Root::generate("default", now()).unwrap();
    let end = now() + 3650 * DAY;
    let services = BTreeSet::from(["web"]);
    let issue = |now| root.issue(&LeafRequest { mesh: "default", services: &services, validity: DAY, now });
    assert_eq!(issue(end - Duration::from_secs(3600)).unwrap().not_after, end);
    assert!(matches!(issue(end), Err(CaError::Expired)));
    assert!(matches!(issue(end + DAY), Err(CaError::Expired)));
}

#[test]
fn root_read_back_is_the_same_ca() {
    let root = Root::generate("default", now()).unwrap();
    let again = Root::from_pem(root.cert_pem(), root.key_pem()).unwrap();
    assert_eq!(again.fingerprint(), root.fingerprint());
    assert_eq!(again.key_pem().expose(), root.key_pem().expose());
    let leaf = issue(&again, &["web"]);
    verify(root.cert_pem(), &leaf, now()).expect("signed by the same CA");
}

/// A CA as a user could provide it. `change` may make it invalid.
fn provided(
    algorithm: &'static rcgen::SignatureAlgorithm,
    change: impl FnOnce(&mut rcgen::CertificateParams),
) -> (String, Secret) {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CountryName, "DE");
    params.distinguished_name.push(rcgen::DnType::CommonName, "Corporate root");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    change(&mut params);
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    (params.self_signed(&key).unwrap().pem(), Secret::new(key.serialize_pem()))
}

#[test]
fn provided_roots_of_every_usual_type_sign() {
    for algorithm in [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let (cert, key) = provided(algorithm, |_| {});
        let root = Root::from_pem(&cert, &key).expect("reads");
        let leaf = issue(&root, &["web"]);
        assert_eq!(svid_lint(&leaf.chain_pem), Vec::<String>::new());
        verify(&cert, &leaf, now()).expect("verifies");
        assert_usable(&leaf);
    }
}

#[test]
fn what_is_not_a_ca_with_its_key_is_refused() {
    let (cert, key) = provided(&rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let (_, other_key) = provided(&rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let (leaf, leaf_key) = provided(&rcgen::PKCS_ECDSA_P256_SHA256, |params| params.is_ca = rcgen::IsCa::ExplicitNoCa);
    let (_, ed_key) = provided(&rcgen::PKCS_ED25519, |_| {});
    let certificate = |error: Result<Root, CaError>| matches!(error, Err(CaError::Certificate(_)));

    assert!(certificate(Root::from_pem("", &key)));
    assert!(certificate(Root::from_pem("nonsense", &key)));
    assert!(certificate(Root::from_pem(&format!("{cert}{cert}"), &key)));
    assert!(certificate(Root::from_pem(key.expose(), &key)));
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(certificate(Root::from_pem(empty, &key)));
    assert!(certificate(Root::from_pem(&leaf, &leaf_key)));
    assert!(matches!(Root::from_pem(&cert, &other_key), Err(CaError::Mismatch)));
    assert!(matches!(Root::from_pem(&cert, &ed_key), Err(CaError::Key)));
    assert!(matches!(Root::from_pem(&cert, &Secret::new(cert.clone())), Err(CaError::Key)));
    assert!(matches!(Root::from_pem(&cert, &Secret::new(String::new())), Err(CaError::Key)));
}

#[test]
fn nothing_printed_shows_a_key() {
    let root = Root::generate("default", now()).unwrap();
    let leaf = issue(&root, &["web"]);
    let ca = XdsCa::generate(now()).unwrap();
    let printed = format!("{root:?} {leaf:#?} {ca:?} {}", root.key_pem());
    assert!(!printed.contains("PRIVATE"), "{printed}");
}

#[test]
fn xds_ca_signs_servers_for_names_and_addresses() {
    let ca = XdsCa::generate(now()).unwrap();
    let ca = XdsCa::from_pem(ca.cert_pem(), ca.key_pem()).unwrap();
    let addresses = ["127.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    let leaf = ca.issue_server(&["localhost", "kuma-control-plane.kuma-system"], &addresses, DAY, now()).unwrap();
    assert_usable(&leaf);
    for name in ["localhost", "kuma-control-plane.kuma-system", "127.0.0.1", "fd00::1"] {
        verify_server(ca.cert_pem(), &leaf, name).expect(name);
    }
    for name in ["example.com", "127.0.0.2"] {
        verify_server(ca.cert_pem(), &leaf, name).expect_err(name);
    }
    verify(ca.cert_pem(), &leaf, now()).expect_err("a server's certificate is no client's");
    assert!(matches!(ca.issue_server(&["bad name"], &[], DAY, now()), Err(CaError::DnsName(_))));
    assert!(matches!(ca.issue_server(&[], &[], DAY, now()), Err(CaError::NoService)));
}

#[test]
fn the_version_of_an_identity_survives_its_control_plane() {
    let root = Root::generate("default", now()).unwrap();
    let services = BTreeSet::from(["web"]);
    let leaf = issue(&root, &["web"]);
    let reported = IdentityVersion::new(root.identity_inputs("default", &services), leaf.not_after).to_string();

    let restarted = Root::from_pem(root.cert_pem(), root.key_pem()).unwrap();
    let reported: IdentityVersion = reported.parse().unwrap();
    assert!(reported.still_good(restarted.identity_inputs("default", &services), DAY, now() + 10 * MINUTE));
    assert!(!reported.still_good(restarted.identity_inputs("default", &BTreeSet::from(["api"])), DAY, now()));
    let other = Root::generate("default", now()).unwrap();
    assert!(!reported.still_good(other.identity_inputs("default", &services), DAY, now()));
    assert_eq!(reported.not_after(), leaf.not_after);
    assert!(leaf.renewal_time(0.0) == now() + DAY / 2 && leaf.renewal_time(1.0) <= now() + DAY * 2 / 3);
}

#[test]
fn lint_finds_what_is_wrong() {
    let check = |expected: &str, change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = vec![uri("spiffe://default/web")];
        change(&mut params);
        let key = rcgen::KeyPair::generate().unwrap();
        let found = svid_lint(&params.self_signed(&key).unwrap().pem());
        if expected.is_empty() {
            assert_eq!(found, Vec::<String>::new());
        } else {
            assert!(found.iter().any(|rule| rule.contains(expected)), "{expected:?} is not in {found:?}");
        }
    };
    fn uri(text: &str) -> rcgen::SanType {
        rcgen::SanType::URI(text.try_into().unwrap())
    }
    let ca = |params: &mut rcgen::CertificateParams| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params.subject_alt_names = vec![uri("spiffe://default")];
    };
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    use rcgen::KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign};

    check("", &|_| {});
    check("", &ca);
    check("must have a URI", &|p| p.subject_alt_names.clear());
    check("beside URIs", &|p| p.subject_alt_names.push(rcgen::SanType::DnsName("web".try_into().unwrap())));
    check("SPIFFE ids", &|p| p.subject_alt_names = vec![uri("https://default/web")]);
    check("SPIFFE ids", &|p| p.subject_alt_names = vec![uri("spiffe://default")]);
    check("SPIFFE ids", &|p| p.subject_alt_names = vec![uri("spiffe://default/")]);
    check("SPIFFE ids", &|p| p.subject_alt_names = vec![uri("spiffe://default/a/b")]);
    check("the same id", &|p| p.subject_alt_names.push(uri("spiffe://default/web")));
    check("key usage: must be set", &|p| p.key_usages.clear());
    check("must have digitalSignature", &|p| p.key_usages = vec![CrlSign]);
    check("must not have keyCertSign", &|p| p.key_usages = vec![DigitalSignature, KeyCertSign]);
    check("both serverAuth and clientAuth", &|p| p.extended_key_usages = vec![ServerAuth]);
    check("both serverAuth and clientAuth", &|p| p.extended_key_usages = vec![ClientAuth]);
    check("serial", &|p| p.serial_number = Some(rcgen::SerialNumber::from(0u64)));
    check("validity", &|p| p.not_after = p.not_before);
    check("a CA must have keyCertSign", &|p| {
        ca(p);
        p.key_usages = vec![CrlSign];
    });
    check("SPIFFE ids", &|p| {
        ca(p);
        p.subject_alt_names = vec![uri("spiffe://default/web")];
    });
    assert_eq!(svid_lint("nonsense"), ["no PEM block"]);
}

/// Names are compared byte for byte, and the library that writes ours keeps one part of each type. A root
/// whose certificates would not be accepted is refused.
#[test]
fn a_root_whose_subject_we_cannot_repeat_is_refused_and_says_so() {
    let error = Root::from_pem(TWO_UNITS_CERT, &Secret::new(TWO_UNITS_KEY.to_string()));
    let error = error.expect_err("two organizational units");
    assert!(error.to_string().contains("subject"), "{error}");
}

/// A CA with the subject O=Corp, OU=One, OU=Two, CN=Root, made for this test.
const TWO_UNITS_CERT: &str = "\
-----BEGIN CERTIFICATE-----
MIIB2zCCAYGgAwIBAgIUXfBtrhuSSdxhKSOe+f2ecjYFbvIwCgYIKoZIzj0EAwIw
OjENMAsGA1UECgwEQ29ycDEMMAoGA1UECwwDT25lMQwwCgYDVQQLDANUd28xDTAL
BgNVBAMMBFJvb3QwIBcNMjYxMTI0MTU0NDEyWhgPMjEyNjEwMzExNTQ0MTJaMDox
DTALBgNVBAoMBENvcnAxDDAKBgNVBAsMA09uZTEMMAoGA1UECwwDVHdvMQ0wCwYD
VQQDDARSb290MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEuSU3MqX8dIWNk90i
+Ygb6RSDavPSjRl5gmX9zIqO0LZ25JVRzp2QWTiLg9qOf4+fPFgUQTC1O4jO/Nfo
al7e86NjMGEwHQYDVR0OBBYEFE7AAZN6pGJosrxmUW0hvDS+1nmLMB8GA1UdIwQY
MBaAFE7AAZN6pGJosrxmUW0hvDS+1nmLMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0P
AQH/BAQDAgIEMAoGCCqGSM49BAMCA0gAMEUCIQDoSCRvw62R1wGLN7BtiBn8J+qu
/qNnVcoqB7g5bPbgwwIgbBMOrb+S950h0/SYFqzkpgRrieP/x+uRJFbWJ+9QpWc=
-----END CERTIFICATE-----";
const TWO_UNITS_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgcDM8PlOVZ+4ZQtjE
DkkR75DMnsL0mkE5LW7AfGNlSN2hRANCAAS5JTcypfx0hY2T3SL5iBvpFINq89KN
GXmCZf3Mio7QtnbklVHOnZBZOIuD2o5/j588WBRBMLU7iM781+hqXt7z
-----END PRIVATE KEY-----";
