//! What is measured: each scenario has a control plane and a fleet of its own.

mod changes;
mod commits;
mod connect;
mod documents;
mod growth;
mod hostile;
mod largest;
mod load;
mod restart;
mod rotation;

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::arrivals::{self, Arrivals, per_change};
use crate::lab::{Lab, Plan};
use crate::meter::Usage;
use crate::report::rounded;
use crate::verify::{failure, verify};

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
    /// Clients on every port that are slow, huge or malformed, while policies of the whole mesh come and go.
    Hostile,
    /// kuma-cp is killed and started again.
    Restart,
    /// The builtin CA of the mesh is rotated: everyone has to trust the new root, then to get a new certificate.
    Rotation,
    /// Memory per proxy.
    Memory,
    /// Documents are written, and everything follows from them; nobody is connected before.
    Documents,
    /// Commits one at a time and many at a time, and a start on what the store has kept.
    Commits,
    /// What grows with the mesh, in one go: connecting, memory, one change of an endpoint, one of a policy.
    Growth,
    /// The largest mesh in which a policy of all reaches the 99th percentile within a second; `-n` is where it begins.
    Largest,
}

/// What a scenario has found.
pub(crate) struct Outcome {
    /// The changes that were made and waited for.
    pub(crate) changes: Vec<Arrivals>,
    pub(crate) usage: Usage,
    /// What only this scenario has to say: an object.
    pub(crate) also: Value,
}

/// What a scenario says, and whether it may be believed.
pub(crate) struct Report {
    pub(crate) line: Value,
    /// Why the run does not count.
    pub(crate) failure: Option<String>,
}

/// Secrets that every stream gets a version of its own of.
const OWN: [&str; 1] = ["identity_cert"];

/// Longer than the allocator of kuma-cp keeps what it does not need: 10 s.
pub(crate) const SETTLE: Duration = Duration::from_secs(12);

impl Scenario {
    /// Runs it, checks what every client holds at the end, and reports.
    pub(crate) async fn run(self, plan: Plan) -> anyhow::Result<Report> {
        if self == Scenario::Largest {
            let (lab, outcome) = largest::largest(plan).await?;
            return report(self, &lab, outcome).await;
        }
        let mut lab = Lab::start(plan).await?;
        let connects_itself =
            [Scenario::Connect, Scenario::Memory, Scenario::Documents, Scenario::Commits, Scenario::Growth]
                .contains(&self);
        if !connects_itself {
            lab.connect().await?.quiet(Duration::from_millis(500)).await;
        }
        let outcome = match self {
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
            Scenario::Hostile => hostile::hostile(&lab).await?,
            Scenario::Restart => restart::restart(&mut lab).await?,
            Scenario::Rotation => rotation::rotation(&lab).await?,
            Scenario::Commits => commits::commits(&mut lab).await?,
            Scenario::Documents => documents::documents(&mut lab).await?,
            Scenario::Growth => growth::growth(&mut lab).await?,
            Scenario::Largest => unreachable!("made above"),
        };
        report(self, &lab, outcome).await
    }
}

/// Puts a line together, in which every scenario has the same fields.
async fn report(scenario: Scenario, lab: &Lab, outcome: Outcome) -> anyhow::Result<Report> {
    let Outcome { changes, usage, also } = outcome;
    if lab.plan.settle {
        tokio::time::sleep(SETTLE).await;
    }
    let settled_rss = lab.rss();
    let verified = verify(lab.fleet()?, &lab.shared, &OWN.map(|name| lab.name(name)), lab.limit()).await?;
    let errors = lab.fleet()?.errors();
    let complaints = lab.complaints();
    let shape = lab.plan.shape;
    let mut fields = Map::new();
    fields.insert("scenario".to_owned(), scenario.name().into());
    let parts = [
        json!({
            "proxies": shape.dataplanes, "services": shape.services, "outbounds": shape.outbounds,
            "instances": shape.instances, "policies": shape.policies, "mtls": shape.mtls, "tls": lab.plan.tls,
            "store": lab.store(), "control_planes": lab.plan.control_planes,
            "variant": format!("{:?}", lab.plan.variant),
        }),
        Value::Object(arrivals::summary(&changes)),
        json!({
            "server_cpu_ms_per_change": per_change(usage.server * 1e3, &changes),
            "server_percent_of_a_core": rounded(100.0 * usage.server / usage.wall.as_secs_f64()),
            "settled_rss": settled_rss,
        }),
        Value::Object(usage.fields(lab.plan.threads)),
        also,
        json!({
            "verified": verified.to_json(),
            "errors": errors.values().sum::<u64>(), "first_error": errors.keys().next(),
            "complaints": complaints.len(), "first_complaint": complaints.first(),
            "loadavg": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        }),
    ];
    for part in parts {
        if let Value::Object(part) = part {
            fields.extend(part);
        }
    }
    let count = |field: &str| fields[field].as_u64().unwrap_or_default();
    let failure = failure(Some(&verified), &errors, count("missing"), count("wrong"));
    fields.insert("failure".to_owned(), failure.clone().into());
    Ok(Report { line: Value::Object(fields), failure })
}

impl Scenario {
    /// As on the command line.
    pub(crate) fn name(self) -> String {
        use clap::ValueEnum as _;
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
