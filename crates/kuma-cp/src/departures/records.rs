//! Departures as documents, where several control planes share a store: each has to know that a proxy has left, so that
//! its proxies do not dial it, and that it is back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kuma_model::{DEPARTURE_KIND, Dataplane, Document, Key, Resource as _};
use kuma_store::{Cause, Commit, Contents, Follower, Proposal, Store, StoreError, Write};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Departures;
use crate::presence::Proxy;

/// Pause before a departure that could not be stored is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// That a proxy has left, with the reason, or (`None`) that it is back.
pub(super) type Record = (Proxy, Option<String>);

/// Stores departures until cancelled; of one proxy, the latest.
pub(super) async fn keep(
    store: Arc<dyn Store>,
    mut records: mpsc::UnboundedReceiver<Record>,
    cancel: CancellationToken,
) {
    let mut waiting: BTreeMap<Proxy, Option<String>> = BTreeMap::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            record = records.recv() => match record {
                Some((proxy, why)) => drop(waiting.insert(proxy, why)),
                None => return,
            },
            () = tokio::time::sleep(RETRY), if !waiting.is_empty() => {}
        }
        waiting.extend(std::iter::from_fn(|| records.try_recv().ok()));
        for (proxy, why) in std::mem::take(&mut waiting) {
            match write(store.as_ref(), &proxy, why.as_deref()).await {
                Ok(()) => {}
                Err(error) if error.away().is_some() => drop(waiting.insert(proxy, why)),
                Err(error) => tracing::debug!(%error, "a departure was not stored"),
            }
        }
    }
}

async fn write(store: &dyn Store, (mesh, name): &Proxy, why: Option<&str>) -> Result<(), StoreError> {
    let key = Key::new(DEPARTURE_KIND, mesh, name);
    let write = match why {
        // With its Dataplane it is forgotten.
        Some(_) if store.get(&Key::new(Dataplane::KIND, mesh, name)).await?.is_none() => return Ok(()),
        Some(why) => Write::Put(Document { key, spec: json!({"time": Timestamp::now().to_string(), "reason": why}) }),
        None if store.get(&key).await?.is_none() => return Ok(()),
        None => Write::Delete { key, version: None },
    };
    let cause = Cause { author: "kuma-cp".into(), ..Cause::default() };
    store.propose(Proposal { writes: vec![write], cause, ..Proposal::default() }).await.map(drop)
}

impl Follower for Departures {
    fn load(&self, contents: &Contents) {
        let departures = contents.documents.iter().filter(|stored| stored.key.kind == DEPARTURE_KIND);
        departures.for_each(|stored| self.heard(&stored.key, true));
    }

    fn commit(&self, commit: &Commit) {
        for (key, stored) in &commit.changes {
            if key.kind == DEPARTURE_KIND {
                self.heard(key, stored.is_some());
            }
        }
    }
}

impl Departures {
    /// Some control plane, perhaps this one, has stored that a proxy has left, or that it is back. The engine learns it
    /// in the same way.
    fn heard(&self, key: &Key, has_left: bool) {
        let mut presence = self.presence();
        if presence.told(&(key.mesh.clone(), key.name.clone()), has_left) {
            self.metrics.gone(presence.count_gone());
        }
    }
}
