//! The configuration of the control plane: one typed tree, read once, in one place.
//!
//! Defaults, then the YAML file, then the environment: the later wins. [`load`] reports every mistake at once, each
//! with the variable or the line that made it. Nothing here reads the environment: it is passed in. The tree prints as
//! it stands, in the log and on `/config`: secrets are a type that shows `*****`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

mod admin_server;
mod complete;
mod default_mesh;
mod descriptions;
mod env;
mod load;
mod parse;
pub mod reference;
mod rules;
mod runtime;
mod secret;
mod servers;
mod store;

pub use admin_server::{AdminApis, AdminServer, DataplaneTokenApi, DataplaneTokenServer, LocalAdmin, PublicAdmin};
pub use default_mesh::Defaults;
pub use env::ENV;
pub use load::{ConfigError, Loaded, Mistake, build, load};
pub use runtime::{
    AdmissionServer, Discovery, Environment, General, KubernetesRuntime, Reports, Runtime, UniversalDiscovery,
};
pub use secret::Secret;
pub use servers::{
    ApiServer, BootstrapParams, BootstrapServer, GuiServer, MonitoringAssignmentServer, SdsServer, XdsServer,
};
pub use store::{FileStore, History, KubernetesStore, PostgresStore, PostgresTls, StoreConfig, StoreType, TlsMode};

/// Every setting. The names of the fields are the keys of the file and of `/config`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Administrative tasks.
    pub admin_server: AdminServer,
    /// The HTTP API.
    pub api_server: ApiServer,
    /// What Envoys start with.
    pub bootstrap_server: BootstrapServer,
    /// The old name of `admin_server`.
    pub dataplane_token_server: DataplaneTokenServer,
    /// What is made at the first start.
    pub defaults: Defaults,
    /// Shown for compatibility.
    pub discovery: Discovery,
    /// Where the mesh runs.
    pub environment: Environment,
    /// What concerns all servers.
    pub general: General,
    /// The web pages.
    pub gui_server: GuiServer,
    /// What Prometheus scrapes.
    pub monitoring_assignment_server: MonitoringAssignmentServer,
    /// Has no effect.
    pub reports: Reports,
    /// What depends on the environment.
    pub runtime: Runtime,
    /// Certificates over TLS.
    pub sds_server: SdsServer,
    /// Where documents are kept.
    pub store: StoreConfig,
    /// Configuration of proxies.
    pub xds_server: XdsServer,
}

impl Config {
    /// What `/config` and the log show: every setting, keys in alphabetical order, secrets masked.
    pub fn to_json(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value.sort_all_objects();
        value
    }

    /// Every rule that is broken. `sources` says where a setting was set.
    fn check(&self, sources: &BTreeMap<String, String>) -> Vec<Mistake> {
        // In the order of the documents. A new section is a compile error until somebody says how it is checked.
        let Self {
            xds_server,
            bootstrap_server,
            sds_server,
            dataplane_token_server,
            monitoring_assignment_server,
            admin_server,
            environment,
            general,
            store,
            api_server,
            runtime,
            defaults,
            gui_server,
            discovery,
            reports: Reports { enabled: _ },
        } = self;
        let mut rules = rules::Rules::new(sources);
        xds_server.check(&mut rules);
        bootstrap_server.check(&mut rules);
        sds_server.check(&mut rules);
        dataplane_token_server.check(&mut rules);
        monitoring_assignment_server.check(&mut rules);
        admin_server.public.check("adminServer.public", &mut rules);
        general.check(&mut rules);
        store.check(&mut rules);
        api_server.check(&mut rules);
        runtime.kubernetes.admission_server.check(*environment, &mut rules);
        defaults.check(&mut rules);
        gui_server.check(&mut rules);
        rules.positive(
            discovery.universal.polling_interval,
            "discovery.universal.pollingInterval",
            "PollingInterval must be positive",
        );
        rules.into_mistakes()
    }
}
