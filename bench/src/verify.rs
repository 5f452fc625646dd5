//! The correctness of speed: what every client holds at the end is what a fresh one of its name gets.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::lab::Lab;
use crate::names::Id;
use crate::types::Type;

/// Silence after which nothing more is expected.
const QUIET: Duration = Duration::from_millis(300);

/// Secrets that every stream gets a version of its own of.
const OWN: [&str; 1] = ["identity_cert"];

/// Differences that are shown.
const SHOWN: usize = 5;

/// What was compared.
pub(crate) struct Verified {
    clients: usize,
    resources: usize,
    differing: Vec<String>,
    /// Streams of the fresh clients that have failed.
    failed: u64,
}

impl Verified {
    /// Whether everything was as it should be.
    pub(crate) fn is_fine(&self) -> bool {
        self.differing.is_empty() && self.failed == 0
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "clients": self.clients, "resources": self.resources,
            "differing": self.differing.len(), "first_differing": &self.differing[..self.differing.len().min(SHOWN)],
            "failed_streams": self.failed,
        })
    }
}

/// Waits for silence, then compares what every client holds with what a fresh one of its name gets.
pub(crate) async fn verify(lab: &Lab) -> anyhow::Result<Verified> {
    let fleet = lab.fleet()?;
    fleet.complete(lab.limit()).await?;
    fleet.quiet(QUIET).await;
    let held = fleet.holds();
    let own: Vec<(Type, Id)> = OWN.iter().map(|name| (Type::Secret, lab.name(name))).collect();
    let (settings, clients) = fleet.like();
    let mut verified = Verified { clients: 0, resources: 0, differing: Vec::new(), failed: 0 };
    // Not all again: each needs a file on both sides, beside those of the fleet.
    for batch in clients.chunks((clients.len() / 20).clamp(250, 1000)) {
        let fresh = Fleet::start(settings.clone(), &lab.shared, batch.to_vec())?;
        fresh.complete(lab.limit()).await?;
        fresh.quiet(QUIET).await;
        for (number, wanted) in fresh.holds() {
            let has = &held[&number];
            let same = |key: &(Type, Id)| {
                has.contains_key(key) == wanted.contains_key(key)
                    && (own.contains(key) || has.get(key) == wanted.get(key))
            };
            if let Some((kind, name)) = has.keys().chain(wanted.keys()).find(|key| !same(key)) {
                verified.differing.push(format!("dp-{number}: {kind:?} {}", lab.shared.names.text(*name)));
            }
            verified.clients += 1;
            verified.resources += has.len();
        }
        verified.failed += fresh.errors().values().sum::<u64>();
        fresh.stop().await;
    }
    Ok(verified)
}
