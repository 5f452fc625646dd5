//! Forgets what is known of the proxies of Dataplanes that are deleted, by whichever control plane on the store.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kuma_model::{Dataplane, Key, Resource as _};
use kuma_store::{Commit, Contents, Follower, Missing};

use crate::api::overview::LiveInsights;

/// Follows the store, and tells of each Dataplane that is gone.
pub struct Forgetting {
    live: Arc<dyn LiveInsights>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    dataplanes: BTreeSet<Key>,
    missing: Missing,
}

impl Forgetting {
    /// Tells `live`.
    pub fn new(live: Arc<dyn LiveInsights>) -> Forgetting {
        Forgetting { live, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower for Forgetting {
    fn load(&self, contents: &Contents) {
        let Known { dataplanes, missing } = &mut *self.known();
        for key in missing.gone(&*dataplanes, contents) {
            dataplanes.remove(&key);
            self.live.forget(&key.mesh, &key.name);
        }
        let found = contents.documents.iter().filter(|stored| stored.key.kind == Dataplane::KIND);
        dataplanes.extend(found.map(|stored| stored.key.clone()));
    }

    fn commit(&self, commit: &Commit) {
        let Known { dataplanes, missing } = &mut *self.known();
        for (key, stored) in commit.changes.iter().filter(|(key, _)| key.kind == Dataplane::KIND) {
            missing.settled(key);
            match stored {
                Some(_) => drop(dataplanes.insert(key.clone())),
                None => {
                    dataplanes.remove(key);
                    self.live.forget(&key.mesh, &key.name);
                }
            }
        }
    }
}
