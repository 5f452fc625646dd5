//! Follows the store, and keeps the list at what its documents say.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kuma_store::{Change, Revision, Store, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Documents, List};

/// Pause before the store is read again after it could not be.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the list. [`Follower::run`] is its task.
pub struct Follower {
    store: Arc<dyn Store>,
    documents: Documents,
    revision: Revision,
    list: watch::Sender<Arc<List>>,
    rewritten: mpsc::UnboundedReceiver<Arc<str>>,
}

/// Tells the follower of Meshes that were written again without a change: for a store, that is no commit.
#[derive(Clone)]
pub struct Rewritten(mpsc::UnboundedSender<Arc<str>>);

impl Rewritten {
    /// Tells of one.
    pub fn tell(&self, mesh: &str) {
        // The follower has ended: so will everything.
        let _ = self.0.send(Arc::from(mesh));
    }
}

impl Follower {
    /// Reads the whole store.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn load(store: Arc<dyn Store>) -> Result<(Follower, Rewritten), StoreError> {
        let mut documents = Documents::new(store.durable());
        let (revision, all) = store.read_all().await?;
        documents.load(&all);
        let (list, _) = watch::channel(Arc::new(documents.list()));
        let (sender, rewritten) = mpsc::unbounded_channel();
        Ok((Follower { store, documents, revision, list, rewritten }, Rewritten(sender)))
    }

    /// The latest list.
    pub fn list(&self) -> watch::Receiver<Arc<List>> {
        self.list.subscribe()
    }

    /// Follows the store until cancelled. After a gap everything is read again; while that fails, the list stays as it was.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let mut changes = self.store.changes(self.revision);
            loop {
                let concerned = tokio::select! {
                    () = stop.cancelled() => return,
                    Some(mesh) = self.rewritten.recv() => {
                        self.documents.touch_mesh(&mesh, Instant::now());
                        true
                    }
                    change = changes.next() => match change {
                        Some(Change::Commit(commit)) => self.documents.commit(&commit.changes, Instant::now()),
                        Some(Change::Gap) | None => break,
                    },
                };
                if concerned {
                    self.publish();
                }
            }
            tokio::select! {
                () = self.read_again() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn read_again(&mut self) {
        loop {
            match self.store.read_all().await {
                Ok((revision, all)) => {
                    self.revision = revision;
                    self.documents.load(&all);
                    return self.publish();
                }
                Err(error) => tracing::warn!(%error, "the store cannot be read; Prometheus is told nothing new"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn publish(&self) {
        let list = self.documents.list();
        self.list.send_if_modified(|last| {
            let changed = last.version != list.version || last.hold != list.hold;
            *last = Arc::new(list);
            changed
        });
    }
}
