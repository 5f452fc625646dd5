//! The messages of `envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs`: the few fields that are read. The
//! rest, such as the 60 kB that an Envoy says about itself, is skipped.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

/// The path of the method.
pub(super) const METHOD: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

/// The tag of an entry that holds the line. The control plane puts it into the configuration of the log.
pub(super) const RECORD: &str = "kuma.record";

/// What stands before the number of a field, in the tag of an entry that holds the field's value.
pub(super) const FIELD: &str = "kuma.field.";

/// What a stream carries.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StreamAccessLogsMessage {
    /// In the first message of a stream.
    #[prost(message, optional, tag = "1")]
    pub(super) identifier: Option<Identifier>,
    /// Of HTTP requests.
    #[prost(message, optional, tag = "2")]
    http_logs: Option<Entries>,
    /// Of TCP connections.
    #[prost(message, optional, tag = "3")]
    tcp_logs: Option<Entries>,
}

/// Which log it is.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Identifier {
    /// `HOST:PORT` of the collector, a semicolon, and the format.
    #[prost(string, tag = "2")]
    pub(super) log_name: String,
}

/// Entries of either protocol: what is read has the same number in both. Each is read by itself, so that one that
/// cannot be read loses no other.
#[derive(Clone, PartialEq, prost::Message)]
struct Entries {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    log_entry: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    common_properties: Option<CommonProperties>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CommonProperties {
    /// A string in Envoy's description. What a client sends is copied into it byte by byte, UTF-8 or not.
    #[prost(btree_map = "string, bytes", tag = "22")]
    custom_tags: BTreeMap<String, Vec<u8>>,
}

/// The tags of one entry: what Envoy made of the format.
pub(super) type Tags = BTreeMap<String, Vec<u8>>;

impl StreamAccessLogsMessage {
    /// The tags of the entries in it, in order; nothing for an entry that cannot be read.
    pub(super) fn into_entries(self) -> impl Iterator<Item = Option<Tags>> {
        let entries = [self.http_logs, self.tcp_logs].into_iter().flatten().flat_map(|entries| entries.log_entry);
        entries.map(|entry| Some(Entry::decode(entry).ok()?.common_properties.unwrap_or_default().custom_tags))
    }
}
