//! What is measured: each scenario has a control plane and a fleet of its own.

mod changes;
mod connect;
mod load;
mod restart;

use serde_json::{Value, json};

use crate::lab::{Lab, Plan};

/// One of the scenarios.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// All proxies connect at once.
    Connect,
    /// Nothing happens.
    Idle,
    /// A TrafficPermission for all services comes: every proxy is concerned.
    PolicyMesh,
    /// A TrafficPermission for one service comes.
    PolicyService,
    /// A Dataplane of a service comes.
    Join,
    /// A Dataplane of a service goes.
    Leave,
    /// The address of a Dataplane changes.
    Endpoint,
    /// The first Dataplane of a service that some dial already comes.
    NewService,
    /// Dataplanes come and go, 10 a second.
    Churn10,
    /// Dataplanes come and go, 100 a second.
    Churn100,
    /// One in a hundred proxies stops reading.
    Slow,
    /// kuma-cp is killed and started again.
    Restart,
    /// Memory per proxy.
    Memory,
}

impl Scenario {
    /// Runs it, checks what every client holds at the end, and reports.
    pub(crate) async fn run(self, plan: Plan) -> anyhow::Result<Value> {
        let mut lab = Lab::start(plan).await?;
        if !matches!(self, Scenario::Connect | Scenario::Memory) {
            lab.connect().await?.quiet(std::time::Duration::from_millis(500)).await;
        }
        let result = match self {
            Scenario::Connect => connect::connect(&mut lab).await?,
            Scenario::Memory => connect::memory(&mut lab).await?,
            Scenario::Idle => load::idle(&lab).await?,
            Scenario::PolicyMesh => changes::policy_mesh(&lab).await?,
            Scenario::PolicyService => changes::policy_service(&lab).await?,
            Scenario::Join => changes::join(&lab).await?,
            Scenario::Leave => changes::leave(&lab).await?,
            Scenario::Endpoint => changes::endpoint(&lab).await?,
            Scenario::NewService => changes::new_service(&lab).await?,
            Scenario::Churn10 => load::churn(&lab, 10).await?,
            Scenario::Churn100 => load::churn(&lab, 100).await?,
            Scenario::Slow => load::slow(&lab).await?,
            Scenario::Restart => restart::restart(&mut lab).await?,
        };
        let verified = lab.verify().await?;
        let complaints = lab.control_plane.complaints();
        let shape = lab.plan.shape;
        Ok(json!({
            "scenario": format!("{self:?}"),
            "proxies": shape.dataplanes, "services": shape.services, "outbounds": shape.outbounds,
            "instances": shape.instances, "mtls": shape.mtls, "tls": lab.plan.tls,
            "variant": format!("{:?}", lab.plan.variant),
            "result": result,
            "verified": verified,
            "complaints": complaints.len(), "first_complaint": complaints.first(),
            "loadavg": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        }))
    }
}
