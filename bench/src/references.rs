//! What a resource makes Envoy ask for next: found in its bytes once, and remembered by their hash.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::names::{Id, Names};
use crate::types::Type;
use crate::wire::{Fields, Value, all_bytes_fields, bytes_field, text_field};

/// Names that a resource refers to, each with its type; sorted and distinct.
pub(crate) type References = Arc<[(Type, Id)]>;

/// References of every distinct resource seen.
#[derive(Default)]
pub(crate) struct ReferenceCache {
    by_hash: Mutex<FxHashMap<u64, References>>,
}

impl ReferenceCache {
    /// What a resource refers to. `value` is the content of its Any.
    pub(crate) fn of(&self, resource_type: Type, value: &[u8], names: &Names) -> References {
        if !matches!(resource_type, Type::Cluster | Type::Listener | Type::ExtensionConfig) {
            return Arc::default();
        }
        let hash = xxh3_64(value);
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

/// The numbers are those of the fields in Envoy's API, v3.
impl Found<'_> {
    fn add(&mut self, resource_type: Type, name: &str) {
        if !name.is_empty() {
            self.references.push((resource_type, self.names.id(name)));
        }
    }

    fn cluster(&mut self, cluster: &[u8]) {
        const EDS: u64 = 3;
        let is_eds = Fields(cluster).any(|field| field == Ok((2, Value::Number(EDS))));
        if is_eds {
            let service_name = text_field(bytes_field(cluster, 3), 2);
            let name = if service_name.is_empty() { text_field(cluster, 1) } else { service_name };
            self.add(Type::Endpoint, name);
        }
        self.transport_socket(bytes_field(cluster, 24));
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
        }
        for filter in all_bytes_fields(listener, 9) {
            if !bytes_field(filter, 5).is_empty() {
                self.add(Type::ExtensionConfig, text_field(filter, 1));
            }
        }
    }

    /// A network filter or an HTTP filter: name 1, typed_config 4, config_discovery 5.
    fn filter(&mut self, filter: &[u8]) {
        if !bytes_field(filter, 5).is_empty() {
            self.add(Type::ExtensionConfig, text_field(filter, 1));
        }
        self.any(bytes_field(filter, 4));
    }

    fn transport_socket(&mut self, socket: &[u8]) {
        self.any(bytes_field(socket, 3));
    }

    fn any(&mut self, any: &[u8]) {
        let value = bytes_field(any, 2);
        match text_field(any, 1).rsplit('.').next().unwrap_or_default() {
            "HttpConnectionManager" => {
                self.add(Type::Route, text_field(bytes_field(value, 3), 2));
                for filter in all_bytes_fields(value, 5) {
                    self.filter(filter);
                }
            }
            "UpstreamTlsContext" | "DownstreamTlsContext" => {
                let common = bytes_field(value, 1);
                for certificate in all_bytes_fields(common, 6) {
                    self.secret(certificate);
                }
                self.secret(bytes_field(common, 7));
                self.secret(bytes_field(bytes_field(common, 8), 2));
            }
            _ => {}
        }
    }

    /// An SdsSecretConfig. Without a source the secret is in the bootstrap.
    fn secret(&mut self, config: &[u8]) {
        if !bytes_field(config, 2).is_empty() {
            self.add(Type::Secret, text_field(config, 1));
        }
    }
}
