//! Where the CAs of meshes are kept beside the store.

use std::sync::Arc;
use std::time::SystemTime;

use kuma_ca::{MeshRoots, Root};
use kuma_model::{Ca, Document};
use serde_json::Value;

use super::{MeshCaError, MeshSecretError, document, key, mesh_of, read};
use crate::state_folder::StateFolder;

/// Where the CAs of meshes come from, and what keeps them where the store does not. All of it blocks: it may make keys
/// and write files.
pub trait MeshAuthority: Send + Sync + 'static {
    /// The builtin CA for a Mesh that is being created, as the Secret to be stored beside it.
    fn create_ca(&self, mesh: &str) -> Result<Document, MeshCaError>;

    /// The CA of this document is about to be stored.
    fn keep(&self, document: &Document) -> Result<(), MeshCaError>;

    /// The provided CAs that the store has forgotten.
    fn provided(&self) -> Result<Vec<Document>, MeshCaError>;

    /// The Mesh is deleted, and with it its CAs.
    fn forget(&self, mesh: &str) -> Result<(), MeshCaError>;
}

/// For stores that last: the Secret in the store is the only copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct FreshRoots;

impl MeshAuthority for FreshRoots {
    fn create_ca(&self, mesh: &str) -> Result<Document, MeshCaError> {
        fresh(mesh)
    }

    fn keep(&self, _document: &Document) -> Result<(), MeshCaError> {
        Ok(())
    }

    fn provided(&self) -> Result<Vec<Document>, MeshCaError> {
        Ok(Vec::new())
    }

    fn forget(&self, _mesh: &str) -> Result<(), MeshCaError> {
        Ok(())
    }
}

/// For stores that last, where the memory store was used before: its files of CAs that the store does not have yet are
/// taken over, so that proxies which trust them go on. A file goes as soon as the store has something newer.
#[derive(Debug)]
pub struct AdoptedRoots(pub Arc<StateFolder>);

impl MeshAuthority for AdoptedRoots {
    fn create_ca(&self, mesh: &str) -> Result<Document, MeshCaError> {
        let kept = read_kept(&self.0, Ca::Builtin, mesh)?;
        kept.map_or_else(|| fresh(mesh), Ok)
    }

    fn keep(&self, document: &Document) -> Result<(), MeshCaError> {
        Ok(self.0.remove(&document.key.name)?)
    }

    fn provided(&self) -> Result<Vec<Document>, MeshCaError> {
        KeptRoots(self.0.clone()).provided()
    }

    fn forget(&self, mesh: &str) -> Result<(), MeshCaError> {
        KeptRoots(self.0.clone()).forget(mesh)
    }
}

/// For the memory store: a file in the state folder lets a mesh that is created again after a restart have the CA that
/// its proxies still trust.
#[derive(Debug)]
pub struct KeptRoots(pub Arc<StateFolder>);

impl MeshAuthority for KeptRoots {
    fn create_ca(&self, mesh: &str) -> Result<Document, MeshCaError> {
        if let Some(kept) = read_kept(&self.0, Ca::Builtin, mesh)? {
            return Ok(kept);
        }
        let kept = self.0.write_new(&key(Ca::Builtin, mesh).name, fresh(mesh)?.spec.to_string().as_bytes())?;
        parse_kept(&self.0, Ca::Builtin, mesh, &kept)
    }

    fn keep(&self, document: &Document) -> Result<(), MeshCaError> {
        let text = zeroize::Zeroizing::new(document.spec.to_string());
        Ok(self.0.replace(&document.key.name, text.as_bytes())?)
    }

