//! Operations on sorted lists of names and resources.

use std::sync::Arc;

use crate::{Resource, ResourceList};

/// Whether a resource is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// The client has it, or it is not sent to this client.
    No,
    /// The client has it, and it is pending.
    Again,
    /// The client has another version, or none.
    Changed,
}

/// The result of comparing the resources of a client with the snapshot.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Resources to send, sorted by name.
    pub(super) due: Vec<(Arc<Resource>, Due)>,
    /// Names of resources that the client has and should not have any more. Sorted.
    pub(super) removed: Vec<Arc<str>>,
    /// Names that are pending and do not exist. Sorted.
    pub(super) missing: Vec<Arc<str>>,
}

/// Whether `target` is to be sent to a client that has `held` under that name.
pub(super) fn due(target: &Arc<Resource>, held: Option<&Arc<Resource>>, pending: &[Arc<str>]) -> Due {
    if !target.has_body() {
        return Due::No;
    }
    match held {
        None => Due::Changed,
        Some(held) if held.same_as(target) => match find_name(pending, target.name()) {
            true => Due::Again,
            false => Due::No,
        },
        Some(_) if target.is_placeholder() => Due::No,
        Some(_) => Due::Changed,
    }
}

/// The resources of a snapshot that a client is subscribed to, sorted by name.
pub(super) fn targets<'a>(
    wildcard: bool,
    names: &'a [Arc<str>],
    list: &'a [Arc<Resource>],
) -> impl Iterator<Item = &'a Arc<Resource>> {
    let (all, named) = if wildcard { (list, &[][..]) } else { (&[][..], names) };
    let mut rest = list;
    let named = named.iter().filter_map(move |name| {
        // Most clients subscribe to everything, so most often the next resource is the right one.
        let at = match rest.first() {
            Some(next) if next.name() == name => Ok(0),
            _ => rest.binary_search_by(|resource| resource.name().cmp(name)),
        };
        let (found, behind) = match at {
            Ok(at) => (rest.get(at), at + 1),
            Err(behind) => (None, behind),
        };
        rest = &rest[behind..];
        found
    });
    all.iter().chain(named)
}

/// Whether a sorted list contains a name.
pub(super) fn find_name(names: &[Arc<str>], name: &str) -> bool {
    names.binary_search_by(|candidate| (**candidate).cmp(name)).is_ok()
}

/// Adds names to a sorted list. All at once: one by one, a request with many names would take quadratic time.
pub(super) fn add_names(names: &mut Vec<Arc<str>>, more: impl IntoIterator<Item = Arc<str>>) {
    let before = names.len();
    names.extend(more);
    if names.len() > before {
        names.sort();
        names.dedup();
        names.shrink_to_fit();
    }
}

/// Removes names from a list.
pub(super) fn remove_names(names: &mut Vec<Arc<str>>, sorted: &[Arc<str>]) {
    if !sorted.is_empty() && !names.is_empty() {
        names.retain(|name| !find_name(sorted, name));
        names.shrink_to_fit();
    }
}

/// Removes the resources of these names.
pub(super) fn remove_resources(view: &mut ResourceList, sorted: &[Arc<str>]) {
    if !sorted.is_empty() {
        retain(view, |held| !find_name(sorted, held.name()));
    }
}

/// Removes the resources for which `stays` is false.
pub(super) fn retain(view: &mut ResourceList, stays: impl Fn(&Arc<Resource>) -> bool) {
    if !view.iter().all(&stays) {
        *view = view.iter().filter(|held| stays(held)).cloned().collect();
    }
}

/// Two lists sorted by name as one, in which those of `newer` replace those of `older`.
pub(super) fn merge(older: &[Arc<Resource>], newer: &[Arc<Resource>]) -> Vec<Arc<Resource>> {
    let mut merged = Vec::with_capacity(older.len().max(newer.len()));
    let mut older = older.iter().peekable();
    for resource in newer {
        while let Some(held) = older.next_if(|held| held.name() < resource.name()) {
            merged.push(held.clone());
        }
        older.next_if(|held| held.name() == resource.name());
        merged.push(resource.clone());
    }
    merged.extend(older.cloned());
    merged
}

/// The version of a whole list, for the SotW variant: made of names and versions, so equal in every process.
pub(super) fn version_of(list: &[Arc<Resource>]) -> String {
    let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
    for resource in list {
        for part in [resource.name(), resource.version()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    format!("{:016x}", hasher.digest())
}
