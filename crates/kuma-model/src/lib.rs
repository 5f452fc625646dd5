//! The vocabulary of the mesh: which kinds of resource there are, how they are written, and when they are valid.
//!
//! Everything that is stored or sent is a [`Document`]: a [`Key`] (kind, mesh, name) and a *spec*, the part that
//! depends on the kind. Text becomes JSON values in [`text`]; [`Document::parse`] checks a value against the rules of
//! its kind and reports everything that is wrong at once, each with its field; [`decode_spec`] reads a stored spec into
//! its type. Code that treats all kinds alike loops over [`KINDS`].
//!
//! ```
//! use kuma_model::{Dataplane, Document, decode_spec, text};
//!
//! let yaml = "
//! type: Dataplane
//! mesh: default
//! name: web-1
//! networking:
//!   inbound:
//!   - interface: 192.168.0.1:80:8080
//!     tags: {service: web, version: v2}
//! ";
//! for json in text::parse_documents(yaml)? {
//!     let document = Document::parse(&json)?;
//!     let dataplane: Dataplane = decode_spec(&document.spec)?;
//!     assert_eq!(dataplane.inbounds()[0].service_port, 8080);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is *not* here: what policies mean together (`kuma-mesh`), Envoy's configuration (`kuma-envoy`), and rules that
//! need another resource, such as whether the mesh exists (`kuma-cp`). Nothing here reads a clock, a file or the
//! environment.

mod decode;
mod document;
mod duration;
mod key;
mod kinds;
pub mod log_format;
mod omit;
mod resource;
mod selectors;
mod shown;
mod spiffe;
mod tags;
pub mod text;
mod timestamp;
mod violations;

pub use decode::{Decode, Fields};
pub use document::Document;
pub use duration::{Duration, DurationError};
pub use key::{Key, MAX_NAME_LENGTH, NO_MESH, check_name};
pub use kinds::*;
pub use resource::{Column, Kind, Resource, Scope, decode_spec};
pub use shown::steers;
pub use spiffe::{spiffe_id, spiffe_prefix};
pub use tags::{ANY, PROTOCOL_TAG, Rank, SERVICE_TAG, Selector, Tags, check_service};
pub use timestamp::Timestamp;
pub use violations::{Violation, Violations};
