//! The correctness of speed: what every client holds at the end is what a fresh one of its name gets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fleet::{Fleet, failures};
use crate::names::Id;
use crate::session::Shared;

/// Silence after which nothing more is expected.
const QUIET: Duration = Duration::from_millis(300);

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

/// Why a run does not count, if it does not: all that was wrong with it.
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

/// Waits for silence, then compares what every client holds with what a fresh one of its name gets. Of the resources
/// whose names are in `own` every stream gets one of its own: they only have to be there.
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
    // Not all again: each needs a file on both sides, beside those of the fleet.
    for batch in clients.chunks((clients.len() / 20).clamp(250, 1000)) {
        let fresh = Fleet::start(settings.clone(), shared, batch.to_vec())?;
        fresh.complete(limit).await?;
        let mut differing = Vec::new();
        for _ in 0..ATTEMPTS {
            // Both go on getting changes: on a busy machine the last ones may still be on their way to either.
            fresh.quiet(QUIET).await;
            differing = differences(fleet, &fresh, own, shared);
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

/// The first resource of each client that is not what a fresh one of its name holds.
fn differences(fleet: &Fleet, fresh: &Fleet, own: &[Id], shared: &Shared) -> Vec<String> {
    let held = fleet.holds();
    let mut differing = Vec::new();
    for (number, wanted) in fresh.holds() {
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
