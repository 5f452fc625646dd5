//! The resources that one proxy should have, as an immutable value.

use std::sync::Arc;

use envoy_api::ResourceType;

use crate::Resource;

/// The resources of one type, sorted by name (bytewise) and distinct.
pub type ResourceList = Arc<[Arc<Resource>]>;

/// All resources that one proxy should have: for each type a list of shared resources, sorted by name.
///
/// Cheap to clone and to compare: a type that did not change from one snapshot to the next shares its list, and a
/// resource that did not change shares its allocation.
#[derive(Clone, Debug)]
pub struct Snapshot {
    revision: u64,
    generation: u64,
    lists: [ResourceList; ResourceType::COUNT],
}

impl Snapshot {
    /// Starts an empty snapshot.
    pub fn builder() -> SnapshotBuilder {
        SnapshotBuilder::default()
    }

    /// Starts from this snapshot; types that are not changed stay shared with it.
    pub fn to_builder(&self) -> SnapshotBuilder {
        SnapshotBuilder {
            revision: self.revision,
            generation: self.generation,
            lists: self.lists.clone().map(Part::Shared),
        }
    }

    /// The caller's number of the state from which this was made. It is returned in
    /// [`Event::Settled`](crate::Event::Settled).
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Another number of the caller, whose acceptance it wants to know. It is returned in
    /// [`Event::Settled`](crate::Event::Settled).
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All resources of a type, sorted by name.
    pub fn list(&self, resource_type: ResourceType) -> &ResourceList {
        &self.lists[resource_type as usize]
    }

    /// The resource of a type and name.
    pub fn get(&self, resource_type: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        find(self.list(resource_type), name)
    }
}

impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot::builder().build()
    }
}

/// Collects the resources of a [`Snapshot`].
#[derive(Default, Debug)]
pub struct SnapshotBuilder {
    revision: u64,
    generation: u64,
    lists: [Part; ResourceType::COUNT],
}

#[derive(Debug)]
enum Part {
    Shared(ResourceList),
    /// A list that was shared and has been changed: sorted by name and distinct.
    Edited(Vec<Arc<Resource>>),
    /// In the order in which they were added: of two with the same name the later one counts.
    Own(Vec<Arc<Resource>>),
}

impl SnapshotBuilder {
    /// Sets the caller's number for it; 0 unless set.
    #[must_use]
    pub fn revision(mut self, revision: u64) -> SnapshotBuilder {
        self.revision = revision;
        self
    }

    /// Sets the caller's generation; 0 unless set.
    #[must_use]
    pub fn generation(mut self, generation: u64) -> SnapshotBuilder {
        self.generation = generation;
        self
    }

    /// Adds a resource, or replaces the one of its type and name, since a response must not name a resource twice.
    pub fn insert(&mut self, resource: Arc<Resource>) -> &mut SnapshotBuilder {
        let part = &mut self.lists[resource.resource_type() as usize];
        match part {
            // By its pointer alone: to look for its name would read the name of each resource that it is compared with.
            Part::Shared(list) if list.iter().any(|held| Arc::ptr_eq(held, &resource)) => {}
            Part::Own(resources) => resources.push(resource),
            Part::Shared(_) | Part::Edited(_) => {
                let list = part.edit();
                match list.binary_search_by(|held| held.name().cmp(resource.name())) {
                    Ok(at) => list[at] = resource,
                    Err(at) => list.insert(at, resource),
                }
            }
        }
        self
    }

    /// Adds a resource, or replaces the one of its type and name.
    #[must_use]
    pub fn with(mut self, resource: impl Into<Arc<Resource>>) -> SnapshotBuilder {
        self.insert(resource.into());
        self
    }

    /// Removes a resource.
    pub fn remove(&mut self, resource_type: ResourceType, name: &str) -> &mut SnapshotBuilder {
        self.lists[resource_type as usize].edit().retain(|resource| **resource.name() != *name);
        self
    }

    /// Sets a whole list, which must come from another [`Snapshot`]: sorted by name and distinct.
    pub fn share(&mut self, resource_type: ResourceType, list: ResourceList) -> &mut SnapshotBuilder {
        debug_assert!(list.is_sorted_by(|a, b| a.name() < b.name()));
        self.lists[resource_type as usize] = Part::Shared(list);
        self
    }

