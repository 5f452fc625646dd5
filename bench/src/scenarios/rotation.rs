//! The CA of the mesh is rotated.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use super::Outcome;
use crate::arrivals::Expected;
use crate::lab::Lab;
use crate::report::distribution;

/// The secret that every proxy gets anew when its certificate is signed by another root.
const CERTIFICATE: &str = "identity_cert";

/// Nothing rotates in the first half minute of kuma-cp's life, in which proxies come back.
const SETTLE: Duration = Duration::from_secs(30);

/// Rotates, and waits until every proxy has a certificate of the new root, and until the old one is trusted no more.
pub(super) async fn rotation(lab: &Lab) -> anyhow::Result<Outcome> {
    let everyone: BTreeSet<u32> = (0..lab.plan.shape.dataplanes).collect();
    let certificate = lab.name(CERTIFICATE);
    tokio::time::sleep(SETTLE).await;
    let (mut changes, mut whole) = (Vec::new(), Vec::new());
    let meter = lab.meter();
    for _ in 0..lab.plan.repeats.clamp(1, 3) {
        let began = Instant::now();
        // An address that no certificate contains: seen is whoever gets a certificate.
        let never = lab.fresh.address();
        let expected = Expected { marker: &never, gone_from: Some(certificate), concerned: &everyone };
        changes.push(lab.change(expected, lab.api.rotate()).await?);
        while lab.api.rotates().await? {
            ensure!(began.elapsed() < lab.limit(), "the rotation does not come to its end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        whole.push(began.elapsed());
        lab.fleet()?.quiet(Duration::from_millis(500)).await;
    }
    let also = json!({ "ms_until_old_root_is_gone": distribution(&whole) });
    Ok(Outcome { changes, usage: lab.read(&meter), also })
}
