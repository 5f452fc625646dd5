//! How many proxies one control plane can bear.

use serde_json::{Value, json};

use super::{Outcome, changes};
use crate::arrivals;
use crate::lab::{Lab, Plan};
use crate::report::{rounded, rounded_or_null};

/// A change of all has to reach the 99th percentile within this, in milliseconds.
const BOUND_MS: f64 = 1000.0;

/// Each proxy is a file on both sides, the limit is 20,000, and checking connects up to 1,000 more.
const MOST: u32 = 18_500;

/// The search ends when the next size would be less than this share away from the best.
const CLOSE: f64 = 0.08;

/// Meshes tried at most.
const ATTEMPTS: usize = 5;

/// Proxies that connect at a time: how a storm of them is borne is measured elsewhere.
const AT_ONCE: usize = 500;

/// Looks for the largest mesh whose 99th percentile is within the bound; the lab is the one of the best.
pub(super) async fn largest(plan: Plan) -> anyhow::Result<(Lab, Outcome)> {
    let mut best: Option<(Lab, Outcome)> = None;
    let mut too_large = MOST + 1;
    let mut attempts: Vec<Value> = Vec::new();
    let mut next = plan.shape.dataplanes.min(MOST);
    for _ in 0..ATTEMPTS {
        // One at a time: two meshes would not have room beside each other.
        let held = best.as_ref().map_or(0, |(lab, _)| lab.plan.shape.dataplanes);
        if let Some((lab, _)) = &mut best {
            lab.disconnect().await;
        }
        let tried = attempt(&plan, next).await;
        let p99 = tried.as_ref().map_or(f64::INFINITY, |(_, outcome)| arrivals::p99(&outcome.changes));
        eprintln!("  {next} proxies: p99 {p99:.0} ms");
        let reason = tried.as_ref().err().map(|error| format!("{error:#}"));
        attempts.push(json!({"proxies": next, "p99_ms": rounded_or_null(p99), "failure": reason}));
        let guess = f64::from(next) * (BOUND_MS / p99).clamp(0.2, 4.0) * 0.97;
        let low = match tried {
            Ok(tried) if p99 <= BOUND_MS => {
                best = Some(tried);
                next
            }
            _ => {
                too_large = next;
                held
            }
        };
        let between = f64::from(low) + 0.5 * f64::from(too_large - low);
        let bounded = if guess > f64::from(low) && guess < f64::from(too_large) { guess } else { between };
        next = (bounded as u32).clamp(100, MOST);
        if low == MOST || f64::from(next.abs_diff(low)) < CLOSE * f64::from(low) {
            break;
        }
    }
    let Some((mut lab, mut outcome)) = best else {
        anyhow::bail!("not even the smallest mesh was within {BOUND_MS} ms: {attempts:?}");
    };
    if lab.fleet().is_err() {
        lab.connect().await?;
    }
    outcome.also = json!({
        "largest": lab.plan.shape.dataplanes, "bound_ms": rounded(BOUND_MS),
        "limited_by_files": lab.plan.shape.dataplanes == MOST,
        "attempts": attempts,
    });
    Ok((lab, outcome))
}

async fn attempt(plan: &Plan, proxies: u32) -> anyhow::Result<(Lab, Outcome)> {
    let mut plan = plan.clone();
    plan.shape.dataplanes = proxies;
    plan.shape.services = (proxies / plan.shape.instances.max(1)).max(1);
    plan.at_once = plan.at_once.min(AT_ONCE);
    let mut lab = Lab::start(plan).await?;
    lab.connect().await?.quiet(std::time::Duration::from_millis(500)).await;
    let outcome = changes::policy_mesh(&lab).await?;
    Ok((lab, outcome))
}
