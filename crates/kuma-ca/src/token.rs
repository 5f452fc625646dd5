//! Dataplane tokens: a JWT that says which Dataplane of which mesh its bearer is.
//!
//! Tokens are parsed here, in some fifty lines, without a JWT library: a key is used with one algorithm only, whatever
//! the token says; `kid` must be a string; time is an argument; and no claim is read before its signature is verified.
//! The tests compare with a JWT library.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{PublicKeyData, SigningKey as _};
use serde::{Deserialize, Serialize};

use crate::key::PrivateKey;
use crate::time::{from_unix, unix_seconds};
use crate::{CaError, ImportedKey, Secret};

/// The longest token that is parsed. Tokens with the longest names have some 700 bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, 3.3), the algorithm of the tokens that are issued here.
const ALGORITHM: &str = "RS256";

/// HMAC with SHA-256 (RFC 7518, 3.2), the algorithm of the original Kuma's tokens. See [`ImportedKey`].
const IMPORTED_ALGORITHM: &str = "HS256";

/// Signs dataplane tokens: an RSA key of 2048 bits.
pub struct SigningKey {
    key: PrivateKey,
    public: VerifyingKey,
}

/// The public half of a [`SigningKey`], which verifies tokens.
#[derive(Clone)]
pub struct VerifyingKey {
    id: String,
    key: ParsedPublicKey,
}

/// Verifies tokens by the keys in use. It is cheap and has no locks.
#[derive(Clone, Debug, Default)]
pub struct TokenVerifier {
    keys: BTreeMap<String, VerifyingKey>,
    imported: Option<ImportedKey>,
}

/// The claims of a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The Dataplane's mesh.
    pub mesh: String,
    /// The Dataplane's name.
    pub name: String,
    /// The key that signed it; see [`TokenVerifier::has_key`].
    pub key_id: String,
    /// When it expires, if it does.
    pub expires: Option<SystemTime>,
    /// Its id (`jti`). Tokens of earlier versions and of the original Kuma have none.
    pub id: Option<String>,
}

/// A new token.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token.
    pub token: Secret,
    /// Its id, which may be logged: 32 hexadecimal digits.
    pub id: String,
}

/// Why a token is not accepted. The messages are constant and reveal nothing about keys or the token's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// Too long, not three parts, not base64url, not the expected JSON, or a claim of the wrong type or twice.
    #[error("not a dataplane token")]
    Malformed,
    /// The header names an algorithm other than RS256.
    #[error("not signed with RS256")]
    WrongAlgorithm,
    /// It was signed by a key that is not in use, or not any more.
    #[error("signing key changed: ask for a new token")]
    UnknownKey,
    /// The signature does not match.
    #[error("wrong signature")]
    BadSignature,
    /// `Name` or `Mesh` is missing or empty.
    #[error("no dataplane name or mesh in the token")]
    MissingClaim,
    /// It has expired.
    #[error("the token has expired")]
    Expired,
}

#[derive(Serialize)]
struct HeaderOut<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

#[derive(Serialize)]
struct ClaimsOut<'a> {
    #[serde(rename = "Name")]
    name: &'a str,
    #[serde(rename = "Mesh")]
    mesh: &'a str,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    jti: &'a str,
}

// Derived implementations of Deserialize refuse duplicate fields. Otherwise two parsers could read different identities
// from one token.
#[derive(Deserialize)]
struct HeaderIn {
    alg: String,
    kid: Option<String>,
    /// Extensions that a verifier must support (RFC 7515, 4.1.11). None is supported here.
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct ClaimsIn {
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "Mesh", default)]
    mesh: String,
    exp: Option<u64>,
    jti: Option<String>,
}

impl SigningKey {
    /// A new key. It takes a tenth of a second or more, so an async program must run it where blocking is allowed.
    ///
    /// # Errors
    /// [`CaError::Crypto`] when the library refuses.
    pub fn generate() -> Result<SigningKey, CaError> {
        SigningKey::new(PrivateKey::generate_rsa()?)
    }

    /// Reads an RSA key of 2048 bits or more in PEM, PKCS#8 or PKCS#1.
    ///
    /// # Errors
    /// [`CaError::Key`] for anything else.
    pub fn from_pem(pem: &Secret) -> Result<SigningKey, CaError> {
        SigningKey::new(PrivateKey::from_pem(pem.expose())?)
    }

    fn new(key: PrivateKey) -> Result<SigningKey, CaError> {
        if !key.is_rsa() {
            return Err(CaError::Key);
        }
        let public = VerifyingKey::new(key.der_bytes())?;
        Ok(SigningKey { key, public })
    }

    /// The private key in PEM: PKCS#8 if it was generated here, otherwise as it was given.
    pub fn to_pem(&self) -> &Secret {
        self.key.pem()
    }

