//! Keeps the list up to date with the documents of the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kuma_store::{Commit, Contents, Follower};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Documents, List};

/// The list and its documents.
pub struct Assignments {
    documents: Mutex<Documents>,
    list: watch::Sender<Arc<List>>,
}

impl Assignments {
    /// An empty list.
    pub fn new() -> Assignments {
        let documents = Documents::default();
        Assignments { list: watch::Sender::new(Arc::new(documents.list())), documents: Mutex::new(documents) }
    }

    /// The latest list.
    pub fn list(&self) -> watch::Receiver<Arc<List>> {
        self.list.subscribe()
    }

    /// Records that a Mesh was written again without a change, which is no commit of the store.
    pub fn touch_mesh(&self, mesh: &str) {
        let mut documents = self.documents();
        documents.touch_mesh(&Arc::from(mesh), Instant::now());
        self.publish(&documents);
    }

    fn publish(&self, documents: &Documents) {
        let list = documents.list();
        self.list.send_if_modified(|last| {
            let changed = last.version != list.version || last.hold != list.hold;
            *last = Arc::new(list);
            changed
        });
    }

    fn documents(&self) -> MutexGuard<'_, Documents> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Assignments {
    fn default() -> Assignments {
        Assignments::new()
    }
}

impl Follower for Assignments {
    fn load(&self, contents: &Contents) {
        let mut documents = self.documents();
        documents.load(contents);
        self.publish(&documents);
    }

    fn commit(&self, commit: &Commit) {
        let mut documents = self.documents();
        if documents.commit(&commit.changes, Instant::now()) {
            self.publish(&documents);
        }
    }
}
