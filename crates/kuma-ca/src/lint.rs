//! Checks a certificate by the X509-SVID document.

use x509_parser::extensions::{BasicConstraints, GeneralName, KeyUsage, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use crate::{mesh_id, service_id};

/// The violations of the X509-SVID rules by the first certificate of `cert_pem`, which may be a leaf or a signing
/// certificate.
///
/// It allows two things that the document does not: several ids in a leaf, one per service of its Dataplane, and colons
/// in them. It does not verify signatures and times; TLS libraries do.
pub fn svid_lint(cert_pem: &str) -> Vec<String> {
    let pem = match Pem::iter_from_buffer(cert_pem.as_bytes()).next() {
        Some(Ok(pem)) => pem,
        _ => return vec!["no PEM block".to_string()],
    };
    match pem.parse_x509() {
        Ok(cert) => lint(&cert),
        Err(error) => vec![format!("not a certificate: {error}")],
    }
}

fn lint(cert: &X509Certificate<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut require = |is_met: bool, rule: &str| {
        if !is_met {
            found.push(rule.to_string());
        }
    };

    let serial = cert.raw_serial();
    let positive = serial.first().is_some_and(|first| first & 0x80 == 0) && serial.iter().any(|byte| *byte != 0);
    require(positive && serial.len() <= 20, "serial: must be positive and at most 20 bytes (RFC 5280, 4.1.2.2)");
    require(cert.validity().not_before < cert.validity().not_after, "validity: must not be empty");
    require(cert.version().0 == 2, "version: must be 3");

    let extensions = Extensions::of(cert);
    let Extensions { basic_constraints, key_usage, uris, san_critical, other_names, .. } = &extensions;
    let is_ca = basic_constraints.as_ref().is_some_and(|(_, constraints)| constraints.ca);

    require(extensions.repeated.is_empty(), "extensions: none may appear twice (RFC 5280, 4.2)");
    require(!uris.is_empty(), "SAN: must have a URI (X509-SVID, 2)");
    require(*other_names == 0, "SAN: has something else beside URIs");
    require(
        uris.iter().all(|uri| is_spiffe_id(uri, is_ca)),
        "SAN: must hold SPIFFE ids, with a path for a leaf and without for a CA (X509-SVID, 2 and 3.2)",
    );
    let distinct: std::collections::BTreeSet<_> = uris.iter().collect();
    require(distinct.len() == uris.len(), "SAN: the same id is there twice");
    if cert.subject().iter_rdn().next().is_none() {
        require(*san_critical, "SAN: must be critical when there is no subject (RFC 5280, 4.2.1.6)");
    }

    match key_usage {
        None => require(false, "key usage: must be set (X509-SVID, 4.3)"),
        Some((critical, usage)) => {
            require(*critical, "key usage: must be critical (X509-SVID, 4.3)");
            if is_ca {
                require(usage.key_cert_sign(), "key usage: a CA must have keyCertSign (X509-SVID, 4.3)");
                require(
                    !usage.digital_signature(),
                    "key usage: a CA must not have digitalSignature (X509-SVID, appendix A)",
                );
            } else {
                require(usage.digital_signature(), "key usage: a leaf must have digitalSignature (X509-SVID, 4.3)");
                require(
                    !usage.key_cert_sign() && !usage.crl_sign(),
                    "key usage: a leaf must not have keyCertSign or cRLSign (X509-SVID, 4.3)",
                );
            }
        }
    }

    if is_ca {
        let critical = basic_constraints.as_ref().is_some_and(|(critical, _)| *critical);
        require(critical, "basic constraints: must be critical in a CA (RFC 5280, 4.2.1.9)");
        require(uris.len() <= 1, "SAN: a CA has one id");
    }
    if let Some((server, client)) = extensions.extended_key_usage {
        require(
            server && client,
            "extended key usage: must have both serverAuth and clientAuth when it is there (X509-SVID, 4.4)",
        );
    }
    found
}

/// The extensions that the rules concern.
#[derive(Default)]
struct Extensions<'a> {
    /// Critical, and the value.
    basic_constraints: Option<(bool, &'a BasicConstraints)>,
    key_usage: Option<(bool, &'a KeyUsage)>,
    /// Server, client.
    extended_key_usage: Option<(bool, bool)>,
    uris: Vec<&'a str>,
    other_names: usize,
    san_critical: bool,
    repeated: Vec<String>,
}

impl<'a> Extensions<'a> {
    fn of(cert: &'a X509Certificate<'_>) -> Extensions<'a> {
        let mut all = Extensions::default();
        let mut seen = std::collections::BTreeSet::new();
        for extension in cert.extensions() {
            let oid = extension.oid.to_id_string();
            if !seen.insert(oid.clone()) {
                all.repeated.push(oid);
            }
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(value) => all.basic_constraints = Some((extension.critical, value)),
                ParsedExtension::KeyUsage(value) => all.key_usage = Some((extension.critical, value)),
                ParsedExtension::ExtendedKeyUsage(value) => {
                    all.extended_key_usage = Some((value.server_auth, value.client_auth))
                }
                ParsedExtension::SubjectAlternativeName(value) => {
                    all.san_critical = extension.critical;
                    for name in &value.general_names {
                        match name {
                            GeneralName::URI(uri) => all.uris.push(uri),
                            _ => all.other_names += 1,
                        }
                    }
                }
                _ => {}
            }
        }
        all
    }
}

fn is_spiffe_id(uri: &str, is_ca: bool) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://") else {
        return false;
    };
    match rest.split_once('/') {
        None => is_ca && mesh_id(rest).is_ok(),
        Some((mesh, service)) => !is_ca && service_id(mesh, service).is_ok(),
    }
}
