//! The paths of the HTTP API. Kinds come from [`KINDS`], so a new one has its paths at once.

use kuma_model::{KINDS, Key, Kind, Scope};
use percent_encoding::percent_decode_str;

/// What a path means.
#[derive(Clone, Debug)]
pub enum Target {
    /// `/`
    Index,
    /// `/catalog`
    Catalog,
    /// `/config`
    Config,
    /// `/openapi.json`
    OpenApi,
    /// `/changes`
    Changes,
    /// `/changes/{revision}`
    Receipt {
        /// As in the path, decoded, of any characters.
        revision: String,
    },
    /// `/store`
    Store,
    /// `/store/accept`
    AcceptStore,
    /// `/history`
    History,
    /// `/diff`
    Diff,
    /// `/rollback`
    Rollback,
    /// `/meshes`, `/meshes/{mesh}/{kind}`
    List {
        /// The kind of the documents.
        kind: &'static Kind,
        /// `None` for kinds that are not in a mesh.
        mesh: Option<String>,
    },
    /// `/meshes/{name}`, `/meshes/{mesh}/{kind}/{name}`
    Item {
        /// The kind of the document.
        kind: &'static Kind,
        /// For a Mesh, its own name.
        mesh: String,
        /// As in the path, decoded, of any characters.
        name: String,
    },
    /// `/meshes/{mesh}/dataplanes+insights`
    Overviews {
        /// As in the path, decoded.
        mesh: String,
    },
    /// `/meshes/{mesh}/dataplanes+insights/{name}`
    Overview {
        /// As in the path, decoded.
        mesh: String,
        /// As in the path, decoded.
        name: String,
    },
}

impl Target {
    /// The path with placeholders, as [`crate::access`] knows it. It is one of [`TEMPLATES`].
    pub fn template(&self) -> &'static str {
        match self {
            Self::Index => "/",
            Self::Catalog => "/catalog",
            Self::Config => "/config",
            Self::OpenApi => "/openapi.json",
            Self::Changes => "/changes",
            Self::Receipt { .. } => "/changes/{revision}",
            Self::Store => "/store",
            Self::AcceptStore => "/store/accept",
            Self::History => "/history",
            Self::Diff => "/diff",
            Self::Rollback => "/rollback",
            Self::List { mesh: None, .. } => "/{global}",
            Self::List { mesh: Some(_), .. } => "/meshes/{mesh}/{kind}",
            Self::Item { kind, .. } => match kind.scope {
                Scope::Global => "/{global}/{name}",
                Scope::Mesh => "/meshes/{mesh}/{kind}/{name}",
            },
            Self::Overviews { .. } => "/meshes/{mesh}/dataplanes+insights",
            Self::Overview { .. } => "/meshes/{mesh}/dataplanes+insights/{name}",
        }
    }
}

/// Every path of the API, with placeholders.
pub const TEMPLATES: &[&str] = &[
    "/",
    "/catalog",
    "/config",
    "/openapi.json",
    "/changes",
    "/changes/{revision}",
    "/store",
    "/store/accept",
    "/history",
    "/diff",
    "/rollback",
    "/{global}",
    "/{global}/{name}",
    "/meshes/{mesh}/{kind}",
    "/meshes/{mesh}/{kind}/{name}",
    "/meshes/{mesh}/dataplanes+insights",
    "/meshes/{mesh}/dataplanes+insights/{name}",
];

/// Names of paths that the documents spell in two ways.
const ALIASES: &[(&str, &str)] = &[("dataplane+insights", OVERVIEWS), ("trafficpermissions", "traffic-permissions")];
const OVERVIEWS: &str = "dataplanes+insights";

/// What `path`, as it stands in the request, means; `None` if nothing. One slash at the end makes no difference.
pub fn find(path: &str) -> Option<Target> {
    let trimmed = path.strip_prefix('/')?;
    if trimmed.is_empty() {
        return Some(Target::Index);
    }
    let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
    let segments: Vec<String> = trimmed.split('/').map(decode).collect::<Option<_>>()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["catalog"] => Some(Target::Catalog),
        ["config"] => Some(Target::Config),
        ["openapi.json"] => Some(Target::OpenApi),
        ["changes"] => Some(Target::Changes),
        ["changes", revision] => Some(Target::Receipt { revision: revision.to_string() }),
        ["store"] => Some(Target::Store),
        ["store", "accept"] => Some(Target::AcceptStore),
        ["history"] => Some(Target::History),
        ["diff"] => Some(Target::Diff),
        ["rollback"] => Some(Target::Rollback),
        [top] => Some(Target::List { kind: kind(top, Scope::Global)?, mesh: None }),
        [top, name] => {
            Some(Target::Item { kind: kind(top, Scope::Global)?, mesh: name.to_string(), name: name.to_string() })
        }
        ["meshes", mesh, rest @ ..] => {
            let collection = rest.first()?;
            let collection =
                ALIASES.iter().find(|(alias, _)| alias == collection).map_or(*collection, |(_, name)| name);
            let mesh = mesh.to_string();
            match &rest[1..] {
                [] if collection == OVERVIEWS => Some(Target::Overviews { mesh }),
                [name] if collection == OVERVIEWS => Some(Target::Overview { mesh, name: name.to_string() }),
                [] => Some(Target::List { kind: kind(collection, Scope::Mesh)?, mesh: Some(mesh) }),
                [name] => Some(Target::Item { kind: kind(collection, Scope::Mesh)?, mesh, name: name.to_string() }),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The key that a path stands for. `None` if a store can hold no such document, whatever the characters of the path.
pub(super) fn key(kind: &'static Kind, mesh: &str, name: &str) -> Option<Key> {
    let usable = |name| kuma_model::check_name(name).is_none();
    (usable(mesh) && usable(name)).then(|| match kind.scope {
        Scope::Global => Key::mesh(name),
        Scope::Mesh => Key::new(kind.name, mesh, name),
    })
}

fn kind(api_path: &str, scope: Scope) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.api_path == api_path && kind.scope == scope)
}

/// Decodes one segment; an empty one, or one that is not UTF-8, is no path of ours.
fn decode(segment: &str) -> Option<String> {
    let decoded = percent_decode_str(segment).decode_utf8().ok()?;
    (!decoded.is_empty()).then(|| decoded.into_owned())
}
