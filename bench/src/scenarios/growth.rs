//! What grows with the mesh, for the curves: everything in one lab, since making a large one is what takes long.

use serde_json::{Value, json};

use super::{Outcome, changes, connect};
use crate::arrivals::{self, per_change};
use crate::lab::Lab;

/// Connects everyone once, looks at memory, then makes a few changes of each kind.
pub(super) async fn growth(lab: &mut Lab) -> anyhow::Result<Outcome> {
    let memory = connect::memory(lab).await?;
    let storm = &memory.also["storm"];
    let mut also = json!({
        "connect": storm,
        "memory": memory.also,
        "documents_s": lab.documents_took.as_secs_f64(),
    });
    let mut all = Vec::new();
    let meter = lab.meter();
    for (name, outcome) in [
        ("policy_service", changes::policy_service(lab).await?),
        ("endpoint", changes::endpoint(lab).await?),
        ("policy_mesh", changes::policy_mesh(lab).await?),
    ] {
        also[name] = figures(&outcome);
        all.extend(outcome.changes);
    }
    Ok(Outcome { changes: all, usage: lab.read(&meter), also })
}

fn figures(outcome: &Outcome) -> Value {
    let summary = arrivals::summary(&outcome.changes);
    json!({
        "concerned": summary["concerned_per_change"],
        "p50_ms": summary["ms_from_request"]["p50"],
        "p99_ms": summary["ms_from_request"]["p99"],
        "cpu_ms": per_change(outcome.usage.server * 1e3, &outcome.changes),
        "bytes": per_change(outcome.usage.moved.bytes as f64, &outcome.changes),
    })
}
