//! Verifies the result of a run: the resources of every client equal those of a new client with its name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fleet::{Fleet, failures};
use crate::names::Id;
use crate::session::Shared;

/// Time without a message after which no more is expected.
const QUIET: Duration = Duration::from_millis(300);

/// How often a difference is checked again before it counts, and the pause between.
const ATTEMPTS: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(2);

/// How many differences are shown.
const SHOWN: usize = 5;

/// The result of the comparison.
pub(crate) struct Verified {
    clients: usize,
    resources: usize,
    differing: Vec<String>,
    /// Number of failed streams of new clients.
    failed: u64,
}

impl Verified {
    /// Whether there were no differences and no failures.
    pub(crate) fn is_fine(&self) -> bool {
        self.differing.is_empty() && self.failed == 0
    }

    fn shown(&self) -> &[String] {
        &self.differing[..self.differing.len().min(SHOWN)]
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "clients": self.clients, "resources": self.resources,
            "differing": self.differing.len(), "first_differing": self.shown(),
            "failed_streams": self.failed,
        })
    }
}

/// Why a run has failed: all its errors. `None` if it has not.
pub(crate) fn failure(
    verified: Option<&Verified>,
    errors: &BTreeMap<String, u64>,
    missing: u64,
    wrong: u64,
) -> Option<String> {
    let mut reasons = Vec::new();
    if let Some(verified) = verified.filter(|verified| !verified.is_fine()) {
        reasons.push(format!(
            "{} clients hold something else than fresh ones get ({}), and {} streams of fresh ones have failed",
            verified.differing.len(),
            verified.shown().join("; "),
            verified.failed
        ));
    }
    if !errors.is_empty() {
        reasons.push(format!("streams have failed{}", failures(errors)));
    }
    if missing > 0 {
        reasons.push(format!("changes that did not reach whom they concern: {missing}"));
    }
    if wrong > 0 {
        reasons.push(format!("changes that reached whom they do not concern: {wrong}"));
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Waits until no messages arrive, then compares the resources of every client with those of a new client of its name.
/// The resources whose names are in `own` differ for each stream: they only have to exist.
pub(crate) async fn verify(
    fleet: &Fleet,
    shared: &Arc<Shared>,
    own: &[Id],
    limit: Duration,
) -> anyhow::Result<Verified> {
    fleet.complete(limit).await?;
    fleet.quiet(QUIET).await;
    let (settings, clients) = fleet.like();
    let mut verified = Verified { clients: 0, resources: 0, differing: Vec::new(), failed: 0 };
    // In batches: each client needs a file descriptor on both sides, in addition to those of the fleet.
    for batch in clients.chunks((clients.len() / 20).clamp(250, 1000)) {
        let fresh = Fleet::start(settings.clone(), shared, batch.to_vec())?;
        fresh.complete(limit).await?;
        let mut differing = Vec::new();
        for _ in 0..ATTEMPTS {
            // On a busy machine the last changes may not have arrived at one of the two yet.
            fresh.quiet(QUIET).await;
            differing = differences(fleet, &fresh, own, shared);
            if differing.is_empty() {
                break;
            }
            tokio::time::sleep(PATIENCE).await;
        }
        verified.differing.extend(differing);
        verified.clients += fresh.len();
        verified.resources += fresh.resources().values().map(|held| held.len()).sum::<usize>();
        verified.failed += fresh.errors().values().sum::<u64>();
        fresh.stop().await;
    }
    Ok(verified)
}

/// For each client, the first resource that differs from that of a new client of its name.
fn differences(fleet: &Fleet, fresh: &Fleet, own: &[Id], shared: &Shared) -> Vec<String> {
    let held = fleet.resources();
    let mut differing = Vec::new();
    for (number, wanted) in fresh.resources() {
        let has = &held[&number];
        let difference = has.keys().chain(wanted.keys()).find_map(|key| {
            let how = match (has.get(key), wanted.get(key)) {
                (Some(has), Some(wanted)) if has.content == wanted.content || own.contains(&key.1) => return None,
                (Some(has), Some(wanted)) => {
                    let [has, wanted] = [has, wanted].map(|form| shared.names.text(form.version));
                    match has.is_empty() && wanted.is_empty() {
                        true => "is another".to_owned(),
                        false => format!("is another: version {has:?} rather than {wanted:?}"),
                    }
                }
                (None, _) => "is missing".to_owned(),
                (_, None) => "should be gone".to_owned(),
            };
            Some(format!("{}: {:?} {} {how}", fleet.node_id(number), key.0, shared.names.text(key.1)))
        });
        differing.extend(difference);
    }
    differing
}
