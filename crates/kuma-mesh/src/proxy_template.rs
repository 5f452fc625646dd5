//! ProxyTemplate: raw configuration for chosen proxies, beside what is generated or in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kuma_model::Selector;

use crate::matching::{ProxyPolicy, best_for_proxy, proxy_rank};
use crate::{Affected, MeshDataplane, MeshSnapshot};

/// A ProxyTemplate, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Which proxies; none means every proxy.
    pub selectors: Vec<Selector>,
    /// Whether they get what a proxy without a template gets.
    pub default_proxy: bool,
    /// What they get besides. Where a generated resource has the same type and name, this one takes its place.
    pub resources: Vec<Arc<RawResource>>,
}

/// A resource that is given as it is. What is in it is for others to say: here it is bytes with a name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RawResource {
    /// The type URL of the resource.
    pub type_url: &'static str,
    /// Its name, unique among those of its type.
    pub name: Arc<str>,
    /// The message, encoded.
    pub value: Arc<[u8]>,
    /// Name of the endpoints that must come again whenever it does, if it is a cluster that takes its endpoints from
    /// the control plane.
    pub endpoints: Option<Arc<str>>,
}

/// The templates of a mesh, by name.
pub(crate) type Templates = BTreeMap<Arc<str>, Arc<Template>>;

impl ProxyPolicy for Template {
    fn selectors(&self) -> &[Selector] {
        &self.selectors
    }
}

impl MeshSnapshot {
    /// The template of a proxy, if it has one: more tags win, then exact values over `*`, then the name that sorts
    /// first.
    pub fn template(&self, dataplane: &MeshDataplane) -> Option<(&Arc<str>, &Arc<Template>)> {
        best_for_proxy(&self.templates, dataplane)
    }

    /// Puts or deletes a ProxyTemplate.
    pub fn set_template(&mut self, name: &Arc<str>, template: Option<Arc<Template>>) -> Affected {
        let before = match &template {
            Some(template) => self.templates.insert(name.clone(), template.clone()),
            None => self.templates.remove(name),
        };
        if before == template {
            return Affected::none();
        }
        let about = |dataplane: &MeshDataplane| {
            before.iter().chain(&template).any(|template| proxy_rank(template.as_ref(), dataplane).is_some())
        };
        let proxies: BTreeSet<Arc<str>> =
            self.dataplanes().filter(|dataplane| about(dataplane)).map(|dataplane| dataplane.name.clone()).collect();
        Affected::proxies(proxies)
    }
}
