//! The names that a resource refers to, which Envoy requests next. They are found in its bytes once, and cached by the
//! hash.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use crate::names::{Id, Names};
use crate::types::Type;
use crate::wire::{Fields, Value, all_bytes_fields, bytes_field, text_field};

/// Fields of a ConfigSource that refer to the same stream: `ads` and `self`.
const ON_THIS_STREAM: [u64; 2] = [3, 5];

/// Names that a resource refers to, each with its type; sorted and distinct.
pub(crate) type References = Arc<[(Type, Id)]>;

/// References of every distinct resource seen.
#[derive(Default)]
pub(crate) struct ReferenceCache {
    by_hash: Mutex<FxHashMap<u64, References>>,
}

impl ReferenceCache {
    /// The references of a resource. `value` is the content of its Any, `hash` the hash of that.
    pub(crate) fn of(&self, resource_type: Type, value: &[u8], hash: u64, names: &Names) -> References {
        if !matches!(resource_type, Type::Cluster | Type::Listener | Type::ExtensionConfig) {
            return Arc::default();
        }
        let mut known = self.by_hash.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(hash).or_insert_with(|| find(resource_type, value, names)).clone()
    }
}

fn find(resource_type: Type, value: &[u8], names: &Names) -> References {
    let mut found = Found { names, references: Vec::new() };
    match resource_type {
        Type::Cluster => found.cluster(value),
        Type::Listener => found.listener(value),
        Type::ExtensionConfig => found.any(bytes_field(value, 2)),
        Type::Endpoint | Type::Secret | Type::Route => {}
    }
    found.references.sort_unstable();
    found.references.dedup();
    found.references.into()
}

struct Found<'a> {
    names: &'a Names,
    references: Vec<(Type, Id)>,
}

/// The numbers are those of the fields in Envoy's API v3. Fields that exist only in v2 are marked.
impl Found<'_> {
    /// Adds a reference, unless its ConfigSource is another stream.
    fn add(&mut self, resource_type: Type, name: &str, source: &[u8]) {
        let here = ON_THIS_STREAM.iter().any(|&number| all_bytes_fields(source, number).next().is_some());
        if here && !name.is_empty() {
            self.references.push((resource_type, self.names.id(name)));
        }
    }

    fn cluster(&mut self, cluster: &[u8]) {
        const EDS: u64 = 3;
        let is_eds = Fields(cluster).any(|field| field == Ok((2, Value::Number(EDS))));
        if is_eds {
            let eds = bytes_field(cluster, 3);
            let service_name = text_field(eds, 2);
            let name = if service_name.is_empty() { text_field(cluster, 1) } else { service_name };
            self.add(Type::Endpoint, name, bytes_field(eds, 1));
        }
        self.transport_socket(bytes_field(cluster, 24));
        // v2 only.
        self.tls(bytes_field(cluster, 11));
        for matching in all_bytes_fields(cluster, 43) {
            self.transport_socket(bytes_field(matching, 3));
        }
    }

    fn listener(&mut self, listener: &[u8]) {
        for chain in all_bytes_fields(listener, 3).chain(all_bytes_fields(listener, 25)) {
            for filter in all_bytes_fields(chain, 3) {
                self.filter(filter);
            }
            self.transport_socket(bytes_field(chain, 6));
            // v2 only.
            self.tls(bytes_field(chain, 2));
        }
        for filter in all_bytes_fields(listener, 9) {
            self.add(Type::ExtensionConfig, text_field(filter, 1), bytes_field(bytes_field(filter, 5), 1));
        }
    }

    /// A network filter or an HTTP filter: name 1, typed_config 4, config_discovery 5.
    fn filter(&mut self, filter: &[u8]) {
        self.add(Type::ExtensionConfig, text_field(filter, 1), bytes_field(bytes_field(filter, 5), 1));
        self.any(bytes_field(filter, 4));
    }

    fn transport_socket(&mut self, socket: &[u8]) {
        self.any(bytes_field(socket, 3));
    }

    fn any(&mut self, any: &[u8]) {
        let value = bytes_field(any, 2);
        match text_field(any, 1).rsplit('.').next().unwrap_or_default() {
            "HttpConnectionManager" => {
                let rds = bytes_field(value, 3);
                self.add(Type::Route, text_field(rds, 2), bytes_field(rds, 1));
                for filter in all_bytes_fields(value, 5) {
                    self.filter(filter);
                }
            }
            "UpstreamTlsContext" | "DownstreamTlsContext" => self.tls(value),
            _ => {}
        }
    }

    /// An UpstreamTlsContext or a DownstreamTlsContext.
    fn tls(&mut self, context: &[u8]) {
        let common = bytes_field(context, 1);
        for certificate in all_bytes_fields(common, 6) {
            self.secret(certificate);
        }
        self.secret(bytes_field(common, 7));
        self.secret(bytes_field(bytes_field(common, 8), 2));
    }

    /// An SdsSecretConfig. Without a source, the secret is in the bootstrap.
    fn secret(&mut self, config: &[u8]) {
        self.add(Type::Secret, text_field(config, 1), bytes_field(config, 2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{put_bytes, put_number};

    fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
        let mut message = Vec::new();
        for (number, bytes) in fields {
            put_bytes(&mut message, *number, bytes);
        }
        message
    }

    #[test]
    fn only_what_is_on_this_stream_is_asked_for() {
        let ads = message(&[(3, b"")]);
        let elsewhere = message(&[(2, b"an ApiConfigSource")]);
        let names = Names::default();
        let cluster = |source: &[u8], secret_source: &[u8]| {
            let secret = message(&[(1, b"certificate"), (2, secret_source)]);
            let tls = message(&[(1, &message(&[(6, &secret)]))]);
            let any = message(&[(1, b"type.googleapis.com/envoy.x.UpstreamTlsContext"), (2, &tls)]);
            let mut cluster = message(&[(1, b"web"), (3, &message(&[(1, source)])), (24, &message(&[(3, &any)]))]);
            put_number(&mut cluster, 2, 3);
            find(Type::Cluster, &cluster, &names).to_vec()
        };
        let (endpoint, secret) = ((Type::Endpoint, names.id("web")), (Type::Secret, names.id("certificate")));
        assert_eq!(cluster(&ads, &ads), [endpoint, secret]);
        assert_eq!(cluster(&ads, &elsewhere), [endpoint]);
        assert_eq!(cluster(&ads, b""), [endpoint], "in the bootstrap");
        assert_eq!(cluster(&elsewhere, &ads), [secret]);
    }
}
