//! The key with which the original Kuma (0.3, 0.4) signs dataplane tokens, where its data was taken over.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kuma_model::{Document, Key, NO_MESH, SECRET_KIND};
use serde_json::Value;
use zeroize::Zeroizing;

/// The name of the Secret that holds it.
const NAME: &str = "imported-dataplane-token-key";

/// A secret that signs and verifies tokens: the HMAC key of the original Kuma, which are the bytes of a private RSA
/// key.
///
/// Whoever has it can issue tokens, so it is accepted only while an operator has taken it over. Nothing is signed with
/// it here.
#[derive(Clone)]
pub struct ImportedKey {
    bytes: Zeroizing<Vec<u8>>,
}

impl ImportedKey {
    /// Keys shorter than the output of SHA-256 are refused (RFC 7518, 3.2).
    pub const SHORTEST: usize = 32;

    /// The id that claims verified by it have, in place of a key id in the token: the original writes none.
    pub const ID: &str = "imported";

    /// The key with these bytes; `None` if they are too few.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Option<ImportedKey> {
        (bytes.len() >= ImportedKey::SHORTEST).then_some(ImportedKey { bytes })
    }

    /// The key of the Secret in which a store keeps it.
    pub fn key() -> Key {
        Key::new(SECRET_KIND, NO_MESH, NAME)
    }

    /// The Secret in which a store keeps it.
    pub fn document(&self) -> Document {
        Document { key: ImportedKey::key(), spec: BASE64.encode(&self.bytes).into() }
    }

    /// Reads the spec of that Secret; `None` if it is damaged.
    pub fn read(spec: &Value) -> Option<ImportedKey> {
        ImportedKey::new(Zeroizing::new(BASE64.decode(spec.as_str()?).ok()?))
    }

    /// Whether this is the signature (HMAC with SHA-256) of what was signed. It takes as long for every signature.
    pub(crate) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.bytes);
        hmac::verify(&key, signed, signature).is_ok()
    }
}

/// Shows nothing of the key.
impl fmt::Debug for ImportedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportedKey").finish_non_exhaustive()
    }
}
