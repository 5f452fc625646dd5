//! Wires the control plane: builds everything, binds every listener, then runs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use axum::Router;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use kuma_ca::{ImportedKey, TokenVerifier};
use kuma_model::{DataplaneInsight, Mesh, Resource as _};
use kuma_store::{Followed, Follower, Store};
use kuma_xds::server::{Bounds, Routes, Server, Service};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, TokenIssuer};
use crate::ads::Ads;
use crate::api::Api;
use crate::api::overview::LiveInsights;
use crate::bootstrap::{BootstrapContext, BootstrapServer};
use crate::config::{Config, Environment, PublicAdmin};
use crate::departures::Departures;
use crate::diagnostics::Readiness;
use crate::documents::Documents;
use crate::file_limit::Shares;
use crate::forgetting::Forgetting;
use crate::http::client_certs::MutualTls;
use crate::http::serve::{Limits, Security, serve_secured};
use crate::identity::Identity;
use crate::insights::Insights;
use crate::lifecycle::Lifecycle;
pub use crate::listeners::Addresses;
use crate::listeners::{AdminListeners, Listeners};
use crate::mads::{Assignments, Mads};
use crate::mesh_ca::routes::CaAdmin;
use crate::mesh_ca::{AdoptedRoots, FreshRoots, KeptRoots, MeshAuthority, rotator};
use crate::metrics::{MeteredStore, Metrics};
use crate::peers::Peers;
use crate::sds::Sds;
use crate::state_folder::{FolderLock, LockError, StateFolder};
use crate::store_seen::Trust;
use crate::stores::{self, OpenStore, Surroundings};
use crate::xds_certificate::xds_tls;
use crate::{admin, api, bootstrap, diagnostics, import, mads, store_seen};
use kuma_engine::{DueStep, Engine, Observer, Settings, Warning, is_of_this_machine};

/// Pause between two audits.
const AUDIT_EVERY: Duration = Duration::from_secs(15 * 60);

/// How long an ordered shutdown may take.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A control plane at work.
pub struct Running {
    /// Where it listens.
    pub addresses: Addresses,
    tasks: JoinSet<&'static str>,
    engine: Arc<Engine>,
    readiness: Readiness,
    cancel: CancellationToken,
    close_store: BoxFuture<'static, ()>,
    _folder_lock: Option<FolderLock>,
}

impl Running {
    /// Waits for a task to end by itself, which none should, and names it.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(name)) => anyhow::anyhow!("{name} has ended unexpectedly"),
            Some(Err(error)) => anyhow::anyhow!("a part of the control plane has failed: {error}"),
            None => anyhow::anyhow!("nothing runs"),
        }
    }

    /// Compares what some proxies of each mesh are given with the slow whole answer; returns those that differ.
    pub async fn audit(&self) -> Vec<String> {
        self.engine.audit().await
    }

    /// Stops in order: not ready any more, streams end, insights are written; what has not ended after 10 s is given
    /// up.
    pub async fn stop(mut self) {
        self.readiness.set(false);
        self.cancel.cancel();
        let ended = async {
            while self.tasks.join_next().await.is_some() {}
            self.engine.stopped().await;
            self.close_store.await;
        };
        if tokio::time::timeout(STOP_WITHIN, ended).await.is_err() {
            tracing::warn!("not everything has ended within {STOP_WITHIN:?}; given up");
        }
    }

    fn serve(&mut self, server: HttpServer, metrics: &Arc<Metrics>) {
        let HttpServer { task, name, listener, router, limits, security } = server;
        let router = metrics.measured(name, router);
        let most = Shares::of_this_process().each_server;
        let limits = Limits { connections: limits.connections.min(most), ..limits };
        self.spawn(task, serve_secured(name, listener, router, limits, security, self.cancel.clone()));
    }

    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            task.await;
            name
        });
    }
}

/// Starts a control plane on the store that it is configured with. `home` is what a `~` in `general.workDir` stands
/// for.
///
/// # Errors
/// What cannot be used, with the setting that names it. Nothing is left running then.
pub async fn start(config: Config, home: Option<&Path>) -> anyhow::Result<Running> {
    check_supported(&config)?;
    start_from(Source::Configured, config, home).await
}

