//! Private keys: those that sign here, and those that are created for a leaf certificate and only written as text.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_RSA_SHA256};
use rcgen::{PublicKeyData, SignatureAlgorithm};
use zeroize::Zeroize;

use crate::{CaError, Secret};

/// A private key, both parsed and as PEM text. The library's copy of its bytes is overwritten on drop.
pub(crate) struct PrivateKey {
    pair: rcgen::KeyPair,
    pem: Secret,
}

impl PrivateKey {
    /// A new ECDSA P-256 key.
    pub(crate) fn generate_p256() -> Result<PrivateKey, CaError> {
        PrivateKey::generate(&PKCS_ECDSA_P256_SHA256).map_err(CaError::crypto("make an ECDSA key"))
    }

    /// A new RSA key of 2048 bits. It takes a tenth of a second or more.
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
        // The library's error may quote its input, so it is dropped.
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

/// A new ECDSA P-256 key for a leaf certificate, which needs only the public half here. A [`PrivateKey`] would parse
/// and check the key as well, which costs as much as creating it.
pub(crate) struct LeafKey {
    public: Vec<u8>,
    pem: Secret,
}

impl LeafKey {
    pub(crate) fn generate() -> Result<LeafKey, CaError> {
        let unspecified = |_| CaError::crypto("make an ECDSA key")(rcgen::Error::RemoteKeyError);
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(unspecified)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(unspecified)?;
        Ok(LeafKey { public: pair.public_key().as_ref().to_vec(), pem: Secret::new(private_key_pem(pkcs8.as_ref())) })
    }

    /// The key in PEM: PKCS#8.
    pub(crate) fn pem(&self) -> &Secret {
        &self.pem
    }
}

impl PublicKeyData for LeafKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn private_key_pem(pkcs8: &[u8]) -> String {
    // Enough capacity for all of it, so that growing leaves no copy of the key in memory.
    let mut pem = String::with_capacity(64 + pkcs8.len() * 2);
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for line in pkcs8.chunks(48) {
        STANDARD.encode_string(line, &mut pem);
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_leaf_key_is_that_of_its_certificate() {
        let leaf = LeafKey::generate().expect("a key");
        let read = PrivateKey::from_pem(leaf.pem().expose()).expect("what was written");
        assert_eq!(read.subject_public_key_info(), leaf.subject_public_key_info());
        assert_eq!(read.pair.serialize_pem(), leaf.pem().expose(), "as the library writes it");
    }
}
