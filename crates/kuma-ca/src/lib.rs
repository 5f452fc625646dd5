//! Identity: the roots of a mesh, the certificates of its dataplanes, the control plane's own CA, and dataplane tokens.
//!
//! Everything here is a function of its arguments: the time is passed in, and nothing is stored, read or sent. The only
//! input from outside is randomness for keys and serial numbers, from the operating system through AWS-LC. The control
//! plane decides where keys are stored.
//!
//! - [`Root`] is the CA of one mesh, `builtin` (created here) or `provided` (by the user); it signs one [`Leaf`] per
//!   dataplane.
//! - [`provided_root`] checks a user's certificate and key by the rules for roots.
//! - [`MeshRoots`] is the root of a mesh and its rotation to another root, in steps: at each step every proxy trusts
//!   the certificates of all others.
//! - [`mesh_secret`] is the stored form of a mesh's CAs.
//! - [`IdentityVersion`] tells whether a leaf that a proxy already has is still good, so that a restart issues no new
//!   ones.
//! - [`XdsCa`] signs the certificates of the control plane's own servers; a bootstrap pins its certificate.
//! - [`SigningKey`] signs dataplane tokens, [`TokenVerifier`] verifies them.
//! - [`svid_lint`] checks a certificate by the rules of the X509-SVID document.
//!
//! The crate does not decide who gets which identity: that follows from the token and the Dataplane's tags.
//!
//! ```
//! use std::collections::BTreeSet;
//! use std::time::{Duration, SystemTime};
//!
//! # fn main() -> Result<(), kuma_ca::CaError> {
//! let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_580_000_000);
//! let root = kuma_ca::Root::generate("default", now)?;
//! let leaf = root.issue(&kuma_ca::LeafRequest {
//!     mesh: "default",
//!     services: &BTreeSet::from(["web"]),
//!     validity: Duration::from_secs(24 * 3600),
//!     now,
//! })?;
//! assert!(kuma_ca::svid_lint(&leaf.chain_pem).is_empty());
//! # Ok(())
//! # }
//! ```

mod authority;
mod error;
mod imported_key;
mod key;
mod lint;
mod mesh_roots;
pub mod mesh_secret;
mod provided;
mod renewal;
mod root;
pub mod sealing;
mod secret;
mod spiffe;
mod time;
mod token;
mod xds_ca;

pub use error::CaError;
pub use imported_key::ImportedKey;
pub use lint::svid_lint;
pub use mesh_roots::{Change, ChangeError, MeshRoots, OldRoot, Other, RootState, id_of_pem};
pub use provided::provided_root;
pub use renewal::{IdentityVersion, ParseIdentityVersionError, identity_inputs, renewal_time};
pub use root::{Leaf, LeafRequest, Root};
pub use secret::Secret;
pub use spiffe::{mesh_id, service_id};
pub use time::BACKDATE;
pub use token::{Claims, IssuedToken, MAX_TOKEN_BYTES, SigningKey, TokenError, TokenVerifier, VerifyingKey};
pub use xds_ca::XdsCa;
