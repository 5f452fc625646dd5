//! Secrets, which are sent by SDS: a proxy's own certificate, and what it trusts.

use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use envoy_api::ResourceType;
use envoy_api::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret::Type,
};

use crate::encode::{Encoded, resource};
use crate::key::Peer;
use crate::{names, tls};

/// A proxy's own certificate and key, both PEM. `chain_pem` is the certificate, followed by its chain if it has one.
pub fn identity_secret(name: &str, chain_pem: &str, key_pem: &str) -> Encoded {
    let secret = Secret {
        name: name.to_owned(),
        r#type: Some(Type::TlsCertificate(TlsCertificate {
            certificate_chain: Some(inline(chain_pem)),
            private_key: Some(inline(key_pem)),
            ..TlsCertificate::default()
        })),
    };
    resource(ResourceType::Secret, name.into(), &secret)
}

/// The roots of the mesh's CA.
pub(crate) fn mesh_ca(roots: &str) -> Secret {
    validation(names::MESH_CA, CertificateValidationContext { trusted_ca: Some(inline(roots)), ..Default::default() })
}

/// The clients that an inbound's TLS handshake admits: certificates of the mesh's CA with one of these identities.
pub(crate) fn allowed_peers(name: &str, roots: &str, peers: &[Peer]) -> Secret {
    // An empty list would admit every certificate of the CA.
    let nobody = Peer::Service(Arc::from(names::NOBODY));
    let peers = if peers.is_empty() { slice::from_ref(&nobody) } else { peers };
    validation(
        name,
        CertificateValidationContext {
            trusted_ca: Some(inline(roots)),
            match_typed_subject_alt_names: peers.iter().map(|peer| tls::san(tls::matcher(peer))).collect(),
            ..CertificateValidationContext::default()
        },
    )
}

fn validation(name: &str, context: CertificateValidationContext) -> Secret {
    Secret { name: name.to_owned(), r#type: Some(Type::ValidationContext(context)) }
}

fn inline(pem: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineBytes(Bytes::copy_from_slice(pem.as_bytes()))),
        ..DataSource::default()
    }
}