/// The same on this store, which may hold documents already.
///
/// # Errors
/// As [`start`].
pub async fn start_on(store: Arc<dyn Store>, config: Config, home: Option<&Path>) -> anyhow::Result<Running> {
    start_from(Source::Given(store), config, home).await
}

/// Where the store comes from.
enum Source {
    Configured,
    Given(Arc<dyn Store>),
}

async fn start_from(source: Source, mut config: Config, home: Option<&Path>) -> anyhow::Result<Running> {
    // Fails only if it is installed already, which tests do.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();

    let admin_tls = admin_tls(&config.admin_server.public)?;
    let listeners = Listeners::bind(&mut config).await?;
    config.complete();
    tracing::info!("Current config {}", config.to_json());
    let addresses = listeners.addresses()?;

    let folder = state_folder(&config, home)?;
    let folder_lock = folder.as_deref().map(lock).transpose()?.flatten();

    let metrics = Arc::new(Metrics::default());
    if let Ok(shown) = std::fs::read_to_string(&config.admin_server.public.tls_cert_file) {
        metrics.certificate("admin_server", &shown);
    }
    let cancel = CancellationToken::new();
    let instance: Arc<str> = uuid::Uuid::new_v4().to_string().into();
    let leaf_validity = config.sds_server.dataplane_cert_validity.get();
    let settings = Settings { complete: false, leaf_validity, started: SystemTime::now(), is_of_this_machine };
    let insights = Arc::new(Insights::new(instance.to_string()));
    let (due, steps) = mpsc::unbounded_channel();
    let observer = EngineObserver { insights: insights.clone(), metrics: metrics.clone(), due };
    let engine = Engine::new(settings, Arc::new(observer), cancel.clone());
    let readiness = Readiness::default();
    let mut running = Running {
        addresses,
        tasks: JoinSet::new(),
        engine: engine.clone(),
        readiness: readiness.clone(),
        cancel: cancel.clone(),
        close_store: Box::pin(async {}),
        _folder_lock: folder_lock,
    };
    // Whoever watches the process is answered while the store is waited for.
    running.serve(
        HttpServer::new(
            "the diagnostics server",
            "diagnostics",
            listeners.diagnostics,
            diagnostics::router(readiness.clone(), metrics.clone()),
        ),
        &metrics,
    );

    let surroundings = Surroundings { folder: folder.clone(), instance: instance.clone(), metrics: metrics.clone() };
    let OpenStore { store, trust, is_shared, was_empty, original, close } = match source {
        Source::Configured => stores::open(&config, surroundings).await?,
        Source::Given(store) => OpenStore::unmanaged(store),
    };
    running.close_store = close;
    let store: Arc<dyn Store> = Arc::new(MeteredStore::new(store, metrics.clone()));
    if !original.is_empty() {
        import::take_over(store.as_ref(), &original)
            .await
            .context("cannot take over what the original Kuma has left")?;
    }
    let authority: Arc<dyn MeshAuthority> = match folder.clone() {
        Some(folder) if store.durable() => Arc::new(AdoptedRoots(folder)),
        Some(folder) => Arc::new(KeptRoots(folder)),
        None => Arc::new(FreshRoots),
    };
    let Identity { signing_key, xds_ca } = if store.durable() {
        // What the memory store has left there comes along when a store that lasts is used for the first time.
        let kept = authority.clone();
        let provided = match was_empty && trust == Trust::New {
            true => tokio::task::spawn_blocking(move || kept.provided()).await??,
            false => Vec::new(),
        };
        Identity::in_store(store.as_ref(), folder.as_deref(), provided, SystemTime::now()).await?
    } else {
        let folder = folder.clone();
        let kept = move || Identity::in_folder(folder.as_deref(), SystemTime::now());
        tokio::task::spawn_blocking(kept).await??
    };
    let signing_key = Arc::new(signing_key);
    if let (Some(folder), true) = (folder, store.durable()) {
        running.spawn("the memory of the store", store_seen::keep(store.clone(), folder, trust, cancel.clone()));
    }
    let departures = Departures::new(engine.clone(), insights.clone(), metrics.clone());
    let peers = Peers::new(store.clone(), insights.clone(), instance);
    running.spawn("the heartbeat", peers.clone().run(cancel.clone()));
    if is_shared {
        let records = departures.share(store.clone(), peers.clone(), cancel.clone());
        running.spawn("the writer of departures", records);
    }
    let forgotten = departures.clone();
    let documents = Documents::new(store.clone(), authority)
        .on_insight_deleted(move |mesh, name| LiveInsights::forget(forgotten.as_ref(), mesh, name));
    let forgetting = Arc::new(Forgetting::new(departures.clone()));
    documents.cas().restore().await.context("the provided CAs of meshes cannot be read again")?;
    let mesh = config.defaults.mesh_document().map_err(anyhow::Error::msg)?;
    let default_mesh = mesh.key.clone();
    documents.create_mesh_if_missing(mesh).await.context("cannot create the default mesh")?;

    if !is_shared {
        take_over_insights(store.as_ref(), &insights).await?;
    }
    let assignments = Arc::new(Assignments::new());
    let followers: [&dyn Follower; 4] =
        [engine.as_ref(), assignments.as_ref(), forgetting.as_ref(), departures.as_ref()];
    let loaded = kuma_store::load(store.as_ref(), &followers).await?;
    let touched = (engine.clone(), assignments.clone());
    let documents = Arc::new(documents.on_mesh_rewritten(move |mesh| {
        touched.0.touch_mesh(mesh);
        touched.1.touch_mesh(mesh);
    }));
    if trust == Trust::New {
        // Nothing of this store was ever lost, so a Mesh in it is what somebody wants, unless we have made it.
        let stored = store.list(Mesh::KIND, None).await?;
        let written = stored.iter().filter(|mesh| mesh.key != default_mesh || mesh.version > 1);
        for mesh in written {
            engine.touch_mesh(&mesh.key.name);
            assignments.touch_mesh(&mesh.key.name);
        }
    }
    let cas = documents.cas();
    let api =
        Api::new(store.clone(), departures.clone(), documents, engine.clone(), &config).map_err(anyhow::Error::msg)?;

    let imported = store.get(&ImportedKey::key()).await?.and_then(|stored| ImportedKey::read(&stored.spec()));
    let tokens = Arc::new(TokenVerifier::new([signing_key.verifying_key()]).with_imported(imported));
    let params = &config.bootstrap_server.params;
    let admin_address = params.admin_address.parse().context("bootstrapServer.params.adminAddress")?;
    let ads = Arc::new(Ads {
        engine: engine.clone(),
        insights: insights.clone(),
        departures: departures.clone(),
        tokens,
        metrics: metrics.clone(),
        admin_address,
    });
    let (tls, pinned_ca, renewal) = xds_tls(&config, xds_ca, &metrics)?;
    let flush_interval = config.xds_server.dataplane_status_flush_interval.get();
    let context = BootstrapContext {
        xds_host: params.xds_host.clone(),
        xds_port: params.xds_port,
        xds_connect_timeout: params.xds_connect_timeout.get(),
        xds_ca_pem: pinned_ca,
        admin_address,
        admin_port: params.admin_port,
        admin_access_log_path: params.admin_access_log_path.clone(),
    };
    let bootstrap = Arc::new(BootstrapServer { store: store.clone(), context });
    let issuer = config.admin_server.apis.dataplane_token.enabled.then_some(signing_key as Arc<dyn TokenIssuer>);

    running.spawn("the rotation of CAs", rotator::run(cas.clone(), peers, steps, cancel.clone()));
    let ca = CaAdmin { cas, engine: engine.clone() };
    let list = assignments.list();
    let followers: Vec<Arc<dyn Follower>> = vec![engine.clone(), assignments.clone(), forgetting, departures.clone()];
    running.spawn("the follower of the store", follow(store.clone(), loaded, followers, cancel.clone()));
    let assignments = mads::router(Mads::new(list, metrics.clone(), cancel.clone()));
    let engine_to_audit = engine.clone();
    running.spawn("the writer of insights", insights.flush(store, flush_interval, cancel.clone()));
    running.spawn("the watch for proxies that vanish", departures.run(cancel.clone()));
    running.spawn("the audit", audit(engine_to_audit, metrics.clone(), cancel.clone()));
    running.spawn("the renewal of the xDS certificate", renewal.run(cancel.clone()));
    let routes = xds_routes(&ads);
    let bounds = Bounds::new(Shares::of_this_process().proxies);
    let sds = Server::new(Arc::new(Sds(ads.clone()))).service(Service::SECRETS).bounds(bounds.clone()).tls(tls.clone());
    running.spawn("the SDS server", sds.serve(listeners.sds, cancel.clone()));
    let xds = Server::new(ads).routes(routes).bounds(bounds).tls(tls);
    running.spawn("the xDS server", xds.serve(listeners.xds, cancel.clone()));
    let api = Arc::new(api);
    let admin = admin::router(Arc::new(Admin { tokens: issuer, ca: Some(ca), api: Some(api.clone()) }));
    let mut servers = vec![
        HttpServer {
            limits: mads::limits(),
            ..HttpServer::new("the monitoring assignment server", "mads", listeners.mads, assignments)
        },
        HttpServer::new("the HTTP API", "api", listeners.api, api::router(api)),
        HttpServer::new("the bootstrap server", "bootstrap", listeners.bootstrap, bootstrap::router(bootstrap)),
    ];
    servers.extend(admin_servers(listeners.admin, admin_tls, admin)?);
    for server in servers {
        running.serve(server, &metrics);
    }
    readiness.set(true);
    tracing::info!(
        api = %addresses.api, xds = %addresses.xds, sds = %addresses.sds, admin = %addresses.admin,
        bootstrap = %addresses.bootstrap,
        diagnostics = %addresses.diagnostics, mads = %addresses.mads, "ready"
    );
    Ok(running)
}

