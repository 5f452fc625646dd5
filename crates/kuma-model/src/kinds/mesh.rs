//! What holds for a whole mesh.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::decode::{self, Decode, Fields};
use crate::kinds::metrics::Metrics;
use crate::kinds::traffic_log::TrafficLog;
use crate::kinds::traffic_trace::TrafficTrace;
use crate::omit;
use crate::resource::{Column, Resource, Scope};
use crate::violations::Violations;

mod logging;
mod tracing;

pub use logging::{LogSink, Logging, LoggingBackend};
pub use tracing::{Collector, Tracing, TracingBackend, Zipkin, ZipkinAddress};

/// Port on which proxies offer metrics, unless the Mesh says otherwise.
pub const DEFAULT_METRICS_PORT: u32 = 5670;

/// Path at which proxies offer metrics, unless the Mesh says otherwise.
pub const DEFAULT_METRICS_PATH: &str = "/metrics";

/// A mesh.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct Mesh {
    /// Encryption and identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtls: Option<Mtls>,
    /// Where traces go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// Where logs of connections go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// How proxies offer metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
}

/// Mutual TLS between the proxies of a mesh.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct Mtls {
    /// Who issues certificates. Stored meshes have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<Ca>,
    /// Whether connections are encrypted and permissions enforced.
    #[serde(skip_serializing_if = "omit::is_false")]
    pub enabled: bool,
}

/// Who issues the certificates of a mesh. In JSON an object with one member: `{"builtin": {}}`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Ca {
    /// A root that the control plane makes.
    #[default]
    Builtin,
    /// A root that the user brings.
    Provided,
}

impl Ca {
    /// Its name in documents and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Ca::Builtin => "builtin",
            Ca::Provided => "provided",
        }
    }
}

impl Mesh {
    /// Whether mTLS is on.
    pub fn mtls_enabled(&self) -> bool {
        self.mtls.as_ref().is_some_and(|mtls| mtls.enabled)
    }

    /// Who issues its certificates, mTLS on or not.
    pub fn ca(&self) -> Ca {
        self.mtls.as_ref().and_then(|mtls| mtls.ca).unwrap_or_default()
    }

    /// The backend that a log goes to: the one that it names, else the default one; `None` if there is no such backend.
    pub fn log_backend(&self, log: &TrafficLog) -> Option<&LoggingBackend> {
        let logging = self.logging.as_ref()?;
        let named = log.conf.as_ref().map(|conf| conf.backend.as_str()).filter(|name| !name.is_empty());
        let name = named.unwrap_or(&logging.default_backend);
        logging.backends.iter().find(|backend| !name.is_empty() && backend.name == name)
    }

    /// The backend that a trace goes to: the one that it names, else the default one; `None` if there is no such
    /// backend.
    pub fn trace_backend(&self, trace: &TrafficTrace) -> Option<&TracingBackend> {
        let tracing = self.tracing.as_ref()?;
        let named = trace.conf.as_ref().map(|conf| conf.backend.as_str()).filter(|name| !name.is_empty());
        let name = named.unwrap_or(&tracing.default_backend);
        tracing.backends.iter().find(|backend| !name.is_empty() && backend.name == name)
    }
}

impl Resource for Mesh {
    const KIND: &'static str = "Mesh";
    const API_PATH: &'static str = "meshes";
    const CLI_LIST: &'static str = "meshes";
    const CLI_ONE: &'static str = "mesh";
    const SCOPE: Scope = Scope::Global;
    const COLUMNS: &'static [Column<Mesh>] = &[
        Column { title: "mTLS", cell: |mesh| (if mesh.mtls_enabled() { "on" } else { "off" }).into() },
        Column { title: "CA", cell: |mesh| mesh.ca().name().into() },
        Column {
            title: "METRICS",
            cell: |mesh| {
                let prometheus = mesh.metrics.as_ref().is_some_and(|metrics| metrics.prometheus.is_some());
                (if prometheus { "prometheus" } else { "off" }).into()
            },
        },
    ];

    fn decode(fields: &mut Fields<'_>) -> Mesh {
        Mesh {
            mtls: fields.opt("mtls"),
            tracing: fields.opt("tracing"),
            logging: fields.opt("logging"),
            metrics: fields.opt("metrics"),
        }
    }

    fn apply_defaults(&mut self) {
        self.mtls.get_or_insert_default().ca.get_or_insert_default();
        if let Some(prometheus) = self.metrics.as_mut().and_then(|metrics| metrics.prometheus.as_mut()) {
            if prometheus.port == 0 {
                prometheus.port = DEFAULT_METRICS_PORT;
            }
            if prometheus.path.is_empty() {
                prometheus.path = DEFAULT_METRICS_PATH.into();
            }
        }
    }

    fn validate(&self, violations: &mut Violations) {
        if let Some(mtls) = &self.mtls
            && mtls.enabled
            && mtls.ca.is_none()
        {
            violations.add("mtls.ca", "has to be set when mTLS is enabled");
        }
        if let Some(tracing) = &self.tracing {
            tracing.validate(violations);
        }
        if let Some(logging) = &self.logging {
            logging.validate(violations);
        }
        if let Some(metrics) = &self.metrics {
            metrics.validate(violations);
        }
    }
}

