//! Secrets sealed for a store: whoever has its database, or a backup of it, and not the keys reads none.
//!
//! A sealed spec is `{"sealed": "ID:BASE64"}`: the id of the key, and AES-256-GCM of the JSON text behind its nonce.
//! Kind, mesh and name of the document are authenticated with it, so that no secret can be put in another's place.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kuma_model::Key;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// The one field of a sealed spec.
const SEALED: &str = "sealed";

/// Length of a key in bytes.
const KEY_LEN: usize = 32;

/// Keys that open secrets; the first one seals. Without keys, secrets stay as they are.
#[derive(Default)]
pub struct SealingKeys {
    keys: Vec<(String, RandomizedNonceKey)>,
}

/// Why a list of keys cannot be used. It shows nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealingKeysError {
    /// There is no key in it.
    #[error("there is no key in it; a line is an id, a space and 32 random bytes in base64")]
    Empty,
    /// A line is not an id and a key.
    #[error("line {0}: must be an id, a space and 32 random bytes in base64")]
    Line(usize),
    /// An id holds what it must not.
    #[error("line {0}: the id may have letters, digits, `-`, `_` and `.`, 63 at most")]
    Id(usize),
    /// A key has another length.
    #[error("line {line}: the key has {length} bytes, and must have 32")]
    Length {
        /// Counted from 1.
        line: usize,
        /// In bytes.
        length: usize,
    },
    /// Two keys have one id.
    #[error("line {0}: there is another key with this id")]
    Twice(usize),
}

/// Why a secret cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Its key is not there.
    #[error("it is sealed with the key {0:?}, which is not there")]
    UnknownKey(String),
    /// It was changed, belongs to another document, or the key of this id is another one now.
    #[error("it is not what was sealed with the key {0:?}: it was changed, or that key is another one now")]
    Damaged(String),
}

impl SealingKeys {
    /// Reads a list: a key in each line, as its id, a space and its 32 bytes in base64. Empty lines and lines that
    /// begin with `#` are left out.
    ///
    /// # Errors
    /// See [`SealingKeysError`].
    pub fn parse(text: &str) -> Result<SealingKeys, SealingKeysError> {
        let mut keys: Vec<(String, RandomizedNonceKey)> = Vec::new();
        for (line, content) in (1..).zip(text.lines().map(str::trim)) {
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let (id, encoded) = content.split_once(char::is_whitespace).ok_or(SealingKeysError::Line(line))?;
            let is_of_id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if id.len() > 63 || !id.chars().all(is_of_id) {
                return Err(SealingKeysError::Id(line));
            }
            let key = BASE64.decode(encoded.trim()).map(Zeroizing::new).map_err(|_| SealingKeysError::Line(line))?;
            if keys.iter().any(|(other, _)| other == id) {
                return Err(SealingKeysError::Twice(line));
            }
            let wrong_length = |_| SealingKeysError::Length { line, length: key.len() };
            let key = <&[u8; KEY_LEN]>::try_from(key.as_slice()).map_err(wrong_length)?;
            let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealingKeysError::Line(line))?;
            keys.push((id.to_owned(), key));
        }
        if keys.is_empty() { Err(SealingKeysError::Empty) } else { Ok(SealingKeys { keys }) }
    }

    /// The id of the key that seals, if there is one.
    pub fn sealing(&self) -> Option<&str> {
        self.keys.first().map(|(id, _)| id.as_str())
    }

    /// The sealed spec of a document with this JSON text; `None` without keys.
    pub fn seal(&self, document: &Key, text: &str) -> Option<Value> {
        let (id, key) = self.keys.first()?;
        let mut bytes = text.as_bytes().to_vec();
        // It fails only for texts of 64 GB and more.
        let nonce = key.seal_in_place_append_tag(bound_to(document), &mut bytes).ok()?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut bytes);
        Some(json!({ SEALED: format!("{id}:{}", BASE64.encode(sealed)) }))
    }

    /// The JSON text that was sealed; `None` if the spec is not a sealed one.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, document: &Key, spec: &Value) -> Result<Option<Zeroizing<String>>, OpenError> {
        let Some((id, sealed)) = parts(spec) else { return Ok(None) };
        let known = self.keys.iter().find(|(known, _)| known == id);
        let (_, key) = known.ok_or_else(|| OpenError::UnknownKey(id.to_owned()))?;
        let opened = || {
            let sealed = BASE64.decode(sealed).ok()?;
            let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut bytes = Zeroizing::new(text.to_vec());
            let length = key.open_in_place(nonce, bound_to(document), &mut bytes).ok()?.len();
            Some(Zeroizing::new(std::str::from_utf8(bytes.get(..length)?).ok()?.to_owned()))
        };
        opened().map(Some).ok_or_else(|| OpenError::Damaged(id.to_owned()))
    }
}

/// Shows the ids alone.
impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

/// The id of the key that a spec is sealed with, if it is sealed.
pub fn sealed_with(spec: &Value) -> Option<&str> {
    parts(spec).map(|(id, _)| id)
}

/// The id of the key, and what is sealed.
fn parts(spec: &Value) -> Option<(&str, &str)> {
    let fields = spec.as_object().filter(|fields| fields.len() == 1)?;
    fields.get(SEALED)?.as_str()?.split_once(':')
}

/// Names hold no zeros, so that no two documents have the same bytes.
fn bound_to(document: &Key) -> Aad<Vec<u8>> {
    Aad::from([document.kind, &*document.mesh, &*document.name].join("\0").into_bytes())
}
