//! The CAs of meshes: where they are kept beside the store, how they change, and who may change them. Their stored form
//! is [`kuma_ca::mesh_secret`].

mod certificates;
mod keeper;
pub mod rotator;
pub mod routes;

pub use certificates::{Certificate, ChangeRefused, MeshCas};
pub use keeper::{AdoptedRoots, FreshRoots, KeptRoots, MeshAuthority};
use kuma_ca::CaError;
use kuma_ca::mesh_secret::{MeshSecretError, PROVIDED, mesh_of};
pub use kuma_ca::mesh_secret::{document, key, read};

use crate::state_folder::StateFolderError;

/// Why there is no CA.
#[derive(Debug, thiserror::Error)]
pub enum MeshCaError {
    /// Its stored form cannot be used.
    #[error(transparent)]
    Stored(#[from] MeshSecretError),
    /// A new one cannot be made.
    #[error("the CA of a mesh cannot be made")]
    Ca(#[from] CaError),
    /// The file with it cannot be used.
    #[error(
        "the CA of a mesh in {path} cannot be used; restore the file, or remove it and start the proxies of the mesh \
         again",
        path = .0.display()
    )]
    Kept(std::path::PathBuf, #[source] Box<MeshCaError>),
    /// The state folder cannot be used.
    #[error("the CA of a mesh cannot be kept")]
    Folder(#[from] StateFolderError),
    /// The thread that was to do it has failed.
    #[error("the attempt was given up")]
    GivenUp,
}