impl Decode for Mtls {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Mtls> {
        decode::object(value, path, violations, |fields| Mtls {
            ca: fields.object("ca", read_ca).flatten(),
            enabled: fields.get("enabled"),
        })
    }
}

fn read_ca(fields: &mut Fields<'_>) -> Option<Ca> {
    let named = fields.one_of(&[Ca::Builtin.name(), Ca::Provided.name()])?;
    fields.member(named, |_| ());
    Some(if named == Ca::Provided.name() { Ca::Provided } else { Ca::Builtin })
}

impl Serialize for Ca {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({ self.name(): {} }).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{read, refused, stored};

    #[test]
    fn the_builtin_ca_is_filled_in() {
        let default = r#"{"mtls":{"ca":{"builtin":{}}}}"#;
        for yaml in ["", "mtls: null", "mtls: {}", "mtls: {ca: {}, enabled: false}", "mtls: {ca: {builtin: null}}"] {
            assert_eq!(stored::<Mesh>(yaml), default, "{yaml}");
        }
        let enabled = "mtls: {enabled: true}";
        assert_eq!(stored::<Mesh>(enabled), r#"{"mtls":{"ca":{"builtin":{}},"enabled":true}}"#);
        for yaml in ["mtls: {ca: {provided: {}}}", "mtls: {ca: {provided: }}"] {
            assert_eq!(stored::<Mesh>(yaml), r#"{"mtls":{"ca":{"provided":{}}}}"#, "{yaml}");
        }
    }

    #[test]
    fn a_mesh_has_one_ca() {
        refused::<Mesh>(
            "mtls: {ca: {builtin: {}, provided: null}}",
            r#"mtls.ca: only one of "builtin" and "provided" can be set"#,
        );
        refused::<Mesh>(
            "mtls: {ca: {builtin: {key: x}}, enabled: 'yes'}",
            "mtls.enabled: must be true or false, not a string\nmtls.ca.builtin.key: unknown field",
        );
        refused::<Mesh>("mtls: {ca: builtin}", "mtls.ca: must be an object, not a string");
        refused::<Mesh>("mtls: {ca: {bultin: {}}}", r#"mtls.ca.bultin: unknown field; did you mean "builtin"?"#);
    }

    #[test]
    fn a_mesh_without_a_ca_cannot_be_enabled() {
        // Not reachable through documents: the default is filled in first.
        let mesh = Mesh { mtls: Some(Mtls { ca: None, enabled: true }), ..Mesh::default() };
        let mut violations = Violations::default();
        mesh.validate(&mut violations);
        assert_eq!(violations.to_string(), "mtls.ca: has to be set when mTLS is enabled");
    }

    #[test]
    fn metrics_get_port_and_path_only_where_prometheus_is_set() {
        let with = |metrics: &str| format!(r#"{{"mtls":{{"ca":{{"builtin":{{}}}}}},"metrics":{metrics}}}"#);
        for (yaml, metrics) in [
            ("metrics: {}", "{}"),
            ("metrics: {prometheus: null}", "{}"),
            ("metrics: {prometheus: {}}", r#"{"prometheus":{"port":5670,"path":"/metrics"}}"#),
            ("metrics: {prometheus: {port: '1234'}}", r#"{"prometheus":{"port":1234,"path":"/metrics"}}"#),
            ("metrics: {prometheus: {path: /m}}", r#"{"prometheus":{"port":5670,"path":"/m"}}"#),
        ] {
            assert_eq!(stored::<Mesh>(yaml), with(metrics), "{yaml}");
        }
        let message = "metrics.prometheus.port: port has to be in range of [0, 65535]";
        refused::<Mesh>("metrics: {prometheus: {port: 65536}}", message);
    }

    #[test]
    fn empty_parts_are_kept() {
        assert_eq!(
            stored::<Mesh>("{tracing: {}, logging: {backends: []}}"),
            r#"{"mtls":{"ca":{"builtin":{}}},"tracing":{},"logging":{"backends":[]}}"#
        );
    }

    #[test]
    fn the_table_shows_what_is_on() {
        let cells = |yaml: &str| {
            let mesh: Mesh = read(yaml);
            Mesh::COLUMNS.iter().map(|column| (column.cell)(&mesh)).collect::<Vec<String>>().join(" ")
        };
        assert_eq!(cells(""), "off builtin off");
        assert_eq!(cells("mtls: {enabled: true, ca: {provided: {}}}"), "on provided off");
        assert_eq!(cells("metrics: {prometheus: {}}"), "off builtin prometheus");
    }
}
