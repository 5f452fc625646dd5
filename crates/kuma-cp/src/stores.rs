//! The one place that opens the store: by its type, with what this machine remembers of it.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use kuma_model::SECRET_KIND;
use kuma_store::{Journal, JournaledStore, MemoryStore, Options, Store, Stored};

use crate::config::{Config, StoreType};
use crate::http::error::chain;
use crate::metrics::Metrics;
use crate::state_folder::StateFolder;
use crate::store_seen::{Seen, Trust};

/// How many documents the log names that are missing.
const NAMED: usize = 50;

/// A store that is open.
pub struct OpenStore {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What is remembered of it.
    pub trust: Trust,
    /// Whether nothing had ever been in it.
    pub was_empty: bool,
    /// Leaves it in order before the process ends.
    pub close: BoxFuture<'static, ()>,
}

impl OpenStore {
    /// A store that ends with the process, or that others take care of.
    pub fn unmanaged(store: Arc<dyn Store>) -> OpenStore {
        let was_empty = store.head().position.revision == 0;
        OpenStore { store, trust: Trust::Whole, was_empty, close: Box::pin(async {}) }
    }
}

/// What stores need beside their settings.
pub struct Surroundings {
    /// `None` if it cannot be used.
    pub folder: Option<Arc<StateFolder>>,
    /// Identifies this process.
    pub instance: Arc<str>,
    /// Where a store is counted that is not the one that it was.
    pub metrics: Arc<Metrics>,
}

/// Opens the store that is configured.
///
/// # Errors
/// It cannot be used, with the setting that names it.
pub async fn open(config: &Config, _surroundings: Surroundings) -> anyhow::Result<OpenStore> {
    match config.store.store_type {
        StoreType::Memory => {
            tracing::warn!("documents end with this process; KUMA_STORE_TYPE=file keeps them");
            Ok(OpenStore::unmanaged(Arc::new(MemoryStore::new())))
        }
        StoreType::File | StoreType::Postgres | StoreType::Kubernetes => {
            bail!("store.type (KUMA_STORE_TYPE): this version has the store `memory` alone")
        }
    }
}

/// The store over a journal.
///
/// # Errors
/// The journal cannot be read, or what is remembered of it.
pub async fn open_journal<J: Journal>(
    journal: J,
    config: &Config,
    surroundings: Surroundings,
) -> anyhow::Result<OpenStore> {
    let Surroundings { folder, instance, metrics } = surroundings;
    let seen = folder.as_deref().map(Seen::read).transpose()?.flatten();
    let (lost_folder, lost_metrics) = (folder.clone(), metrics.clone());
    let options = Options {
        instance,
        seen: seen.map(|seen| seen.head()),
        was_incomplete: seen.is_some_and(|seen| seen.is_new()),
        keep: config.store.history.keep(),
        on_rewound: Box::new(move |lost| {
            lost_metrics.store_rewound(true);
            tell_lost(&lost, lost_folder.as_deref());
        }),
    };
    let store = Arc::new(JournaledStore::open(journal, options).await.context("the store cannot be read")?);
    let head = store.head();
    let was_empty = head.position.revision == 0;
    let trust = match seen {
        _ if store.is_complete() => Trust::Whole,
        None => Trust::New,
        Some(seen) if seen.is_new() && seen.head().store == head.store => Trust::New,
        Some(seen) => {
            metrics.store_rewound(true);
            let before = seen.head();
            tracing::error!(
                known = before.position.revision,
                known_store = %before.store,
                found = head.position.revision,
                found_store = %head.store,
                "the store is not the one that was used here before: it is another, an empty or an older one. Proxies \
                 whose documents are missing there keep what they have, until `kumactl store accept`"
            );
            Trust::Doubtful
        }
    };
    let closing = store.clone();
    Ok(OpenStore { store, trust, was_empty, close: Box::pin(async move { closing.close().await }) })
}

/// Says which documents the store has lost, and leaves them in the state folder for whoever wants them back. Secrets
/// are named alone.
fn tell_lost(lost: &[Arc<Stored>], folder: Option<&StateFolder>) {
    let mut names: Vec<String> = lost.iter().take(NAMED).map(|stored| stored.key.to_string()).collect();
    if lost.len() > NAMED {
        names.push(format!("and {} more", lost.len() - NAMED));
    }
    tracing::error!(?names, "documents that the store lacks now, or has in another text");
    let documents: Vec<_> = lost.iter().filter(|stored| stored.key.kind != SECRET_KIND).collect();
    let (Some(folder), false) = (folder, documents.is_empty()) else { return };
    let text: Result<Vec<String>, _> =
        documents.iter().map(|stored| serde_saphyr::to_string(&stored.document().to_json())).collect();
    let name = format!("lost-{}.yaml", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
    let written = text
        .map_err(|error| error.to_string())
        .and_then(|text| folder.write_new(&name, text.join("---\n").as_bytes()).map_err(|error| chain(&error)));
    let file = folder.path().join(&name).display().to_string();
    match written {
        Ok(_) => tracing::error!(file, "`kumactl apply -f` of this file brings them back"),
        Err(error) => tracing::error!(file, error, "they could not be written to a file"),
    }
}
