//! Envoy resources that users write by hand: from text to the bytes that are served.
//!
//! [`read`] takes YAML or JSON with an `@type`, as a ProxyTemplate holds it, and gives the encoded message, or
//! everything that is wrong with it, each with the path of the field. What passes is what Envoy 1.40 itself reads: its
//! whole set of messages is here (`descriptors.bin.zz`, made by `cargo xtask gen` from the Envoy binary), unpacked at
//! the first use.
//!
//! ```
//! let resource = envoy_raw::read("
//!     '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
//!     name: somewhere
//!     connect_timeout: 5s
//! ").unwrap();
//! assert_eq!(resource.name, "somewhere");
//!
//! let problems = envoy_raw::read("
//!     '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
//!     name: somewhere
//!     connect_timeout: soon
//! ").unwrap_err();
//! assert_eq!(problems[0].path, "connect_timeout");
//! ```
//!
//! The steps, a file each: the text becomes JSON (`kuma-model`), JSON a tree of messages (`parse`; what was written for
//! the v2 API is brought to v3 on the way, `upgrade`), the tree is held against the constraints that Envoy's own
//! messages declare (`rules`, those of protoc-gen-validate) and encoded (`encode`).
//!
//! Left out: what only a running Envoy can tell, such as a file that is not there or a filter that needs another one.

mod descriptors;
mod encode;
mod parse;
mod resource;
mod rules;
mod tree;
mod upgrade;

use std::fmt;

pub use resource::Resource;

/// Most problems that are reported of one resource: a wrong text may have as many as it has fields.
pub const MAX_PROBLEMS: usize = 20;

/// What is wrong with a resource, and where.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// Path of the field within the resource, by Envoy's own names: `filter_chains[0].filters[1].name`. Empty for the
    /// resource as a whole.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.reason),
            path => write!(f, "{path}: {}", self.reason),
        }
    }
}

/// Every message of Envoy 1.40, to look into what [`read`] encoded.
pub fn pool() -> &'static prost_reflect::DescriptorPool {
    &descriptors::get().pool
}

/// Reads one resource of Envoy.
///
/// # Errors
/// Everything that is wrong with it, up to [`MAX_PROBLEMS`]; never empty.
pub fn read(text: &str) -> Result<Resource, Vec<Problem>> {
    let json = kuma_model::text::parse_one(text).map_err(|error| whole(error.to_string()))?;
    let parsed = parse::resource(json)?;
    let problems = rules::check(&parsed.message);
    if !problems.is_empty() {
        return Err(parsed.shown(problems));
    }
    resource::encode(&parsed.message)
}

/// A problem of the resource as a whole.
fn whole(reason: impl Into<String>) -> Vec<Problem> {
    vec![Problem { path: String::new(), reason: reason.into() }]
}

/// The path of a field of a message at `path`.
fn child(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// The path of an element of a list at `path`.
fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// The path of an entry of a map at `path`.
fn entry(path: &str, key: &str) -> String {
    format!("{path}[{key:?}]")
}
