//! The stored form of a mesh's CAs: Secrets `builtinca.<mesh>` and `providedca.<mesh>`.
//!
//! The builtin one is in its mesh. The provided one is in no mesh, because it can exist before its Mesh; it is deleted
//! together with the Mesh.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kuma_model::{Ca, Document, Key, NO_MESH, SECRET_KIND};
use serde_json::{Value, json};

use crate::sealing::sealed_with;
use crate::{CaError, Change, MeshRoots, OldRoot, Other, Root, RootState, Secret, id_of_pem};

/// Why the stored form of a CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MeshSecretError {
    /// It is damaged. The message describes the error and holds none of the content.
    #[error("the stored CA of a mesh cannot be read: {0}")]
    Damaged(&'static str),
    /// The store could not open it.
    #[error(
        "the stored CA of the mesh is sealed with the key {0:?}, which store.secretsKeyFile \
         (KUMA_STORE_SECRETS_KEY_FILE) does not have or has otherwise: add it there and start kuma-cp again"
    )]
    Sealed(String),
    /// Its certificate and key cannot be used.
    #[error("the CA of a mesh cannot be used")]
    Ca(#[from] CaError),
}

/// Prefix of the name of the Secret that holds the builtin CA of a mesh.
pub const BUILTIN: &str = "builtinca.";
/// Prefix of the name of the Secret that holds the provided CA of a mesh.
pub const PROVIDED: &str = "providedca.";

/// Key of the Secret that holds a CA of `mesh`.
pub fn key(ca: Ca, mesh: &str) -> Key {
    match ca {
        Ca::Builtin => Key::new(SECRET_KIND, mesh, &format!("{BUILTIN}{mesh}")),
        Ca::Provided => Key::new(SECRET_KIND, NO_MESH, &format!("{PROVIDED}{mesh}")),
    }
}

/// Which CA of its mesh the Secret of this key holds, if it holds one.
pub fn kind(key: &Key) -> Option<Ca> {
    let is_of = |ca| self::key(ca, mesh_of(key)) == *key;
    [Ca::Builtin, Ca::Provided].into_iter().find(|ca| is_of(*ca))
}

/// The mesh that a document concerns: the mesh that it is in, or for a provided CA the one in its name.
pub fn mesh_of(key: &Key) -> &str {
    match key.name.strip_prefix(PROVIDED) {
        Some(mesh) if key.kind == SECRET_KIND && *key.mesh == *NO_MESH => mesh,
        _ => &key.mesh,
    }
}

/// The field with the certificates in the stored form.
fn list_field(ca: Ca) -> &'static str {
    match ca {
        Ca::Builtin => "roots",
        Ca::Provided => "signingKeyCerts",
    }
}

/// The Secret that holds `roots`; a provided CA may have none.
pub fn document(ca: Ca, mesh: &str, roots: Option<&MeshRoots>) -> Document {
    let encode = |pem: &str| Value::from(BASE64.encode(pem));
    let mut list = Vec::new();
    for (cert, state) in roots.map(MeshRoots::trusted).unwrap_or_default() {
        let mut entry = json!({ "cert": encode(cert) });
        if ca == Ca::Provided {
            entry["id"] = id_of_pem(cert).unwrap_or_default().into();
        }
        let change = roots.and_then(MeshRoots::change).map(|change| &change.other);
        let key = match (state, change) {
            (RootState::Signing, _) => roots.map(|roots| roots.signing().key_pem()),
            (RootState::Next, Some(Other::Next(next))) => Some(next.key_pem()),
            _ => None,
        };
        if let Some(key) = key {
            entry["key"] = encode(key.expose());
        }
        list.push(entry);
    }
    let mut spec = json!({ list_field(ca): list });
    if let Some(Change { since, patience, other: _ }) = roots.and_then(MeshRoots::change) {
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        spec["rotation"] = json!({ "since": since });
        if let Some(patience) = patience {
            spec["rotation"]["patience"] = patience.as_secs().into();
        }
    }
    Document { key: key(ca, mesh), spec }
}

