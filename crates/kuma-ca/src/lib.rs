//! Identity: the roots of a mesh, the certificates of its dataplanes, the control plane's own CA, and dataplane tokens.
//!
//! Everything here is a function of its arguments: the time is passed in, nothing is stored, read or sent. The one
//! thing taken from outside is randomness, for keys and serial numbers, from the operating system through AWS-LC. Where
//! keys are kept is the control plane's business.
//!
//! - [`Root`] is the CA of one mesh, `builtin` (made here) or `provided` (made by the user); it signs one [`Leaf`] per
//!   dataplane.
//! - [`provided_root`] holds a user's certificate and key against the rules for roots.
//! - [`MeshRoots`] is a root and its change to another one, in steps at each of which all that is shown is trusted by
//!   all.
//! - [`mesh_secret`] is how a mesh's CAs are stored.
//! - [`IdentityVersion`] says when a leaf that a proxy already holds is good enough, so that a restart re-issues
//!   nothing.
//! - [`XdsCa`] signs what the control plane's own servers show; its certificate is what a bootstrap pins.
//! - [`SigningKey`] signs dataplane tokens, [`TokenVerifier`] checks them.
//! - [`svid_lint`] holds a certificate against the rules of the X509-SVID document.
//!
//! It does not decide who may have which identity: that is settled by the token and by the Dataplane's tags before
//! anything is issued.
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
mod key;
mod lint;
mod mesh_roots;
pub mod mesh_secret;
mod provided;
mod renewal;
mod root;
mod secret;
mod spiffe;
mod time;
mod token;
mod xds_ca;

pub use error::CaError;
pub use lint::svid_lint;
pub use mesh_roots::{Change, ChangeError, MeshRoots, OldRoot, Other, RootState, id_of_pem};
pub use provided::provided_root;
pub use renewal::{IdentityVersion, ParseIdentityVersionError, identity_inputs, renewal_time};
pub use root::{Leaf, LeafRequest, Root};
pub use secret::Secret;
pub use spiffe::{mesh_id, service_id};
pub use time::BACKDATE;
pub use token::{Claims, MAX_TOKEN_BYTES, SigningKey, TokenError, TokenVerifier, VerifyingKey};
pub use xds_ca::XdsCa;
