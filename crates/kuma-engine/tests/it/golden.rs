//! Examples of documents and the configuration of Envoy that follows from them. Each folder of `tests/golden` has the
//! documents in `input.yaml`, and a file for each Dataplane with all resources of its proxy except its own certificate.
//!
//! `UPDATE_GOLDEN=1 cargo test -p kuma-engine --test it golden` writes the files; read the difference before you commit
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use envoy_api::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_api::{FILE_DESCRIPTOR_SET, ResourceType};
use kuma_engine::MeshView;
use kuma_mesh::{EFFECTS, Effect};
use kuma_model::{Document, text};
use kuma_store::Stored;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value};

use crate::support::store;

/// Address of each Envoy's admin server.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 30001);

/// The text that replaces the certificates of the mesh's CA.
const ROOTS: &str = "the certificates of the mesh's CA, PEM";

const ROOTS_IN_BASE64: &str = "dGhlIGNlcnRpZmljYXRlcyBvZiB0aGUgbWVzaCdzIENBLCBQRU0=";

/// The resource types, in the order in which Envoy needs them, and the names of their lists in the files.
const LISTS: [(ResourceType, &str); 6] = [
    (ResourceType::Cluster, "clusters"),
    (ResourceType::Endpoint, "endpoints"),
    (ResourceType::Secret, "secrets"),
    (ResourceType::Listener, "listeners"),
    (ResourceType::ExtensionConfig, "extension_configs"),
    (ResourceType::Route, "routes"),
];

/// One folder.
pub(crate) struct Case {
    /// Name of the folder.
    pub(crate) name: String,
    folder: PathBuf,
    /// The documents of `input.yaml`.
    pub(crate) documents: Vec<Arc<Stored>>,
}

/// Every folder, by name.
pub(crate) fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    folders.into_iter().map(Case::read).collect()
}

impl Case {
    fn read(folder: PathBuf) -> Case {
        let input = folder.join("input.yaml");
        let yaml = std::fs::read_to_string(&input).unwrap_or_else(|error| panic!("{}: {error}", input.display()));
        let values = text::parse_documents(&yaml).unwrap_or_else(|error| panic!("{}: {error}", input.display()));
        let documents = values.iter().map(|value| {
            let document = Document::parse(value);
            store(document.unwrap_or_else(|violations| panic!("{}: {violations}", input.display())))
        });
        let documents = documents.collect();
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8").to_owned();
        Case { name, folder, documents }
    }

    /// The resources of each Dataplane's proxy, by the Dataplane's name.
    pub(crate) fn proxies(&self, roots: &str) -> BTreeMap<String, Value> {
        resources_of_proxies(&self.documents, roots)
    }
}

fn resources_of_proxies(documents: &[Arc<Stored>], roots: &str) -> BTreeMap<String, Value> {
    let view = MeshView::of_documents("default", documents, 1);
    let roots = view.snapshot.mtls_enabled().then(|| Arc::from(roots));
    let view = MeshView { roots, ..view };
    let names = documents.iter().filter(|stored| stored.key.kind == "Dataplane").map(|stored| &stored.key.name);
    names.map(|name| (name.to_string(), resources_of(&view, name))).collect()
}

/// The resources of a proxy: the lists of [`LISTS`], without empty ones.
fn resources_of(view: &MeshView, proxy: &str) -> Value {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("descriptors read");
    let snapshot = view.generate(proxy, Some(ADMIN)).expect("a Dataplane");
    let mut lists = Map::new();
    for (resource_type, name) in LISTS {
        let list: Vec<Value> = snapshot
            .list(resource_type)
            .iter()
            .map(|resource| {
                let response = DiscoveryResponse::decode(resource.sotw_entry()).expect("an entry of a response");
                as_json(&pool, resource_type, &response.resources[0].value)
            })
            .collect();
        if !list.is_empty() {
            lists.insert(name.to_owned(), list.into());
        }
    }
    lists.into()
}

