//! The setup of a scenario: a control plane, its mesh, and a fleet of connected clients.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::HeaderValue;
use rustls_pki_types::ServerName;

use crate::arrivals::{self, Arrivals, Expected};
use crate::connection::{Target, tls};
use crate::fleet::{Fleet, Settings};
use crate::markers::Fresh;
use crate::mesh::{Api, MESH, Shape};
use crate::meter::{Meter, Usage};
use crate::names::Id;
use crate::node::Pattern;
use crate::process::{ControlPlane, Launch, RunningStore, Store, Watched};
use crate::session::{Shared, Variant};
use crate::types::ApiVersion;

/// How long a step may take before the run fails, plus [`LIMIT_PER_PROXY`].
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// See [`LIMIT`].
pub(crate) const LIMIT_PER_PROXY: Duration = Duration::from_millis(10);

/// Settings of a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) launch: Launch,
    pub(crate) store: Store,
    /// How many control planes there are, all on one store.
    pub(crate) control_planes: usize,
    pub(crate) shape: Shape,
    pub(crate) variant: Variant,
    pub(crate) tls: bool,
    pub(crate) node_extensions: usize,
    /// How many proxies may be waiting for their first configuration at a time.
    pub(crate) at_once: usize,
    /// Whether to wait until memory has been freed before it is measured for the last time.
    pub(crate) settle: bool,
    pub(crate) repeats: u32,
    /// Hostile clients on each port.
    pub(crate) hostile: u32,
    pub(crate) seconds: u64,
    pub(crate) threads: usize,
}

/// See the module's description.
pub(crate) struct Lab {
    pub(crate) plan: Plan,
    /// The control plane over whose API everything is written.
    pub(crate) control_plane: ControlPlane,
    /// The others. Proxies connect to all of them in turn.
    others: Vec<ControlPlane>,
    running_store: RunningStore,
    pub(crate) api: Api,
    tokens: Vec<HeaderValue>,
    fleet: Option<Arc<Fleet>>,
    pub(crate) shared: Arc<Shared>,
    /// Unused markers.
    pub(crate) fresh: Fresh,
    /// Memory of all control planes without documents, and with all of them.
    pub(crate) rss_empty: u64,
    pub(crate) rss_documents: u64,
    /// Time, and CPU seconds of all control planes, for writing the documents.
    pub(crate) documents_took: Duration,
    pub(crate) documents_cpu: f64,
}

impl Lab {
    /// Starts the control planes and writes the documents of the mesh. No client is connected yet.
    pub(crate) async fn start(plan: Plan) -> anyhow::Result<Lab> {
        let running_store = RunningStore::start(plan.store);
        let control_plane = ControlPlane::start(&plan.launch, &running_store).await?;
        let mut others = Vec::new();
        while others.len() + 1 < plan.control_planes {
            others.push(ControlPlane::start(&plan.launch, &running_store).await?);
        }
        let api = Api::of(&control_plane)?;
        let mut lab = Lab {
            plan,
            control_plane,
            others,
            running_store,
            api,
            tokens: Vec::new(),
            fleet: None,
            shared: Arc::default(),
            fresh: Fresh::default(),
            rss_empty: 0,
            rss_documents: 0,
            documents_took: Duration::ZERO,
            documents_cpu: 0.0,
        };
        lab.rss_empty = lab.rss();
        let (began, meter) = (Instant::now(), lab.meter());
        lab.api.make(&lab.plan.shape).await?;
        (lab.documents_took, lab.documents_cpu) = (began.elapsed(), lab.read(&meter).server);
        if lab.plan.tls {
            lab.tokens = lab.api.tokens(lab.plan.shape.dataplanes).await?;
        }
        lab.rss_documents = lab.rss();
        Ok(lab)
    }

    fn control_planes(&self) -> impl Iterator<Item = &ControlPlane> {
        std::iter::once(&self.control_plane).chain(&self.others)
    }

    /// The processes of all control planes.
    pub(crate) fn costs(&self) -> Vec<&Watched> {
        self.control_planes().map(|control_plane| &control_plane.costs).collect()
    }

    /// Resident memory of all control planes, in bytes.
    pub(crate) fn rss(&self) -> u64 {
        self.costs().into_iter().map(Watched::rss).sum()
    }

    /// The type of the store.
    pub(crate) fn store(&self) -> &'static str {
        self.running_store.store.name()
    }

    /// Lines of the logs of all control planes that are warnings or errors.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.control_planes().flat_map(ControlPlane::complaints).collect()
    }

    /// Connects a proxy for each Dataplane, and waits until each has all its resources.
    pub(crate) async fn connect(&mut self) -> anyhow::Result<Arc<Fleet>> {
        let fleet = self.connect_only(self.plan.shape.dataplanes).await?;
        self.fleet = Some(fleet.clone());
        Ok(fleet)
    }

    /// Connects the proxies of the first Dataplanes, which then belong to the caller.
    pub(crate) async fn connect_only(&self, count: u32) -> anyhow::Result<Arc<Fleet>> {
        let tls = match self.plan.tls {
            true => Some((tls(&self.api.ca().await?, None)?, ServerName::try_from("localhost")?)),
            false => None,
        };
        let api = ApiVersion::V3;
        let target = |control_plane: &ControlPlane| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, control_plane.ports.xds));
            let (authority, path) = (address.to_string(), self.plan.variant.path(api));
            Target { address, authority, tls: tls.clone(), path, headers: Vec::new(), sources: Vec::new() }
        };
        let settings = Settings {
            targets: self.control_planes().map(target).collect(),
            variant: self.plan.variant,
            api,
            node: Pattern::new(&format!("{MESH}.dp-{{i}}"), self.plan.node_extensions),
            at_once: self.plan.at_once,
        };
        let clients = (0..count).map(|number| (number, self.tokens.get(number as usize).cloned()));
        let fleet = Fleet::start(settings, &self.shared, clients.collect())?;
        fleet.complete(self.limit()).await?;
        Ok(fleet)
    }

    /// How long a step may take in which all proxies take part.
    pub(crate) fn limit(&self) -> Duration {
        LIMIT + LIMIT_PER_PROXY * self.plan.shape.dataplanes
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

    /// The id of a name, for [`Lab::change`].
    pub(crate) fn name(&self, name: &str) -> Id {
        self.shared.names.id(name)
    }

    /// Makes a change and waits until it has reached all clients that it concerns.
    pub(crate) async fn change(
        &self,
        expected: Expected<'_>,
        write: impl Future<Output = anyhow::Result<Duration>>,
    ) -> anyhow::Result<Arrivals> {
        arrivals::measure(self.fleet()?, expected, write).await
    }

    /// Starts a measurement.
    pub(crate) fn meter(&self) -> Meter {
        Meter::start(&self.costs(), self.fleet.as_deref())
    }

    /// The costs and traffic since the start of the measurement.
    pub(crate) fn read(&self, meter: &Meter) -> Usage {
        meter.read(&self.costs(), self.fleet.as_deref())
    }
}