    /// The id of the key in tokens (`kid`).
    pub fn id(&self) -> &str {
        &self.public.id
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.public.clone()
    }

    /// A token for Dataplane `name` of `mesh`, with the time of issue and an id. It expires after `valid_for`, to the
    /// second; without it, never.
    ///
    /// # Errors
    /// [`CaError::Crypto`] when the library refuses.
    pub fn issue_token(
        &self,
        mesh: &str,
        name: &str,
        valid_for: Option<Duration>,
        now: SystemTime,
    ) -> Result<IssuedToken, CaError> {
        let header = HeaderOut { alg: ALGORITHM, kid: self.id(), typ: "JWT" };
        let (id, iat) = (random_id()?, unix_seconds(now));
        let exp = valid_for.map(|valid_for| iat.saturating_add(valid_for.as_nanos().div_ceil(1_000_000_000) as u64));
        let claims = ClaimsOut { name, mesh, iat, exp, jti: &id };
        let mut token = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(token.as_bytes()).map_err(CaError::crypto("sign a token"))?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(IssuedToken { token: Secret::new(token), id })
    }
}

impl VerifyingKey {
    /// From an RSAPublicKey of RFC 8017 in DER.
    fn new(der: &[u8]) -> Result<VerifyingKey, CaError> {
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).parse().map_err(|_| CaError::Key)?;
        let hash = digest(&SHA256, der);
        let id = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(VerifyingKey { id, key })
    }

    /// The id of the key in tokens: the first 16 hexadecimal digits of the SHA-256 of the public key.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl TokenVerifier {
    /// Accepts tokens signed by any of `keys`; without keys, none.
    pub fn new(keys: impl IntoIterator<Item = VerifyingKey>) -> TokenVerifier {
        TokenVerifier { keys: keys.into_iter().map(|key| (key.id.clone(), key)).collect(), imported: None }
    }

    /// Accepts tokens of the original Kuma, too, signed with the key that was taken over from it.
    #[must_use]
    pub fn with_imported(self, key: Option<ImportedKey>) -> TokenVerifier {
        TokenVerifier { imported: key, ..self }
    }

    /// Whether tokens of the key with this id are accepted. Open streams are checked again when a key is retired.
    pub fn has_key(&self, id: &str) -> bool {
        self.keys.contains_key(id) || self.imported.is_some() && id == ImportedKey::ID
    }

    /// Verifies a token from an `authorization` header, with or without `Bearer` in front.
    ///
    /// # Errors
    /// [`TokenError`]. Any input costs at most one RSA verification.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let token = without_scheme(token.trim_ascii());
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        if payload.contains('.') {
            return Err(TokenError::Malformed);
        }

        let HeaderIn { alg, kid, crit } = decode(header)?;
        if crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let signature = || URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed);
        // The algorithm and the presence of a key id select the key. A key is used with its own algorithm only, so
        // that the public key of one is never the secret of the other.
        let key_id = match (&self.imported, kid) {
            (Some(imported), None) if alg == IMPORTED_ALGORITHM => {
                if !imported.verifies(signed.as_bytes(), &signature()?) {
                    return Err(TokenError::BadSignature);
                }
                ImportedKey::ID
            }
            _ if alg != ALGORITHM => return Err(TokenError::WrongAlgorithm),
            (_, None) => return Err(TokenError::Malformed),
            (_, Some(kid)) => {
                let VerifyingKey { id, key } = self.keys.get(&kid).ok_or(TokenError::UnknownKey)?;
                key.verify_sig(signed.as_bytes(), &signature()?).map_err(|_| TokenError::BadSignature)?;
                id
            }
        };

        let ClaimsIn { name, mesh, exp, jti } = decode(payload)?;
        if name.is_empty() || mesh.is_empty() {
            return Err(TokenError::MissingClaim);
        }
        if exp.is_some_and(|exp| exp <= unix_seconds(now)) {
            return Err(TokenError::Expired);
        }
        Ok(Claims { mesh, name, key_id: key_id.to_owned(), expires: exp.map(from_unix), id: jti })
    }
}

/// 128 random bits.
fn random_id() -> Result<String, CaError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| CaError::crypto("make the id of a token")(rcgen::Error::RemoteKeyError))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Removes `Bearer`, in upper or lower case (RFC 9110, 11.1). Many clients send it; Envoy sends the token alone.
fn without_scheme(token: &str) -> &str {
    match token.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_ascii_start(),
        _ => token,
    }
}

fn encode(part: &impl Serialize) -> String {
    // Serialising structs of strings and numbers cannot fail.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).unwrap_or_default())
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, TokenError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)
}

/// Shows the key's id.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.public.id).finish_non_exhaustive()
    }
}

/// Shows the key's id.
impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey").field("id", &self.id).finish_non_exhaustive()
    }
}