/// One HTTP server.
struct HttpServer {
    /// Its task, for people.
    task: &'static str,
    /// Its name in metrics and log.
    name: &'static str,
    listener: TcpListener,
    router: Router,
    limits: Limits,
    security: Security,
}

impl HttpServer {
    /// One in plain text, with the usual limits.
    fn new(task: &'static str, name: &'static str, listener: TcpListener, router: Router) -> HttpServer {
        HttpServer { task, name, listener, router, limits: Limits::default(), security: Security::Plain }
    }
}

/// The admin server: one port for this machine and others, or one for each.
fn admin_servers(
    listeners: AdminListeners,
    tls: Option<Arc<MutualTls>>,
    router: Router,
) -> anyhow::Result<Vec<HttpServer>> {
    let server = |listener, security| HttpServer {
        security,
        ..HttpServer::new("the admin server", "admin", listener, router.clone())
    };
    Ok(match (listeners, tls) {
        (AdminListeners::Shared(both), Some(tls)) => vec![server(both, Security::Either(tls))],
        (AdminListeners::Apart { local, public }, Some(tls)) => {
            let public = HttpServer {
                task: "the public admin server",
                name: "public admin",
                ..server(public, Security::MutualTls(tls))
            };
            vec![server(local, Security::Plain), public]
        }
        (AdminListeners::Local(local), _) => vec![server(local, Security::Plain)],
        (_, None) => bail!("adminServer.public is on and has no certificate"),
    })
}

