//! The one place that opens the store: by its type, with what this machine remembers of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use kuma_ca::mesh_secret;
use kuma_ca::sealing::{SealingKeys, sealed_with};
use kuma_model::{NO_MESH, SECRET_KIND};
use kuma_store::{Journal, JournaledStore, MemoryStore, Options, Store, StoreError, Stored};
use kuma_store_postgres::{Migration, OriginalRow, Password, PostgresConfig, PostgresJournal, PostgresTls};
use kuma_store_sqlite::SqliteJournal;
use zeroize::Zeroizing;

use crate::config::{Config, PostgresStore, StoreType, TlsMode};
use crate::http::error::chain;
use crate::metrics::Metrics;
use crate::sealed_journal::SealedJournal;
use crate::state_folder::{FolderLock, StateFolder};
use crate::store_seen::{Seen, Trust};

/// How many documents the log names that are missing.
const NAMED: usize = 50;

/// The file of `store.type=file` in the state folder.
pub(crate) const FILE: &str = "store.db";

/// Pause between two attempts to reach a database.
const RETRY: Duration = Duration::from_secs(1);

/// A store that is open.
pub struct OpenStore {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What is remembered of it.
    pub trust: Trust,
    /// Whether other control planes may use it at the same time.
    pub is_shared: bool,
    /// Whether nothing had ever been in it.
    pub was_empty: bool,
    /// What the original Kuma has left in the same database, if nothing of ours had ever been in it.
    pub original: Vec<OriginalRow>,
    /// Leaves it in order before the process ends.
    pub close: BoxFuture<'static, ()>,
}

impl OpenStore {
    /// A store that ends with the process, or that others take care of.
    pub fn unmanaged(store: Arc<dyn Store>) -> OpenStore {
        let was_empty = store.head().position.revision == 0;
        OpenStore {
            store,
            trust: Trust::Whole,
            is_shared: false,
            was_empty,
            original: Vec::new(),
            close: Box::pin(async {}),
        }
    }
}

/// What stores need beside their settings.
#[derive(Clone)]
pub struct Surroundings {
    /// `None` if it cannot be used.
    pub folder: Option<Arc<StateFolder>>,
    /// Identifies this process.
    pub instance: Arc<str>,
    /// Where a store is counted that is not the one that it was.
    pub metrics: Arc<Metrics>,
}

/// Opens the store that is configured. A database that cannot be reached is waited for.
///
/// # Errors
/// It cannot be used, with the setting that names it.
pub async fn open(config: &Config, surroundings: Surroundings) -> anyhow::Result<OpenStore> {
    match config.store.store_type {
        StoreType::Memory => {
            tracing::warn!("documents end with this process; KUMA_STORE_TYPE=file keeps them");
            if !config.store.secrets_key_file.as_os_str().is_empty() {
                tracing::warn!(
                    "store.secretsKeyFile does nothing with store.type memory: the state folder is not sealed"
                );
            }
            Ok(OpenStore::unmanaged(Arc::new(MemoryStore::new())))
        }
        StoreType::File => open_file(config, surroundings).await,
        StoreType::Postgres => open_postgres(config, &surroundings).await,
        StoreType::Kubernetes => bail!("store.type (KUMA_STORE_TYPE): this version has no store `kubernetes`"),
    }
}

/// The file of `store.type=file`.
///
/// # Errors
/// It would be in the state folder, and that cannot be used.
pub fn file_of(config: &Config, folder: Option<&StateFolder>) -> anyhow::Result<PathBuf> {
    let path = &config.store.file.path;
    if !path.as_os_str().is_empty() {
        return Ok(path.clone());
    }
    let folder = folder.context(
        "store.file.path (KUMA_STORE_FILE_PATH) is not set, and the state folder (KUMA_GENERAL_WORK_DIR) cannot be \
         used",
    )?;
    Ok(folder.path().join(FILE))
}

async fn open_file(config: &Config, surroundings: Surroundings) -> anyhow::Result<OpenStore> {
    let seen = surroundings.seen()?;
    let keys = sealing_keys(config)?;
    let path = file_of(config, surroundings.folder.as_deref())?;
    let opening = path.clone();
    let opened = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let journal = SqliteJournal::open(&opening)?;
        // Two control planes would each write over what the other one has in memory.
        Ok((FolderLock::beside(&opening)?, journal))
    });
    let named = || format!("the store cannot be opened: {} (KUMA_STORE_FILE_PATH)", path.display());
    let (lock, journal) = opened.await?.with_context(named)?;
    let journal = SealedJournal::new(journal, keys);
    let store = open_journal(journal, config, surroundings, seen).await.with_context(named)?;
    let close = store.close;
    let close = async move {
        close.await;
        drop(lock);
    };
    tracing::info!(file = %path.display(), "documents are kept in a file");
    Ok(OpenStore { close: Box::pin(close), ..store })
}

