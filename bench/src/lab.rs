//! A control plane, a mesh in it and a fleet connected to it: what a scenario works with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use http::HeaderValue;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};

use crate::connection::{Target, tls};
use crate::fleet::{Fleet, Settings, Totals};
use crate::markers::{ADDRESS_PREFIX, NAME_PREFIX};
use crate::mesh::{Api, MESH, Shape};
use crate::names::Id;
use crate::process::{ControlPlane, Launch, own_cpu_seconds};
use crate::report::rounded;
use crate::session::{Shared, Variant};
use crate::types::Type;

/// How long anything may take before the run has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Silence after which nothing more is expected.
const QUIET: Duration = Duration::from_millis(300);

/// Fresh clients that are connected at a time to check what the others hold.
const FRESH_AT_ONCE: usize = 250;

/// Secrets that every stream gets a version of its own of.
const OWN: [&str; 1] = ["identity_cert"];

/// How a scenario is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) launch: Launch,
    pub(crate) shape: Shape,
    pub(crate) variant: Variant,
    pub(crate) tls: bool,
    pub(crate) node_extensions: usize,
    pub(crate) repeats: u32,
    pub(crate) seconds: u64,
    pub(crate) threads: usize,
}

/// See the module.
pub(crate) struct Lab {
    pub(crate) plan: Plan,
    pub(crate) control_plane: ControlPlane,
    pub(crate) api: Api,
    tokens: Vec<HeaderValue>,
    fleet: Option<Arc<Fleet>>,
    shared: Arc<Shared>,
    next_marker: AtomicU32,
    /// Memory of the control plane before it had any document, and with all of them.
    pub(crate) rss_empty: u64,
    pub(crate) rss_documents: u64,
}

impl Lab {
    /// Starts a control plane and writes the mesh; nobody is connected.
    pub(crate) async fn start(plan: Plan) -> anyhow::Result<Lab> {
        let control_plane = ControlPlane::start(plan.launch.clone()).await?;
        let rss_empty = control_plane.rss();
        let api = Api::of(&control_plane)?;
        api.make(&plan.shape).await?;
        let tokens = if plan.tls { api.tokens(plan.shape.dataplanes).await? } else { Vec::new() };
        let rss_documents = control_plane.rss();
        Ok(Lab {
            plan,
            control_plane,
            api,
            tokens,
            fleet: None,
            shared: Arc::default(),
            next_marker: AtomicU32::new(0),
            rss_empty,
            rss_documents,
        })
    }