/// Hands what the engine finds out to those whom it concerns.
struct EngineObserver {
    insights: Arc<Insights>,
    metrics: Arc<Metrics>,
    due: mpsc::UnboundedSender<rotator::Due>,
}

impl Observer for EngineObserver {
    fn warning(&self, mesh: &Arc<str>, warning: Warning) {
        self.insights.warn(mesh, warning);
    }

    fn rotation_step(&self, mesh: &Arc<str>, step: DueStep) {
        // There is nobody to tell when everything stops.
        let _ = self.due.send((mesh.clone(), step));
    }

    fn accepted(&self, took: Duration) {
        self.metrics.accepted(took);
    }
}

/// Takes over what proxies have reported to earlier processes. Where several control planes share a store, each keeps
/// what was reported to it.
async fn take_over_insights(store: &dyn Store, insights: &Arc<Insights>) -> anyhow::Result<()> {
    let stored = store.list(DataplaneInsight::KIND, None).await?;
    let keys = stored.iter().map(|entry| entry.key.clone()).collect();
    let stored = stored.iter().filter_map(|entry| Some((entry.key.clone(), entry.decode().ok()?)));
    insights.load(stored, Timestamp::now());
    // They are written again as ours.
    store.remove_insights(keys).await?;
    Ok(())
}