    /// One that is damaged is there all the same: it issues nothing, and nothing takes its place unasked.
    fn provided(&self) -> Result<Vec<Document>, MeshCaError> {
        let mut documents = Vec::new();
        for name in self.0.names(super::PROVIDED)? {
            let mesh = name.strip_prefix(super::PROVIDED).unwrap_or_default();
            let key = key(Ca::Provided, mesh);
            let read = self.0.read(&name).map_err(MeshCaError::from);
            let spec = read.and_then(|kept| parse(Ca::Provided, kept.as_deref().map_or(&[], Vec::as_slice)));
            let spec = spec.unwrap_or_else(|error| {
                let error = MeshCaError::Kept(self.0.path().join(&name), Box::new(error));
                tracing::error!(
                    mesh = mesh_of(&key),
                    error = crate::http::error::chain(&error),
                    "no certificate is issued"
                );
                Value::Null
            });
            documents.push(Document { key, spec });
        }
        Ok(documents)
    }

    fn forget(&self, mesh: &str) -> Result<(), MeshCaError> {
        for ca in [Ca::Builtin, Ca::Provided] {
            self.0.remove(&key(ca, mesh).name)?;
        }
        Ok(())
    }
}

/// The CA in the folder's file, if there is one.
fn read_kept(folder: &StateFolder, ca: Ca, mesh: &str) -> Result<Option<Document>, MeshCaError> {
    let kept = folder.read(&key(ca, mesh).name)?;
    kept.map(|kept| parse_kept(folder, ca, mesh, &kept)).transpose()
}

fn parse_kept(folder: &StateFolder, ca: Ca, mesh: &str, kept: &[u8]) -> Result<Document, MeshCaError> {
    let key = key(ca, mesh);
    match parse(ca, kept) {
        Ok(spec) => Ok(Document { key, spec }),
        Err(error) => Err(MeshCaError::Kept(folder.path().join(&*key.name), Box::new(error))),
    }
}

fn fresh(mesh: &str) -> Result<Document, MeshCaError> {
    Ok(document(Ca::Builtin, mesh, Some(&MeshRoots::new(Root::generate(mesh, SystemTime::now())?))))
}

fn parse(ca: Ca, kept: &[u8]) -> Result<Value, MeshCaError> {
    let spec = serde_json::from_slice(kept).map_err(|_| MeshSecretError::Damaged("it is not JSON"))?;
    read(ca, &spec)?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_gets_its_kept_ca_back() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let folder = Arc::new(StateFolder::open(temp.path().join("state")).expect("opens"));
        let authority = KeptRoots(folder.clone());
        let first = authority.create_ca("demo").expect("creates");
        assert_eq!(authority.create_ca("demo").expect("finds"), first);
        assert_ne!(authority.create_ca("other").expect("creates").spec, first.spec);
        let provided = document(Ca::Provided, "demo", read(Ca::Builtin, &first.spec).expect("reads").as_ref());
        authority.keep(&provided).expect("keeps");
        assert_eq!(authority.provided().expect("finds"), [provided]);
        authority.forget("demo").expect("forgets");
        assert_eq!(authority.provided().expect("finds"), []);
        assert_ne!(authority.create_ca("demo").expect("creates anew").spec, first.spec);
        // A store that lasts takes them over, and lets go of them once it has newer ones.
        let adopted = AdoptedRoots(folder.clone());
        let kept = authority.create_ca("demo").expect("creates");
        assert_eq!(adopted.create_ca("demo").expect("finds"), kept);
        adopted.keep(&kept).expect("removes the file");
        assert_ne!(adopted.create_ca("demo").expect("creates"), adopted.create_ca("demo").expect("creates"));
        assert_eq!(folder.names("builtinca.demo").expect("lists"), [] as [&str; 0]);
        // A damaged file is the operator's to repair: making a new CA would cut every running proxy off.
        folder.replace("builtinca.demo", b"{}").expect("writes");
        assert!(authority.create_ca("demo").is_err());
        folder.replace("providedca.demo", b"{}").expect("writes");
        let damaged = authority.provided().expect("finds");
        assert!(read(Ca::Provided, &damaged[0].spec).is_err());
    }
}
