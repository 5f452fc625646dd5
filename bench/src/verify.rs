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

/// How often, and at what distance, a difference is looked at before it is one.
const ATTEMPTS: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(2);

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
    let own: Vec<(Type, Id)> = OWN.iter().map(|name| (Type::Secret, lab.name(name))).collect();
    let (settings, clients) = fleet.like();
    let mut verified = Verified { clients: 0, resources: 0, differing: Vec::new(), failed: 0 };
    // Not all again: each needs a file on both sides, beside those of the fleet.
    for batch in clients.chunks((clients.len() / 20).clamp(250, 1000)) {
        let fresh = Fleet::start(settings.clone(), &lab.shared, batch.to_vec())?;
        fresh.complete(lab.limit()).await?;
        let mut differing = Vec::new();
        for _ in 0..ATTEMPTS {
            // Both go on getting changes: on a busy machine the last ones may still be on their way to either.
            fresh.quiet(QUIET).await;
            differing = differences(fleet, &fresh, &own, lab);
            if differing.is_empty() {
                break;
            }
            tokio::time::sleep(PATIENCE).await;
        }
        verified.differing.extend(differing);
        verified.clients += fresh.len();
        verified.resources += fresh.holds().values().map(|held| held.len()).sum::<usize>();
        verified.failed += fresh.errors().values().sum::<u64>();
        fresh.stop().await;
    }
    Ok(verified)
}

/// The first resource of each client that is not what a fresh one of its name holds; but for those that are its own.
fn differences(fleet: &Fleet, fresh: &Fleet, own: &[(Type, Id)], lab: &Lab) -> Vec<String> {
    let held = fleet.holds();
    let mut differing = Vec::new();
    for (number, wanted) in fresh.holds() {
        let has = &held[&number];
        let same = |key: &(Type, Id)| {
            has.contains_key(key) == wanted.contains_key(key) && (own.contains(key) || has.get(key) == wanted.get(key))
        };
        if let Some((kind, name)) = has.keys().chain(wanted.keys()).find(|key| !same(key)) {
            differing.push(format!("dp-{number}: {kind:?} {}", lab.shared.names.text(*name)));
        }
    }
    differing
}