    /// The snapshot.
    pub fn build(self) -> Snapshot {
        let SnapshotBuilder { revision, generation, lists } = self;
        let lists = lists.map(|part| match part {
            Part::Shared(list) => list,
            Part::Edited(resources) => resources.into(),
            Part::Own(resources) if resources.is_empty() => ResourceList::default(),
            Part::Own(resources) => sorted(resources).into(),
        });
        Snapshot { revision, generation, lists }
    }

    /// The snapshot, sharing with `previous` the list of every type whose resources have the same names and versions.
    pub fn build_after(self, previous: &Snapshot) -> Snapshot {
        let mut snapshot = self.build();
        for (list, before) in snapshot.lists.iter_mut().zip(&previous.lists) {
            if Arc::ptr_eq(list, before) {
                continue;
            }
            let same = |(a, b): (&Arc<Resource>, &Arc<Resource>)| interchangeable(a, b);
            if list.len() == before.len() && list.iter().zip(before.iter()).all(same) {
                *list = before.clone();
            }
        }
        snapshot
    }
}

impl Part {
    fn edit(&mut self) -> &mut Vec<Arc<Resource>> {
        if let Part::Shared(list) = self {
            *self = Part::Edited(list.to_vec());
        }
        match self {
            Part::Edited(resources) | Part::Own(resources) => resources,
            Part::Shared(_) => unreachable!("made our own just above"),
        }
    }
}

impl Default for Part {
    fn default() -> Part {
        Part::Own(Vec::new())
    }
}

/// Sorts by name; of resources with the same name the last one is kept.
fn sorted(mut resources: Vec<Arc<Resource>>) -> Vec<Arc<Resource>> {
    resources.sort_by(|a, b| a.name().cmp(b.name()));
    resources.dedup_by(|later, earlier| {
        let same = later.name() == earlier.name();
        if same {
            std::mem::swap(later, earlier);
        }
        same
    });
    resources
}

/// Whether two resources are equal in everything that a session uses.
fn interchangeable(a: &Arc<Resource>, b: &Arc<Resource>) -> bool {
    Arc::ptr_eq(a, b)
        || (a.name() == b.name()
            && a.version() == b.version()
            && a.has_body() == b.has_body()
            && a.is_placeholder() == b.is_placeholder()
            && a.requires() == b.requires())
}

/// Finds a name in a list sorted by name.
pub(crate) fn find<'a>(list: &'a [Arc<Resource>], name: &str) -> Option<&'a Arc<Resource>> {
    let at = list.binary_search_by(|resource| (**resource.name()).cmp(name)).ok()?;
    Some(&list[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str, value: &str) -> Arc<Resource> {
        Arc::new(Resource::new(ResourceType::Cluster, name, value.as_bytes()))
    }

    #[test]
    fn lists_are_sorted_and_distinct() {
        let snapshot =
            Snapshot::builder().with(cluster("b", "1")).with(cluster("a", "1")).with(cluster("b", "2")).build();
        let names: Vec<&str> = snapshot.list(ResourceType::Cluster).iter().map(|cluster| &**cluster.name()).collect();
        assert_eq!(names, ["a", "b"]);
        let b = snapshot.get(ResourceType::Cluster, "b").expect("b");
        assert!(b.same_as(&cluster("b", "2")));
        assert!(snapshot.get(ResourceType::Cluster, "c").is_none());
        assert!(snapshot.get(ResourceType::Listener, "a").is_none());
    }

    #[test]
    fn unchanged_types_share_their_list() {
        let listener = Arc::new(Resource::new(ResourceType::Listener, "l", b"1"));
        let first = Snapshot::builder().with(cluster("a", "1")).with(listener).build();
        let mut edit = first.to_builder();
        edit.insert(cluster("a", "2"));
        // Adding the resource that it already has changes nothing, also after an intermediate change.
        edit.insert(first.list(ResourceType::Listener)[0].clone());
        let second = edit.build();
        assert!(Arc::ptr_eq(first.list(ResourceType::Listener), second.list(ResourceType::Listener)));
        assert!(!Arc::ptr_eq(first.list(ResourceType::Cluster), second.list(ResourceType::Cluster)));

        let again = Snapshot::builder().with(cluster("a", "2")).build_after(&second);
        assert!(Arc::ptr_eq(again.list(ResourceType::Cluster), second.list(ResourceType::Cluster)));
    }
}
