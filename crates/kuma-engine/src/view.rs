//! The configuration of any proxy as a function of the documents of its mesh at a revision.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use kuma_envoy::ResourceKey;
use kuma_mesh::{KnownCallers, MeshSnapshot};
use kuma_store::{Contents, Revision, Stored};
use kuma_xds::Snapshot;

use crate::content::encode;
use crate::documents::Documents;

/// The documents of one mesh at a revision that concern its proxies. A copy costs a few pointers, and does not change
/// when the mesh does.
#[derive(Clone, Debug)]
pub struct MeshView {
    /// The documents, with their indexes.
    pub snapshot: Arc<MeshSnapshot>,
    /// The certificates, PEM, that proxies of the mesh trust; `None` while there is no CA.
    pub roots: Option<Arc<str>>,
    /// The revision of the store.
    pub revision: Revision,
}

/// The planned configuration of a proxy, not encoded yet.
pub(crate) struct Planned {
    pub(crate) keys: Vec<ResourceKey>,
    /// Why it cannot offer the metrics that its mesh asks for.
    pub(crate) metrics_problem: Option<String>,
}

/// The parts of a configuration to plan.
pub(crate) struct Parts<'a> {
    /// Which clients the inbounds admit.
    pub(crate) admission: bool,
    /// Whether the flows of the outbounds are permitted.
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

    /// The configuration of a Dataplane's proxy without its certificate, generated from scratch. The incremental path
    /// must give the same. `admin` is the address of its Envoy's admin server, if it has one. `None` if there is no
    /// such Dataplane.
    pub fn generate(&self, proxy: &str, admin: Option<SocketAddr>) -> Option<Snapshot> {
        self.generate_at(proxy, admin, 0)
    }

    /// The same for a number of attempts to open its log files; see [`ResourceKey::with_log_attempt`].
    pub(crate) fn generate_at(&self, proxy: &str, admin: Option<SocketAddr>, log_attempt: u32) -> Option<Snapshot> {
        let Planned { keys, .. } = self.plan(proxy, admin, log_attempt)?;
        let mut builder = Snapshot::builder().revision(self.revision);
        for key in keys {
            builder.insert(Arc::new(encode(&key)));
        }
        Some(builder.build())
    }

    /// The keys of a proxy's resources; `None` if there is no such Dataplane.
    pub(crate) fn plan(&self, proxy: &str, admin: Option<SocketAddr>, log_attempt: u32) -> Option<Planned> {
        let dataplane = self.snapshot.dataplane(proxy)?;
        let metrics = kuma_envoy::plan_metrics(&self.snapshot, dataplane, admin);
        // A raw resource of a template follows, and replaces one of the same name.
        let mut keys = metrics.keys;
        let planned = kuma_envoy::plan(&self.snapshot, dataplane, self.roots.as_ref()).into_iter();
        keys.extend(planned.map(|key| if log_attempt > 0 { key.with_log_attempt(log_attempt) } else { key }));
        Some(Planned { keys, metrics_problem: metrics.problem })
    }

    /// The keys of parts of a proxy's resources; `None` if the proxy has to be planned as a whole. `callers` is a cache
    /// that is valid for this view only.
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
