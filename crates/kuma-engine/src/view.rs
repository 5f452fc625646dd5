//! What any proxy should get: a function of the documents of its mesh at a revision.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use kuma_envoy::ResourceKey;
use kuma_mesh::{KnownCallers, MeshSnapshot};
use kuma_store::{Contents, Revision, Stored};
use kuma_xds::Snapshot;

use crate::content::encode;
use crate::documents::Documents;

/// The documents of one mesh at a revision, as far as they bear on its proxies. A copy costs a few pointers and stays
/// as it is while the mesh goes on.
#[derive(Clone, Debug)]
pub struct MeshView {
    /// The documents, with their indexes.
    pub snapshot: Arc<MeshSnapshot>,
    /// The certificates, PEM, that proxies of the mesh trust; `None` while there is no CA.
    pub roots: Option<Arc<str>>,
    /// The revision of the store that this is the state of.
    pub revision: Revision,
}

/// What a proxy is to get, not encoded yet.
pub(crate) struct Planned {
    pub(crate) keys: Vec<ResourceKey>,
    /// Why it offers no metrics though its mesh asks for them.
    pub(crate) metrics_problem: Option<String>,
}

/// What of a configuration is planned anew.
pub(crate) struct Parts<'a> {
    /// Who is admitted at the inbounds.
    pub(crate) admission: bool,
    /// Whether what the outbounds carry is permitted.
    pub(crate) flows: bool,
    /// The endpoints of these services.
    pub(crate) endpoints: Option<&'a BTreeSet<Arc<str>>>,
}

impl MeshView {
    /// The view of these documents, Secrets with CAs included, in a store that keeps them.
    pub fn of_documents(mesh: &str, documents: &[Arc<Stored>], revision: Revision) -> MeshView {
        let mut all = Documents::new(mesh, false);
        all.load(&Contents { revision, documents: documents.to_vec(), complete: true, generation: 0 });
        all.view
    }

    /// Everything that the proxy of a Dataplane is to get but its own certificate, made from nothing. What a connected
    /// proxy has by the incremental path equals it. `admin`: its Envoy's admin server, if it has one. `None` if there
    /// is no such Dataplane.
    pub fn generate(&self, proxy: &str, admin: Option<SocketAddr>) -> Option<Snapshot> {
        self.generate_at(proxy, admin, 0)
    }

    /// The same at an attempt at opening the files of its logs; see [`ResourceKey::with_log_attempt`].
    pub(crate) fn generate_at(&self, proxy: &str, admin: Option<SocketAddr>, log_attempt: u32) -> Option<Snapshot> {
        let Planned { keys, .. } = self.plan(proxy, admin, log_attempt)?;
        let mut builder = Snapshot::builder().revision(self.revision);
        for key in keys {
            builder.insert(Arc::new(encode(&key)));
        }
        Some(builder.build())
    }

    /// The keys of everything that a proxy is to get; `None` if there is no such Dataplane.
    pub(crate) fn plan(&self, proxy: &str, admin: Option<SocketAddr>, log_attempt: u32) -> Option<Planned> {
        let dataplane = self.snapshot.dataplane(proxy)?;
        let metrics = kuma_envoy::plan_metrics(&self.snapshot, dataplane, admin);
        // What a template gives by the same name comes later, and counts.
        let mut keys = metrics.keys;
        let planned = kuma_envoy::plan(&self.snapshot, dataplane, self.roots.as_ref()).into_iter();
        keys.extend(planned.map(|key| if log_attempt > 0 { key.with_log_attempt(log_attempt) } else { key }));
        Some(Planned { keys, metrics_problem: metrics.problem })
    }

    /// The keys of parts of what a proxy is to get; `None` where only [`MeshView::plan`] tells. `callers` are for this
    /// view.
    pub(crate) fn plan_parts(
        &self,
        proxy: &str,
        parts: &Parts<'_>,
        callers: &mut KnownCallers,
    ) -> Option<Vec<ResourceKey>> {
        let dataplane = self.snapshot.dataplane(proxy)?;
        let mut keys = Vec::new();
        if parts.admission {
            keys.extend(kuma_envoy::plan_admission(&self.snapshot, dataplane, self.roots.as_ref())?);
        }
        if parts.flows {
            keys.extend(kuma_envoy::plan_flows(&self.snapshot, dataplane, callers)?);
        }
        if let Some(services) = parts.endpoints {
            keys.extend(kuma_envoy::plan_endpoints(&self.snapshot, dataplane, services)?);
        }
        Some(keys)
    }
}