/// Keeps followers at what the store holds, until cancelled.
async fn follow(store: Arc<dyn Store>, from: Followed, followers: Vec<Arc<dyn Follower>>, cancel: CancellationToken) {
    let followers: Vec<&dyn Follower> = followers.iter().map(Arc::as_ref).collect();
    tokio::select! {
        () = kuma_store::follow(store.as_ref(), from, &followers) => {}
        () = cancel.cancelled() => {}
    }
}

/// Compares, seldom, what proxies are given with what they should be. A difference is a bug of ours; it is only told.
async fn audit(engine: Arc<Engine>, metrics: Arc<Metrics>, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(AUDIT_EVERY) => {}
            () = cancel.cancelled() => return,
        }
        let differing = engine.audit().await;
        metrics.audited(differing.len());
        if !differing.is_empty() {
            tracing::error!(?differing, "proxies have other configuration than their documents say");
        }
    }
}

/// The methods of the xDS port beside those of ADS.
pub fn xds_routes(ads: &Arc<Ads>) -> Routes {
    let lifecycle = Lifecycle::new(ads.clone());
    Routes::new().with(kuma_wire::lifecycle::METHOD, move |peer, request| lifecycle.clone().report(peer, request))
}

/// What the admin server for other machines shows, and whom it lets in.
fn admin_tls(public: &PublicAdmin) -> anyhow::Result<Option<Arc<MutualTls>>> {
    if !public.enabled {
        return Ok(None);
    }
    if public.client_certs_dir.is_empty() {
        bail!(
            "adminServer.public.clientCertsDir (KUMA_ADMIN_SERVER_PUBLIC_CLIENT_CERTS_DIR) is not set: it names the \
             folder with the certificates of those who are let in"
        );
    }
    let paths = [&public.tls_cert_file, &public.tls_key_file, &public.client_certs_dir];
    let tls = MutualTls::new(Path::new(paths[0]), Path::new(paths[1]), Path::new(paths[2])).context(
        "adminServer.public: see tlsCertFile, tlsKeyFile and clientCertsDir (KUMA_ADMIN_SERVER_PUBLIC_TLS_CERT_FILE, \
         KUMA_ADMIN_SERVER_PUBLIC_TLS_KEY_FILE, KUMA_ADMIN_SERVER_PUBLIC_CLIENT_CERTS_DIR)",
    )?;
    Ok(Some(Arc::new(tls)))
}

fn check_supported(config: &Config) -> anyhow::Result<()> {
    if !matches!(config.environment, Environment::Universal) {
        bail!("environment (KUMA_ENVIRONMENT): this version runs on `universal` alone");
    }
    Ok(())
}

/// The folder for what outlives the process, or `None`, with a warning, if it cannot be written.
fn state_folder(config: &Config, home: Option<&Path>) -> anyhow::Result<Option<Arc<StateFolder>>> {
    let path = config.work_dir(home);
    let opened = path.map_err(anyhow::Error::msg).and_then(|path| {
        StateFolder::open(&path).with_context(|| format!("{} (KUMA_GENERAL_WORK_DIR)", path.display()))
    });
    match opened {
        Ok(folder) => Ok(Some(Arc::new(folder))),
        Err(error) => {
            tracing::warn!(
                "the state folder cannot be used: {error:#}. Keys are kept in memory alone: after a restart running \
                 proxies will not come back, and tokens have to be generated again"
            );
            Ok(None)
        }
    }
}

/// Keeps other control planes out of the state folder; where that is impossible goes on with a warning.
fn lock(folder: &StateFolder) -> anyhow::Result<Option<FolderLock>> {
    match folder.lock() {
        Ok(lock) => Ok(Some(lock)),
        Err(error @ LockError::Taken { .. }) => Err(error).with_context(|| {
            format!("cannot use the state folder {} (KUMA_GENERAL_WORK_DIR)", folder.path().display())
        }),
        Err(LockError::Impossible(error)) => {
            tracing::warn!(%error, folder = %folder.path().display(),
                "the state folder cannot be locked: see to it that no other kuma-cp uses it");
            Ok(None)
        }
    }
}
