//! What kuma-dp asks for before it starts Envoy.

use std::path::Path;

use serde::Serialize;

/// The body of `POST /bootstrap`. The bootstrap server answers with Envoy's bootstrap configuration in YAML.
///
/// It is only written here: the server reads field by field, so that it can say everything that is wrong at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapRequest<'a> {
    /// Mesh of the Dataplane.
    pub mesh: &'a str,
    /// Name of the Dataplane.
    pub name: &'a str,
    /// Port of Envoy's admin server on loopback; without, the one that the control plane is configured with, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_port: Option<u16>,
    /// The file with the dataplane token, on kuma-dp's machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataplane_token_path: Option<&'a Path>,
    /// The unix socket on which kuma-dp takes access logs.
    pub access_log_socket: &'a Path,
    /// How many connections Envoy can carry at a time on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u64>,
    /// The xDS servers of further control planes that serve the mesh, each as `host:port`.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub xds_servers: &'a [String],
}

/// The names of its fields.
pub mod field {
    /// [`super::BootstrapRequest::mesh`]
    pub const MESH: &str = "mesh";
    /// [`super::BootstrapRequest::name`]
    pub const NAME: &str = "name";
    /// [`super::BootstrapRequest::admin_port`]
    pub const ADMIN_PORT: &str = "adminPort";
    /// [`super::BootstrapRequest::dataplane_token_path`]
    pub const DATAPLANE_TOKEN_PATH: &str = "dataplaneTokenPath";
    /// [`super::BootstrapRequest::access_log_socket`]
    pub const ACCESS_LOG_SOCKET: &str = "accessLogSocket";
    /// [`super::BootstrapRequest::max_connections`]
    pub const MAX_CONNECTIONS: &str = "maxConnections";
    /// [`super::BootstrapRequest::xds_servers`]
    pub const XDS_SERVERS: &str = "xdsServers";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_called_so() {
        let request = BootstrapRequest {
            mesh: "default",
            name: "web-1",
            admin_port: Some(30001),
            dataplane_token_path: Some(Path::new("/run/token")),
            access_log_socket: Path::new("/run/socket"),
            max_connections: Some(64),
            xds_servers: &["b:5678".to_owned()],
        };
        let json = serde_json::json!({
            (field::MESH): "default",
            (field::NAME): "web-1",
            (field::ADMIN_PORT): 30001,
            (field::DATAPLANE_TOKEN_PATH): "/run/token",
            (field::ACCESS_LOG_SOCKET): "/run/socket",
            (field::MAX_CONNECTIONS): 64,
            (field::XDS_SERVERS): ["b:5678"],
        });
        assert_eq!(serde_json::to_value(request).expect("JSON"), json);
        let least = BootstrapRequest {
            admin_port: None,
            dataplane_token_path: None,
            max_connections: None,
            xds_servers: &[],
            ..request
        };
        let json = serde_json::json!({"mesh": "default", "name": "web-1", "accessLogSocket": "/run/socket"});
        assert_eq!(serde_json::to_value(least).expect("JSON"), json, "what is not given is left out");
    }
}
