//! The builtin CA of a mesh as it is kept: a Secret `builtinca.<mesh>` in that mesh.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kuma_ca::{CaError, Root};
use kuma_model::{Document, Key, SECRET_KIND};
use serde_json::{Value, json};

use crate::state_folder::{StateFolder, StateFolderError};

/// Why there is no CA.
#[derive(Debug, thiserror::Error)]
pub enum MeshCaError {
    /// The kept form is damaged: what is wrong with it, never what is in it.
    #[error("the kept CA of a mesh cannot be read: {0}")]
    Damaged(&'static str),
    /// Its certificate and key cannot be used, or a new one cannot be made.
    #[error("the CA of a mesh cannot be used")]
    Ca(#[from] CaError),
    /// The file with it cannot be used.
    #[error(
        "the CA of a mesh in {path} cannot be used; restore the file, or remove it and start the proxies of the mesh again",
        path = .0.display()
    )]
    Kept(std::path::PathBuf, #[source] Box<MeshCaError>),
    /// The state folder cannot be used.
    #[error("the CA of a mesh cannot be kept")]
    Folder(#[from] StateFolderError),
}

/// Where the CAs of meshes come from.
pub trait MeshAuthority: Send + Sync + 'static {
    /// The CA for a Mesh that is being created, as the Secret to be stored beside it. Blocks: it makes a key and may
    /// write a file.
    fn create_ca(&self, mesh: &str) -> Result<Document, MeshCaError>;

    /// The Mesh is deleted, and with it its CA. Blocks.
    fn forget_ca(&self, mesh: &str) -> Result<(), MeshCaError>;
}

/// For stores that last: the Secret in the store is the only copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct FreshRoots;

impl MeshAuthority for FreshRoots {
    fn create_ca(&self, mesh: &str) -> Result<Document, MeshCaError> {
        Ok(document(mesh, &Root::generate(mesh, SystemTime::now())?))
    }

    fn forget_ca(&self, _mesh: &str) -> Result<(), MeshCaError> {
        Ok(())
    }
}

/// For the memory store: a file in the state folder lets a mesh that is created again after a restart have the CA that
/// its proxies still trust.
#[derive(Debug)]
pub struct KeptRoots(pub std::sync::Arc<StateFolder>);

impl MeshAuthority for KeptRoots {
    fn create_ca(&self, mesh: &str) -> Result<Document, MeshCaError> {
        let key = key(mesh);
        let kept = match self.0.read(&key.name)? {
            Some(kept) => kept,
            None => {
                let fresh = document(mesh, &Root::generate(mesh, SystemTime::now())?);
                self.0.write_new(&key.name, fresh.spec.to_string().as_bytes())?
            }
        };
        let parsed = serde_json::from_slice(&kept).map_err(|_| MeshCaError::Damaged("it is not JSON"));
        match parsed.and_then(|spec| read(&spec).map(|_| spec)) {
            Ok(spec) => Ok(Document { key, spec }),
            Err(error) => Err(MeshCaError::Kept(self.0.path().join(&*key.name), Box::new(error))),
        }
    }

    fn forget_ca(&self, mesh: &str) -> Result<(), MeshCaError> {
        Ok(self.0.remove(&key(mesh).name)?)
    }
}

/// Key of the Secret that holds the builtin CA of `mesh`.
pub fn key(mesh: &str) -> Key {
    Key::new(SECRET_KIND, mesh, &format!("builtinca.{mesh}"))
}

/// Whether `key` is that of a builtin CA.
pub fn is_builtin_ca(key: &Key) -> bool {
    key.kind == SECRET_KIND && key.name.strip_prefix("builtinca.") == Some(&*key.mesh)
}

/// Key of the Secret that holds the CA that a user provided for `mesh`.
pub fn provided_key(mesh: &str) -> Key {
    Key::new(SECRET_KIND, mesh, &format!("providedca.{mesh}"))
}

/// The Secret that holds `root`.
pub fn document(mesh: &str, root: &Root) -> Document {
    let encode = |pem: &str| BASE64.encode(pem);
    let root = json!({ "cert": encode(root.cert_pem()), "key": encode(root.key_pem().expose()) });
    Document { key: key(mesh), spec: json!({ "roots": [root] }) }
}

/// The root that signs: the first one.
///
/// # Errors
/// If the spec is damaged. It is never replaced: proxies trust this very CA.
pub fn read(spec: &Value) -> Result<Root, MeshCaError> {
    let root = spec.get("roots").and_then(|roots| roots.get(0)).ok_or(MeshCaError::Damaged("it has no roots"))?;
    let decode = |field: &str| String::from_utf8(BASE64.decode(root.get(field)?.as_str()?).ok()?).ok();
    let certificate = decode("cert").ok_or(MeshCaError::Damaged("it has no certificate"))?;
    let key = decode("key").ok_or(MeshCaError::Damaged("it has no key"))?;
    Ok(Root::from_pem(&certificate, &key.into())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_survives_being_kept() {
        let root = Root::generate("demo", SystemTime::now()).expect("makes a root");
        let document = document("demo", &root);
        assert!(is_builtin_ca(&document.key));
        assert!(!is_builtin_ca(&provided_key("demo")));
        let read = read(&document.spec).expect("reads");
        assert_eq!(read.cert_pem(), root.cert_pem());
        assert_eq!(read.key_pem().expose(), root.key_pem().expose());
    }

    #[test]
    fn damage_is_an_error() {
        for spec in [
            json!(null),
            json!({}),
            json!({"roots": []}),
            json!({"roots": [{"cert": "%%", "key": ""}]}),
            json!({"roots": [{"cert": "", "key": 1}]}),
            json!({"roots": [{"cert": "aGk=", "key": "aGk="}]}),
        ] {
            assert!(read(&spec).is_err(), "{spec}");
        }
    }

    #[test]
    fn a_mesh_gets_its_kept_ca_back() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let folder = std::sync::Arc::new(StateFolder::open(temp.path().join("state")).expect("opens"));
        let authority = KeptRoots(folder.clone());
        let first = authority.create_ca("demo").expect("creates");
        assert_eq!(authority.create_ca("demo").expect("finds"), first);
        assert_ne!(authority.create_ca("other").expect("creates").spec, first.spec);
        authority.forget_ca("demo").expect("forgets");
        assert_ne!(authority.create_ca("demo").expect("creates anew").spec, first.spec);
        // A damaged file is the operator's to repair: making a new CA would cut every running proxy off.
        folder.replace("builtinca.demo", b"{}").expect("writes");
        assert!(authority.create_ca("demo").is_err());
    }
}
