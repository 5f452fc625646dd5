//! The messages of `envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs`, with the few fields that are needed.
//! All others are skipped, such as the 60 kB in which Envoy describes its node.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

/// The path of the method.
pub(super) const METHOD: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

/// The custom tag of an entry that holds the line. The control plane sets it in the configuration of the log.
pub(super) const RECORD: &str = "kuma.record";

/// Prefix of the custom tags that hold the fields of a JSON record; the field's number follows.
pub(super) const FIELD: &str = "kuma.field.";

/// A message of the stream.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StreamAccessLogsMessage {
    /// Set in the first message of a stream.
    #[prost(message, optional, tag = "1")]
    pub(super) identifier: Option<Identifier>,
    /// Entries of HTTP requests.
    #[prost(message, optional, tag = "2")]
    http_logs: Option<Entries>,
    /// Entries of TCP connections.
    #[prost(message, optional, tag = "3")]
    tcp_logs: Option<Entries>,
}

/// Identifies the log.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Identifier {
    /// `HOST:PORT` of the collector, a semicolon, and the format.
    #[prost(string, tag = "2")]
    pub(super) log_name: String,
}

/// Entries of either protocol: the fields used here have the same numbers in both. Each entry is decoded separately, so
/// that one that cannot be decoded does not affect the others.
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
    /// The values are strings by Envoy's definition, but may hold a client's bytes that are not UTF-8.
    #[prost(btree_map = "string, bytes", tag = "22")]
    custom_tags: BTreeMap<String, Vec<u8>>,
}

/// The custom tags of one entry: the values that Envoy formatted.
pub(super) type Tags = BTreeMap<String, Vec<u8>>;

impl StreamAccessLogsMessage {
    /// The tags of all entries, in order; `None` for an entry that cannot be decoded.
    pub(super) fn into_entries(self) -> impl Iterator<Item = Option<Tags>> {
        let entries = [self.http_logs, self.tcp_logs].into_iter().flatten().flat_map(|entries| entries.log_entry);
        entries.map(|entry| Some(Entry::decode(entry).ok()?.common_properties.unwrap_or_default().custom_tags))
    }
}
