//! Errors of certificates and keys. Tokens have an error of their own, [`TokenError`](crate::TokenError).

/// Why a key or certificate could not be created, read or used.
///
/// No variant carries key material, not even as its source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// The PEM text of a CA holds no certificate, more than one, or one that does not parse.
    #[error("not a CA certificate: {0}")]
    Certificate(String),
    /// The private key is not PEM, or of a type that we do not sign with (RSA from 2048 bits, ECDSA P-256, P-384,
    /// P-521).
    #[error("not a private key that can sign (RSA of 2048 bits or more, or ECDSA)")]
    Key,
    /// Certificate and private key do not belong together.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// The mesh is not usable as a SPIFFE trust domain.
    #[error("mesh {0:?} can't be a SPIFFE trust domain: only a-z, 0-9, '.', '-' and '_', at most 255")]
    TrustDomain(String),
    /// The service is not usable as the path of a SPIFFE id.
    #[error(
        "service {0:?} can't be in a SPIFFE id: only letters, digits, '.', '_', ':' and '-', at most 253, and not '.' \
         or '..'"
    )]
    Service(String),
    /// A certificate needs at least one service.
    #[error("there is no service to issue a certificate for")]
    NoService,
    /// A DNS name that can't be in a certificate.
    #[error("{0:?} can't be a DNS name in a certificate")]
    DnsName(String),
    /// The CA's own certificate has expired: verifiers would reject new certificates.
    #[error("the CA certificate has expired")]
    Expired,
    /// The cryptographic library refused.
    #[error("can't {attempt}")]
    Crypto {
        /// What was attempted, as a verb phrase.
        attempt: &'static str,
        /// The library's reason.
        source: rcgen::Error,
    },
}

impl CaError {
    /// For `map_err`: the library refused to do `attempt`.
    pub(crate) fn crypto(attempt: &'static str) -> impl FnOnce(rcgen::Error) -> CaError {
        move |source| CaError::Crypto { attempt, source }
    }
}