    /// Connects a proxy for each Dataplane, all at once, and waits until each has everything.
    pub(crate) async fn connect(&mut self) -> anyhow::Result<Arc<Fleet>> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.control_plane.ports.xds));
        let tls = match self.plan.tls {
            true => Some((tls(&self.api.ca().await?)?, ServerName::try_from("localhost")?)),
            false => None,
        };
        let settings = Settings {
            target: Target { address, tls, path: self.plan.variant.path(), headers: Vec::new() },
            variant: self.plan.variant,
            node_id: format!("{MESH}.dp-{{i}}"),
            metadata: Vec::new(),
            node_extensions: self.plan.node_extensions,
        };
        let clients = (0..self.plan.shape.dataplanes).map(|number| (number, self.tokens.get(number as usize).cloned()));
        let fleet = Fleet::start(settings, self.shared.clone(), clients.collect());
        self.fleet = Some(fleet.clone());
        fleet.complete(LIMIT).await?;
        Ok(fleet)
    }

    /// Ends all streams.
    pub(crate) async fn disconnect(&mut self) {
        if let Some(fleet) = self.fleet.take() {
            fleet.stop().await;
        }
    }

    pub(crate) fn fleet(&self) -> anyhow::Result<&Arc<Fleet>> {
        self.fleet.as_ref().context("nobody is connected")
    }

    /// The number of a name, for [`Lab::change`].
    pub(crate) fn name(&self, name: &str) -> Id {
        self.shared.names.id(name)
    }

    /// An address that is nowhere yet.
    pub(crate) fn marked_address(&self) -> String {
        let number = self.next_marker.fetch_add(1, Relaxed) + 1;
        format!("{ADDRESS_PREFIX}{}.{}", (number >> 8) & 255, number & 255)
    }

    /// A name that is nowhere yet.
    pub(crate) fn marked_name(&self) -> String {
        format!("{NAME_PREFIX}{}", self.next_marker.fetch_add(1, Relaxed) + 1)
    }

    /// Writes a change and waits until it has reached all whom it concerns. With `gone_from`, the change is that the marker
    /// is no more in the resource of this name.
    pub(crate) async fn change(
        &self,
        marker: &str,
        gone_from: Option<Id>,
        concerned: &BTreeSet<u32>,
        write: impl Future<Output = anyhow::Result<Duration>>,
    ) -> anyhow::Result<Arrivals> {
        let fleet = self.fleet()?;
        fleet.markers.watch(marker, gone_from);
        let asked = Instant::now();
        let write_took = write.await?;
        let answered = Instant::now();
        fleet.markers.seen_by(marker, concerned.len(), answered + Duration::from_secs(10)).await;
        // For those who see it and should not.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let seen = fleet.markers.take(marker);
        Ok(Arrivals {
            write_took,
            since_asked: seen.values().map(|at| at.duration_since(asked)).collect(),
            since_answered: seen.values().map(|at| at.saturating_duration_since(answered)).collect(),
            missing: concerned.iter().filter(|client| !seen.contains_key(client)).count(),
            wrong: seen.keys().filter(|client| !concerned.contains(client)).count(),
        })
    }

    /// Begins to measure.
    pub(crate) fn meter(&self) -> Meter {
        self.control_plane.reset_peak();
        Meter {
            began: Instant::now(),
            server: self.control_plane.cpu_seconds(),
            own: own_cpu_seconds(),
            totals: self.fleet.as_ref().map(|fleet| fleet.totals()).unwrap_or_default(),
        }
    }

    /// Waits for silence, then compares what every client holds with what a fresh one of its name gets.
    pub(crate) async fn verify(&self) -> anyhow::Result<Value> {
        let fleet = self.fleet()?;
        fleet.complete(LIMIT).await?;
        fleet.quiet(QUIET).await;
        let held = fleet.holds();
        let (settings, clients) = fleet.like();
        let mut differing = Vec::new();
        let mut fresh_errors = BTreeMap::new();
        for batch in clients.chunks(FRESH_AT_ONCE) {
            let fresh = Fleet::start(settings.clone(), fleet.shared().clone(), batch.to_vec());
            fresh.complete(LIMIT).await?;
            fresh.quiet(QUIET).await;
            for (number, wanted) in fresh.holds() {
                let own: Vec<(Type, Id)> = OWN.iter().map(|name| (Type::Secret, self.name(name))).collect();
                let has = &held[&number];
                let same = |key: &(Type, Id)| {
                    has.contains_key(key) == wanted.contains_key(key)
                        && (own.contains(key) || has.get(key) == wanted.get(key))
                };
                if let Some((kind, name)) = has.keys().chain(wanted.keys()).find(|key| !same(key)) {
                    differing.push(format!("dp-{number}: {kind:?} {}", self.shared.names.text(*name)));
                }
            }
            fresh_errors.extend(fresh.errors());
            fresh.stop().await;
        }
        if !differing.is_empty() {
            bail!(
                "{} clients hold something else than a fresh one: {:?}",
                differing.len(),
                &differing[..differing.len().min(5)]
            );
        }
        if !fresh_errors.is_empty() || !fleet.errors().is_empty() {
            bail!("streams have failed: {:?} {fresh_errors:?}", fleet.errors());
        }
        Ok(
            json!({"clients": held.len(), "resources": held.values().map(|held| held.len()).sum::<usize>(), "differing": 0}),
        )
    }

    /// What has been used and moved since the meter began.
    pub(crate) fn read(&self, meter: &Meter) -> Usage {
        let now = self.fleet.as_ref().map(|fleet| fleet.totals()).unwrap_or_default();
        let before = meter.totals;
        Usage {
            wall: meter.began.elapsed(),
            server: self.control_plane.cpu_seconds() - meter.server,
            own: own_cpu_seconds() - meter.own,
            moved: Totals {
                messages: now.messages - before.messages,
                bytes: now.bytes - before.bytes,
                resources: now.resources - before.resources,
                resent: now.resent - before.resent,
                resent_bytes: now.resent_bytes - before.resent_bytes,
                removed: now.removed - before.removed,
            },
            rss: self.control_plane.rss(),
            peak_rss: self.control_plane.peak_rss(),
        }
    }
}

/// When a change reached those who saw it.
pub(crate) struct Arrivals {
    /// How long the API took to answer.
    pub(crate) write_took: Duration,
    /// From before the request was sent, until the ACK was.
    pub(crate) since_asked: Vec<Duration>,
    /// From the answer of the API; 0 where it came after the effect.
    pub(crate) since_answered: Vec<Duration>,
    /// Clients that should have seen it and did not.
    pub(crate) missing: usize,
    /// Clients that saw it and should not.
    pub(crate) wrong: usize,
}

/// A beginning.
pub(crate) struct Meter {
    began: Instant,
    server: f64,
    own: f64,
    totals: Totals,
}

/// What was used and moved.
pub(crate) struct Usage {
    pub(crate) wall: Duration,
    /// CPU seconds.
    pub(crate) server: f64,
    /// CPU seconds of this process.
    pub(crate) own: f64,
    pub(crate) moved: Totals,
    pub(crate) rss: u64,
    pub(crate) peak_rss: u64,
}

impl Usage {
    pub(crate) fn to_json(&self, threads: usize) -> Value {
        let wall = self.wall.as_secs_f64();
        json!({
            "wall_s": rounded(wall),
            "server_cpu_s": rounded(self.server),
            "generator_cpu_s": rounded(self.own),
            "generator_busy": rounded(self.own / wall / threads as f64),
            "messages": self.moved.messages, "bytes": self.moved.bytes, "resources": self.moved.resources,
            "resent": self.moved.resent, "removed": self.moved.removed,
            "rss": self.rss, "peak_rss": self.peak_rss,
        })
    }
}