async fn open_postgres(config: &Config, surroundings: &Surroundings) -> anyhow::Result<OpenStore> {
    let seen = surroundings.seen()?;
    let keys = sealing_keys(config)?;
    let mut told = String::new();
    loop {
        let opened = match PostgresJournal::connect(postgres(&config.store.postgres)).await {
            Ok(journal) => open_database(journal, keys.clone(), config, surroundings, seen).await,
            Err(error) => Err(error),
        };
        let reason = match opened {
            Ok(store) => return Ok(store),
            // It does not get better by waiting.
            Err(error @ StoreError::Unusable { .. }) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        if reason != told {
            tracing::error!(reason, "nothing can be served before the store is there: trying again until it is");
            told = reason;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Makes the tables of the database that is configured, or brings them to this version. It is done at start as well;
/// apart it shows what is wrong, and somebody with more rights can do it.
///
/// # Errors
/// No database is configured, or it cannot be done.
pub async fn migrate(config: &Config) -> anyhow::Result<Migration> {
    if config.store.store_type != StoreType::Postgres {
        bail!("store.type (KUMA_STORE_TYPE) is not postgres: there is no database to migrate");
    }
    Ok(kuma_store_postgres::migrate(&postgres(&config.store.postgres)).await?)
}

/// The store in a database, with what the original has left beside it.
async fn open_database(
    journal: PostgresJournal,
    keys: Arc<SealingKeys>,
    config: &Config,
    surroundings: &Surroundings,
    seen: Option<Seen>,
) -> Result<OpenStore, StoreError> {
    let original = journal.original_rows().await?;
    let journal = SealedJournal::new(journal, keys);
    let store = open_journal(journal, config, surroundings.clone(), seen).await?;
    let original = if store.was_empty && store.trust == Trust::New { original } else { Vec::new() };
    Ok(OpenStore { original, ..store })
}

/// The settings as the journal takes them.
fn postgres(settings: &PostgresStore) -> PostgresConfig {
    let file = |path: &str| (!path.is_empty()).then(|| path.into());
    PostgresConfig {
        hosts: settings.hosts().map(str::to_owned).collect(),
        port: settings.port,
        user: settings.user.clone(),
        password: match settings.password_file.as_os_str().is_empty() {
            true => Password::Text(settings.password.expose().to_owned()),
            false => Password::File(settings.password_file.clone()),
        },
        db_name: settings.db_name.clone(),
        connection_timeout: Duration::from_secs(settings.connection_timeout.into()),
        max_open_connections: settings.max_open_connections,
        tls: PostgresTls {
            mode: match settings.tls.mode {
                TlsMode::Disable => kuma_store_postgres::TlsMode::Disable,
                TlsMode::VerifyNone => kuma_store_postgres::TlsMode::VerifyNone,
                TlsMode::VerifyCa => kuma_store_postgres::TlsMode::VerifyCa,
                TlsMode::VerifyFull => kuma_store_postgres::TlsMode::VerifyFull,
            },
            ca: file(&settings.tls.ca_path),
            cert: file(&settings.tls.cert_path),
            key: file(&settings.tls.key_path),
        },
    }
}

impl Surroundings {
    /// What this machine remembers of the store.
    fn seen(&self) -> anyhow::Result<Option<Seen>> {
        Ok(self.folder.as_deref().map(Seen::read).transpose()?.flatten())
    }
}

/// The store over a journal, of which this is remembered.
async fn open_journal<J: Journal>(
    journal: SealedJournal<J>,
    config: &Config,
    surroundings: Surroundings,
    seen: Option<Seen>,
) -> Result<OpenStore, StoreError> {
    let Surroundings { folder, instance, metrics } = surroundings;
    let is_shared = journal.is_shared();
    journal.seal_anew().await?;
    let (lost_folder, lost_metrics) = (folder.clone(), metrics.clone());
    let options = Options {
        instance,
        seen: seen.map(|seen| seen.head()),
        was_incomplete: seen.is_some_and(|seen| seen.is_new() || seen.is_doubtful()),
        keep: config.store.history.keep(),
        on_rewound: Box::new(move |lost| {
            lost_metrics.store_rewound(true);
            tell_lost(&lost, lost_folder.as_deref());
        }),
    };
    let store = Arc::new(JournaledStore::open(journal, options).await?);
    check_opened(store.as_ref()).await?;
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
    let close = Box::pin(async move { closing.close().await });
    Ok(OpenStore { store, trust, is_shared, was_empty, original: Vec::new(), close })
}

/// The keys of `store.secretsKeyFile`; none if it is not set.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn sealing_keys(config: &Config) -> anyhow::Result<Arc<SealingKeys>> {
    let path = &config.store.secrets_key_file;
    if path.as_os_str().is_empty() {
        tracing::info!("secrets are stored as they are; store.secretsKeyFile seals them");
        return Ok(Arc::default());
    }
    let named = || format!("store.secretsKeyFile (KUMA_STORE_SECRETS_KEY_FILE): {}", path.display());
    let text = std::fs::read(path).map(Zeroizing::new).with_context(named)?;
    let keys = SealingKeys::parse(std::str::from_utf8(&text).with_context(named)?).with_context(named)?;
    Ok(Arc::new(keys))
}

/// Looks whether the keys of the control plane itself could be opened. Without them it cannot work, and new ones would
/// cut off every proxy. The CA of a mesh that cannot be opened concerns that mesh alone.
async fn check_opened(store: &dyn Store) -> Result<(), StoreError> {
    for stored in store.list(SECRET_KIND, Some(NO_MESH)).await? {
        if let (Some(id), None) = (sealed_with(&stored.spec()), mesh_secret::kind(&stored.key)) {
            let reason = format!(
                "{} is sealed with the key {id:?}, which store.secretsKeyFile (KUMA_STORE_SECRETS_KEY_FILE) does not \
                 have, or has otherwise; add a line with that key to the file",
                stored.key
            );
            return Err(StoreError::Unusable { reason });
        }
    }
    Ok(())
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