fn as_json(pool: &DescriptorPool, resource_type: ResourceType, value: &[u8]) -> Value {
    let message = resource_type.type_url().trim_start_matches("type.googleapis.com/");
    let descriptor = pool.get_message_by_name(message).expect("a message of the subset");
    let message = DynamicMessage::decode(descriptor, value).expect("the bytes read back");
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut body = message.serialize_with_options(serde_json::value::Serializer, &options).expect("JSON");
    sort(&mut body);
    body
}

/// Sorts fields: names first, the others by their names. Messages that were decoded by reflection are in no useful
/// order.
fn sort(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            let mut sorted: Vec<(String, Value)> = std::mem::take(fields).into_iter().collect();
            sorted.sort_by(|(a, _), (b, _)| rank(a).cmp(&rank(b)));
            for (name, mut value) in sorted {
                sort(&mut value);
                fields.insert(name, value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(sort),
        _ => {}
    }
}

fn rank(field: &str) -> (bool, &str) {
    (!matches!(field, "name" | "cluster_name" | "@type"), field)
}

fn as_yaml(value: &Value) -> String {
    let mut options = serde_saphyr::SerializerOptions::default();
    options.folded_wrap_chars = usize::MAX;
    let yaml = serde_saphyr::to_string_with_options(value, options).expect("YAML");
    // Bytes are in Base64.
    yaml.replace(ROOTS_IN_BASE64, &format!("({ROOTS})"))
}

#[test]
fn documents_give_what_the_files_say() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differing = Vec::new();
    for case in cases() {
        let proxies = case.proxies(ROOTS);
        let files = std::fs::read_dir(&case.folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        for file in files.filter(|file| !file.ends_with("input.yaml")) {
            let proxy = file.file_stem().and_then(|name| name.to_str()).expect("a name in UTF-8");
            if !proxies.contains_key(proxy) {
                differing.push(format!("{} is about no Dataplane of its input", file.display()));
            }
        }
        for (proxy, resources) in proxies {
            let file = case.folder.join(format!("{proxy}.yaml"));
            let resources = as_yaml(&resources);
            if update {
                std::fs::write(&file, &resources).expect("the file can be written");
                continue;
            }
            let expected = std::fs::read_to_string(&file).unwrap_or_default();
            if expected != resources {
                differing.push(format!("{}:\n{}", file.display(), first_difference(&expected, &resources)));
            }
        }
    }
    let hint = "UPDATE_GOLDEN=1 writes them anew";
    assert!(differing.is_empty(), "{} files differ ({hint})\n{}", differing.len(), differing.join("\n"));
}

/// The first line that differs, as it is in the file and as it is now.
fn first_difference(expected: &str, now: &str) -> String {
    let (mut old, mut new) = (expected.lines(), now.lines());
    for line in 1.. {
        match (old.next(), new.next()) {
            (None, None) => break,
            (old, new) if old == new => {}
            (old, new) => {
                return format!("line {line}\n- {}\n+ {}", old.unwrap_or("(no more)"), new.unwrap_or("(no more)"));
            }
        }
    }
    "they differ in how the last line ends".to_owned()
}

/// There is an example of each kind: without its documents, some proxy gets other resources.
#[test]
fn every_kind_with_an_effect_on_envoy_has_a_case() {
    let cases = cases();
    let without = |case: &Case, kind: &str| -> Vec<Arc<Stored>> {
        case.documents.iter().filter(|stored| stored.key.kind != kind).cloned().collect()
    };
    let missing: BTreeSet<&str> = EFFECTS
        .iter()
        .filter(|(kind, effect)| {
            let has_case = cases.iter().any(|case| {
                let (with, without) = (case.proxies(ROOTS), resources_of_proxies(&without(case, kind), ROOTS));
                with != without
            });
            matches!(effect, Effect::OnProxies(_)) && !has_case
        })
        .map(|(kind, _)| *kind)
        .collect();
    assert!(missing.is_empty(), "no folder of tests/golden shows the effect of {missing:?}");
}

/// Each case begins with a comment that describes it.
#[test]
fn every_case_says_what_it_shows() {
    for case in cases() {
        let yaml = std::fs::read_to_string(case.folder.join("input.yaml")).expect("it was read before");
        assert!(yaml.starts_with("# "), "{}/input.yaml begins with a comment that says what it shows", case.name);
    }
}
