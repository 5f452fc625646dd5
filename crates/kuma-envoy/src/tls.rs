//! TLS between proxies: each side proves its SPIFFE id.

use envoy_api::Any;
use envoy_api::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_api::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy_api::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SubjectAltNameMatcher, TlsParameters,
    UpstreamTlsContext,
};
use envoy_api::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};

use crate::key::Peer;
use crate::{ads, names};

/// The groups of the key exchange, the preferred one first: a hybrid with ML-KEM, so that recorded traffic stays
/// secret from a quantum computer, and what peers have that lack it.
pub(crate) const KEY_EXCHANGE: [&str; 3] = ["X25519MLKEM768", "X25519", "P-256"];

/// The server's side. The secret `allowed` holds the identities that it admits.
pub(crate) fn downstream(allowed: &str) -> TransportSocket {
    socket(Any::pack(&DownstreamTlsContext {
        common_tls_context: Some(common(ValidationContextType::ValidationContextSdsSecretConfig(ads::secret(allowed)))),
        require_client_certificate: Some(true),
        ..DownstreamTlsContext::default()
    }))
}

/// The client's side. The server needs a certificate of the mesh's CA with this SPIFFE id.
pub(crate) fn upstream(spiffe_id: &str) -> TransportSocket {
    let validation = CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: vec![san(exact(spiffe_id))],
            ..CertificateValidationContext::default()
        }),
        validation_context_sds_secret_config: Some(ads::secret(names::MESH_CA)),
    };
    socket(Any::pack(&UpstreamTlsContext {
        common_tls_context: Some(common(ValidationContextType::CombinedValidationContext(validation))),
        ..UpstreamTlsContext::default()
    }))
}

/// A name that a certificate must have.
pub(crate) fn san(matcher: StringMatcher) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher { san_type: SanType::Uri as i32, matcher: Some(matcher), ..SubjectAltNameMatcher::default() }
}

/// Matches the SPIFFE ids of a peer, in a certificate and in RBAC alike.
pub(crate) fn matcher(peer: &Peer) -> StringMatcher {
    match peer {
        Peer::Service(id) => exact(id),
        Peer::Mesh(prefix) => pattern(MatchPattern::Prefix(prefix.to_string())),
    }
}

pub(crate) fn exact(text: &str) -> StringMatcher {
    pattern(MatchPattern::Exact(text.to_owned()))
}

fn pattern(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() }
}

fn common(validation: ValidationContextType) -> CommonTlsContext {
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv12 as i32,
            // The default of Envoy as a client is TLS 1.2.
            tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
            ecdh_curves: KEY_EXCHANGE.map(str::to_owned).into(),
            ..TlsParameters::default()
        }),
        tls_certificate_sds_secret_configs: vec![ads::secret(names::IDENTITY_CERT)],
        validation_context_type: Some(validation),
        ..CommonTlsContext::default()
    }
}

fn socket(config: Any) -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(config)),
    }
}
