//! A private key that can sign, whatever its type.

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_RSA_SHA256};
use rcgen::{PublicKeyData, SignatureAlgorithm};
use zeroize::Zeroize;

use crate::{CaError, Secret};

/// A private key, kept parsed, beside its PEM text. The library's own copy of its bytes is overwritten on drop.
pub(crate) struct PrivateKey {
    pair: rcgen::KeyPair,
    pem: Secret,
}

impl PrivateKey {
    /// A new ECDSA P-256 key.
    pub(crate) fn generate_p256() -> Result<PrivateKey, CaError> {
        PrivateKey::generate(&PKCS_ECDSA_P256_SHA256).map_err(CaError::crypto("make an ECDSA key"))
    }

    /// A new RSA key of 2048 bits, the library's size for this algorithm. It takes a tenth of a second or more.
    pub(crate) fn generate_rsa() -> Result<PrivateKey, CaError> {
        PrivateKey::generate(&PKCS_RSA_SHA256).map_err(CaError::crypto("make an RSA key"))
    }

    fn generate(algorithm: &'static SignatureAlgorithm) -> Result<PrivateKey, rcgen::Error> {
        let pair = rcgen::KeyPair::generate_for(algorithm)?;
        let pem = Secret::new(pair.serialize_pem());
        Ok(PrivateKey { pair, pem })
    }

    /// Reads PKCS#8, PKCS#1 or SEC1 in PEM.
    pub(crate) fn from_pem(pem: &str) -> Result<PrivateKey, CaError> {
        // The library's reason may quote what it read, so it goes no further.
        let pair = rcgen::KeyPair::from_pem(pem).map_err(|_| CaError::Key)?;
        let known = [&PKCS_RSA_SHA256, &PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P521_SHA512];
        if !known.contains(&pair.algorithm()) {
            return Err(CaError::Key);
        }
        Ok(PrivateKey { pair, pem: Secret::new(pem.to_string()) })
    }

    /// The key in PEM: PKCS#8 if it was generated here, else as it was given.
    pub(crate) fn pem(&self) -> &Secret {
        &self.pem
    }

    /// Whether this is an RSA key, the only type that signs tokens.
    pub(crate) fn is_rsa(&self) -> bool {
        self.pair.algorithm() == &PKCS_RSA_SHA256
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.pair.zeroize();
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.pair.algorithm()
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.pair.sign(message)
    }
}
