//! One xDS resource, encoded once and shared by every stream.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use envoy_api::ResourceType;

use crate::wire;

/// A resource that has to be sent again whenever the cluster or listener that needs it is sent.
pub type Requirement = (ResourceType, Arc<str>);

/// One xDS resource: a name, a version, and its encoded bytes.
///
/// The bytes are an entry of `DeltaDiscoveryResponse.resources`, laid out so that its end is an entry of
/// `DiscoveryResponse.resources`: both are field 2, and the `Any` is written last.
///
/// ```text
///  12 len | 0a len version | 1a len name | 12 len Any{type_url, value}
///  ^ delta entry                         ^ SotW entry
/// ```
pub struct Resource {
    resource_type: ResourceType,
    name: Arc<str>,
    version: Box<str>,
    /// Empty when there is no body: see [`Resource::held`].
    entry: Bytes,
    any_at: usize,
    placeholder: bool,
    requires: Box<[Requirement]>,
}

impl Resource {
    /// A resource whose version is a hash of its content: 16 hexadecimal digits of the xxh3-64 of `value`.
    ///
    /// `value` is the encoded message, such as an `envoy.config.cluster.v3.Cluster`, without its `Any`.
    pub fn new(resource_type: ResourceType, name: impl Into<Arc<str>>, value: &[u8]) -> Resource {
        let version = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(value));
        Resource::with_version(resource_type, name, version, value)
    }

    /// A resource whose version is not a hash of its content, such as a certificate, whose version holds inputs and
    /// expiry.
    pub fn with_version(
        resource_type: ResourceType,
        name: impl Into<Arc<str>>,
        version: impl Into<Box<str>>,
        value: &[u8],
    ) -> Resource {
        let (name, version) = (name.into(), version.into());
        let (entry, any_at) = wire::resource_entry(resource_type, &name, &version, value);
        Resource { resource_type, name, version, entry, any_at, placeholder: false, requires: Box::default() }
    }

    /// A resource that the client already has in exactly this version. It has no body and is never sent: a client that
    /// has another version, or requests it again, gets no answer until a resource with a body replaces it.
    pub fn held(resource_type: ResourceType, name: impl Into<Arc<str>>, version: impl Into<Box<str>>) -> Resource {
        Resource {
            resource_type,
            name: name.into(),
            version: version.into(),
            entry: Bytes::new(),
            any_at: 0,
            placeholder: false,
            requires: Box::default(),
        }
    }

    /// Adds a resource that must be sent right after this one, even if it has not changed. Envoy warms a cluster that
    /// it was sent until it receives the ClusterLoadAssignment again, and with delta it does not request that.
    #[must_use]
    pub fn requiring(mut self, requires: impl Into<Box<[Requirement]>>) -> Resource {
        self.requires = requires.into();
        self
    }

    /// Makes this a placeholder: sent only to a client that has no resource of this name. It is for endpoints that are
    /// not known yet after a restart: an empty list must not replace the endpoints that a running proxy has.
    #[must_use]
    pub fn placeholder(mut self) -> Resource {
        self.placeholder = true;
        self
    }

    /// Its type.
    pub fn resource_type(&self) -> ResourceType {
        self.resource_type
    }

    /// Its name, unique among the resources of its type in a [`Snapshot`](crate::Snapshot).
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its version; two resources of one name and version are the same to a client.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The resources that have to be sent after it.
    pub fn requires(&self) -> &[Requirement] {
        &self.requires
    }

    /// Whether it is sent only to a client that has no resource of its name.
    pub fn is_placeholder(&self) -> bool {
        self.placeholder
    }

    /// Whether there is anything to send.
    pub fn has_body(&self) -> bool {
        !self.entry.is_empty()
    }

    /// The entry of `DeltaDiscoveryResponse.resources`, key and length included.
    pub fn delta_entry(&self) -> &Bytes {
        &self.entry
    }

    /// The entry of `DiscoveryResponse.resources`, key and length included: the end of the delta entry.
    pub fn sotw_entry(&self) -> &[u8] {
        &self.entry[self.any_at..]
    }

    /// Whether a client that holds `self` would see no difference if it were sent `other`, of the same name.
    pub(crate) fn same_as(self: &Arc<Self>, other: &Arc<Resource>) -> bool {
        Arc::ptr_eq(self, other) || self.version == other.version
    }
}

impl fmt::Debug for Resource {
    /// Shows type, name and version, but not the bytes, which may be a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Resource { resource_type, name, version, entry, .. } = self;
        write!(f, "{resource_type:?} {name} {version} ({} bytes)", entry.len())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Any {
        #[prost(string, tag = "1")]
        type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Entry {
        #[prost(string, tag = "3")]
        name: String,
        #[prost(string, tag = "1")]
        version: String,
        #[prost(message, optional, tag = "2")]
        resource: Option<Any>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct DeltaResponse {
        #[prost(message, repeated, tag = "2")]
        resources: Vec<Entry>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct SotwResponse {
        #[prost(message, repeated, tag = "2")]
        resources: Vec<Any>,
    }

    /// Lengths around those at which a varint grows by a byte.
    #[test]
    fn one_buffer_serves_both_variants() {
        for length in [0, 1, 60, 61, 126, 127, 128, 200, 16_383, 16_384, 3_000_000] {
            let value = vec![7; length];
            let resource = Resource::new(ResourceType::Cluster, "backend", &value);
            let any = Any { type_url: ResourceType::Cluster.type_url().to_owned(), value };

            let delta = DeltaResponse::decode(resource.delta_entry().as_ref()).expect("delta entry");
            assert_eq!(
                delta.resources,
                [Entry {
                    name: "backend".to_owned(),
                    version: resource.version().to_owned(),
                    resource: Some(any.clone()),
                }]
            );
            let sotw = SotwResponse::decode(resource.sotw_entry()).expect("SotW entry");
            assert_eq!(sotw.resources, [any]);
        }
    }

    #[test]
    fn c14_versions_are_made_of_content() {
        let version = |value: &[u8]| Resource::new(ResourceType::Cluster, "a", value).version().to_owned();
        assert_eq!(version(b"x"), version(b"x"));
        assert_ne!(version(b"x"), version(b"y"));
        // The hash must never change: otherwise an upgrade of the program would send everything again.
        assert_eq!(version(b""), "2d06800538d394c2");
    }

    #[test]
    fn debug_output_holds_no_content() {
        let secret = Resource::new(ResourceType::Secret, "identity_cert", b"PRIVATE KEY");
        assert!(!format!("{secret:?}").contains("PRIVATE"));
    }
}
