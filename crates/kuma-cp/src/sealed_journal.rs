//! A journal that holds secrets sealed, so that a copy of it gives none away.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use kuma_ca::sealing::{SealingKeys, sealed_with};
use kuma_model::{Key, SECRET_KIND};
use kuma_store::{
    Appended, Cause, Commit, HistoryPage, HistoryQuery, InsightRow, Journal, Keep, Loaded, Moment, Peer, Position,
    Revision, Since, StoreError, StoreFuture, Stored,
};
use uuid::Uuid;

use crate::identity::AUTHOR;

/// How often sealing anew is begun again because another control plane has written.
const ATTEMPTS: usize = 20;

/// A journal whose secrets are sealed on the way in, and opened on the way out: whoever reads from the store finds
/// them as they were written. One that cannot be opened stays as it is stored, so that it is not taken for missing;
/// whoever reads it says why it cannot be used.
pub struct SealedJournal<J> {
    journal: J,
    keys: Arc<SealingKeys>,
}

impl<J: Journal> SealedJournal<J> {
    /// Without keys, secrets are written as they are, and sealed ones are not opened.
    pub fn new(journal: J, keys: Arc<SealingKeys>) -> SealedJournal<J> {
        SealedJournal { journal, keys }
    }

    /// Seals every secret with the first key that is stored as it is, or is sealed with another key. They get a new
    /// version. It is called before the store is opened.
    ///
    /// # Errors
    /// The journal does not answer.
    pub async fn seal_anew(&self) -> Result<(), StoreError> {
        let Some(sealing) = self.keys.sealing() else { return Ok(()) };
        for _ in 0..ATTEMPTS {
            let Loaded { head, documents } = self.journal.load().await?;
            let now = self.journal.now();
            let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
            let outdated = documents
                .iter()
                .filter(|stored| stored.key.kind == SECRET_KIND && sealed_with(&stored.spec()) != Some(sealing));
            let opened = outdated.filter_map(|stored| self.opened(stored).ok());
            let changes: Vec<_> = opened
                .map(|opened| {
                    let Stored { key, version, created, .. } = &*opened;
                    let next = Stored::restored(key.clone(), opened.spec_text().into(), version + 1, *created, now);
                    (key.clone(), Some(Arc::new(next)))
                })
                .collect();
            if changes.is_empty() {
                return Ok(());
            }
            let count = changes.len();
            let note = format!("seals secrets with the key {sealing}").into();
            let commit = Commit {
                revision: head.position.revision + 1,
                id: Uuid::new_v4(),
                at: now,
                cause: Cause { author: AUTHOR.into(), via: "".into(), note },
                changes,
            };
            if self.append(head.position, vec![Arc::new(commit)]).await? == Appended::Done {
                tracing::info!(count, key = sealing, "sealed secrets that were stored as they are or with another key");
                return Ok(());
            }
        }
        Err(StoreError::Unavailable { reason: "other control planes write all the time".into() })
    }

    fn opened(&self, stored: &Arc<Stored>) -> Result<Arc<Stored>, kuma_ca::sealing::OpenError> {
        let Stored { key, version, created, modified, .. } = &**stored;
        let text = self.keys.open(key, &stored.spec())?;
        Ok(text.map_or_else(
            || stored.clone(),
            |text| Arc::new(Stored::restored(key.clone(), text.as_str().into(), *version, *created, *modified)),
        ))
    }

    /// The document as it was written, or as it is stored if it cannot be opened.
    fn open(&self, stored: Arc<Stored>) -> Arc<Stored> {
        if stored.key.kind != SECRET_KIND {
            return stored;
        }
        self.opened(&stored).unwrap_or_else(|error| {
            tracing::error!(
                secret = %stored.key, %error,
                "a secret cannot be opened: store.secretsKeyFile (KUMA_STORE_SECRETS_KEY_FILE) has to have its key"
            );
            stored
        })
    }

    fn seal(&self, stored: &Arc<Stored>) -> Arc<Stored> {
        let is_secret = stored.key.kind == SECRET_KIND;
        let sealed = is_secret.then(|| self.keys.seal(&stored.key, stored.spec_text())).flatten();
        sealed.map_or_else(
            || stored.clone(),
            |spec| {
                let Stored { key, version, created, modified, .. } = &**stored;
                Arc::new(Stored::restored(key.clone(), spec.to_string().into(), *version, *created, *modified))
            },
        )
    }

    /// The commit with other texts of its secrets.
    fn with_secrets(commit: Arc<Commit>, change: impl Fn(&Arc<Stored>) -> Arc<Stored>) -> Arc<Commit> {
        if !commit.changes.iter().any(|(key, _)| key.kind == SECRET_KIND) {
            return commit;
        }
        let mut changed = (*commit).clone();
        for stored in changed.changes.iter_mut().filter_map(|(_, stored)| stored.as_mut()) {
            *stored = change(stored);
        }
        Arc::new(changed)
    }
}

impl<J: Journal> Journal for SealedJournal<J> {
    fn is_shared(&self) -> bool {
        self.journal.is_shared()
    }

    fn now(&self) -> Timestamp {
        self.journal.now()
    }

    fn load(&self) -> StoreFuture<'_, Loaded> {
        Box::pin(async {
            let Loaded { head, documents } = self.journal.load().await?;
            Ok(Loaded { head, documents: documents.into_iter().map(|stored| self.open(stored)).collect() })
        })
    }

    fn since(&self, base: Position) -> StoreFuture<'_, Since> {
        Box::pin(async move {
            Ok(match self.journal.since(base).await? {
                Since::Commits(commits) => {
                    let open = |stored: &Arc<Stored>| self.open(stored.clone());
                    Since::Commits(commits.into_iter().map(|commit| Self::with_secrets(commit, open)).collect())
                }
                other => other,
            })
        })
    }

    fn append(&self, base: Position, commits: Vec<Arc<Commit>>) -> StoreFuture<'_, Appended> {
        let commits = commits.into_iter().map(|commit| Self::with_secrets(commit, |stored| self.seal(stored)));
        self.journal.append(base, commits.collect())
    }

    fn changed_by_others(&self) -> BoxFuture<'_, ()> {
        self.journal.changed_by_others()
    }

    fn history(&self, query: HistoryQuery) -> StoreFuture<'_, HistoryPage> {
        self.journal.history(query)
    }

    fn at(&self, moment: Moment) -> StoreFuture<'_, (Revision, Vec<Arc<Stored>>)> {
        self.journal.at(moment)
    }

    fn prune(&self, keep: Keep) -> StoreFuture<'_, Revision> {
        self.journal.prune(keep)
    }

    fn insights(&self, mesh: Option<Arc<str>>, name: Option<Arc<str>>) -> StoreFuture<'_, Vec<InsightRow>> {
        self.journal.insights(mesh, name)
    }

    fn put_insights(&self, rows: Vec<InsightRow>) -> StoreFuture<'_, ()> {
        self.journal.put_insights(rows)
    }

    fn remove_insights(&self, keys: Vec<Key>) -> StoreFuture<'_, ()> {
        self.journal.remove_insights(keys)
    }

    fn heartbeat<'a>(&'a self, instance: &'a str, about: &'a str) -> StoreFuture<'a, Vec<Peer>> {
        self.journal.heartbeat(instance, about)
    }

    fn lease<'a>(&'a self, what: &'a str, instance: &'a str) -> StoreFuture<'a, bool> {
        self.journal.lease(what, instance)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.journal.close()
    }
}
