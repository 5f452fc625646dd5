//! The messages of `envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs`: the few fields that are read. The rest,
//! such as the 60 kB that an Envoy says about itself, is skipped.

use std::collections::BTreeMap;

/// The path of the method.
pub(super) const METHOD: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

/// The tag of an entry that holds the line. The control plane puts it into the configuration of the log.
pub(super) const RECORD: &str = "kuma.record";

/// What a stream carries.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StreamAccessLogsMessage {
    /// In the first message of a stream.
    #[prost(message, optional, tag = "1")]
    pub(super) identifier: Option<Identifier>,
    /// Of HTTP requests.
    #[prost(message, optional, tag = "2")]
    pub(super) http_logs: Option<Entries>,
    /// Of TCP connections.
    #[prost(message, optional, tag = "3")]
    pub(super) tcp_logs: Option<Entries>,
}

/// Which log it is.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Identifier {
    /// `HOST:PORT` of the collector, a semicolon, and the format.
    #[prost(string, tag = "2")]
    pub(super) log_name: String,
}

/// Entries of either protocol: what is read has the same number in both.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Entries {
    #[prost(message, repeated, tag = "1")]
    pub(super) log_entry: Vec<Entry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Entry {
    #[prost(message, optional, tag = "1")]
    pub(super) common_properties: Option<CommonProperties>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CommonProperties {
    #[prost(btree_map = "string, string", tag = "22")]
    pub(super) custom_tags: BTreeMap<String, String>,
}

impl StreamAccessLogsMessage {
    /// The lines in it, in order.
    pub(super) fn into_lines(self) -> impl Iterator<Item = String> {
        let entries = [self.http_logs, self.tcp_logs].into_iter().flatten().flat_map(|entries| entries.log_entry);
        entries.filter_map(|entry| entry.common_properties?.custom_tags.remove(RECORD))
    }
}