/// Reads what [`document`] has written; `None` if all certificates were deleted. The first certificate with a key
/// signs. A second one with a key will sign next; one without a key has signed before.
///
/// # Errors
/// If the spec is damaged. A damaged CA is never replaced by a new one, since proxies trust the old one.
pub fn read(ca: Ca, spec: &Value) -> Result<Option<MeshRoots>, MeshSecretError> {
    let damaged = MeshSecretError::Damaged;
    if let Some(id) = sealed_with(spec) {
        return Err(MeshSecretError::Sealed(id.to_owned()));
    }
    let list = spec.get(list_field(ca)).and_then(Value::as_array).ok_or(damaged("it has no list of roots"))?;
    let entries = list.iter().map(Entry::read).collect::<Result<Vec<_>, _>>()?;
    let (signing, other) = match entries.as_slice() {
        [] if ca == Ca::Provided => return Ok(None),
        [] => return Err(damaged("it has no roots")),
        [one] => (one.root()?, None),
        [old, signing] if old.key.is_none() => (signing.root()?, Some(Other::Old(OldRoot::from_pem(&old.cert)?))),
        [signing, next] => (signing.root()?, Some(Other::Next(next.root()?))),
        _ => return Err(damaged("it has more than two roots")),
    };
    let seconds = |field: &str| spec.get("rotation")?.get(field)?.as_u64().map(Duration::from_secs);
    let change = other.map(|other| Change {
        other,
        since: SystemTime::UNIX_EPOCH + seconds("since").unwrap_or_default(),
        patience: seconds("patience"),
    });
    Ok(Some(MeshRoots::with_change(signing, change)))
}

/// One certificate of the stored form.
struct Entry {
    cert: String,
    key: Option<Secret>,
}

impl Entry {
    fn read(entry: &Value) -> Result<Entry, MeshSecretError> {
        let decode = |text: &str| String::from_utf8(BASE64.decode(text).ok()?).ok();
        let field = |field: &str| entry.get(field)?.as_str().and_then(decode);
        let cert = field("cert").ok_or(MeshSecretError::Damaged("it has no certificate"))?;
        let key = match entry.get("key") {
            None => None,
            Some(_) => Some(field("key").ok_or(MeshSecretError::Damaged("a key in it is not text"))?.into()),
        };
        Ok(Entry { cert, key })
    }

    fn root(&self) -> Result<Root, MeshSecretError> {
        let key = self.key.as_ref().ok_or(MeshSecretError::Damaged("it has no key"))?;
        Ok(Root::from_pem(&self.cert, key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(mesh: &str) -> Root {
        Root::generate(mesh, SystemTime::now()).expect("makes a root")
    }

    fn since() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_580_000_000)
    }

    #[test]
    fn roots_survive_being_kept_at_every_step_of_a_change() {
        for ca in [Ca::Builtin, Ca::Provided] {
            let steady = || MeshRoots::new(root("demo"));
            let introduced =
                || steady().introduce(root("demo"), since(), Some(Duration::from_secs(60))).expect("introduces");
            for roots in
                [steady(), introduced(), introduced().advance(since()), introduced().advance(since()).advance(since())]
            {
                let document = document(ca, "demo", Some(&roots));
                assert_eq!(kind(&document.key), Some(ca));
                assert_eq!(mesh_of(&document.key), "demo");
                let back = read(ca, &document.spec).expect("reads").expect("has roots");
                assert_eq!(back.trusted(), roots.trusted());
                assert_eq!(back.signing().key_pem().expose(), roots.signing().key_pem().expose());
                assert_eq!(format!("{back:?}"), format!("{roots:?}"));
                let keys = document.spec[list_field(ca)].as_array().expect("a list");
                let keys = keys.iter().filter(|entry| entry.get("key").is_some()).count();
                let next = roots.trusted().iter().any(|(_, state)| *state == RootState::Next);
                assert_eq!(keys, if next { 2 } else { 1 }, "the key of an old root is kept");
            }
        }
        let empty = document(Ca::Provided, "demo", None);
        assert!(read(Ca::Provided, &empty.spec).expect("reads").is_none());
    }

    #[test]
    fn other_secrets_are_no_cas() {
        assert_eq!(kind(&Key::new(SECRET_KIND, "demo", "builtinca.other")), None);
        assert_eq!(kind(&Key::new(SECRET_KIND, "demo", "providedca.demo")), None);
        assert_eq!(kind(&Key::new(SECRET_KIND, NO_MESH, "dataplane-token-signing-key")), None);
        assert_eq!(kind(&Key::mesh("demo")), None);
    }

    #[test]
    fn damage_is_an_error() {
        for spec in [
            json!(null),
            json!({}),
            json!({"roots": []}),
            json!({"roots": [{"cert": "%%", "key": ""}]}),
            json!({"roots": [{"cert": "", "key": 1}]}),
            json!({"roots": [{"cert": "aGk="}]}),
            json!({"roots": [{"cert": "aGk=", "key": "aGk="}]}),
        ] {
            assert!(read(Ca::Builtin, &spec).is_err(), "{spec}");
        }
        assert!(read(Ca::Provided, &json!({"roots": []})).is_err());
    }
}
