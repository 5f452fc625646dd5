//! The bootstrap port (5682): kuma-dp asks here for what Envoy starts with.
//!
//! The answer holds no secret: the token stays in a file of kuma-dp, of which the answer only has the path.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, StatusCode};
use kuma_envoy::BootstrapParams;
use kuma_model::{Dataplane, Key, Resource as _, Violation};
use kuma_store::Store;
use kuma_wire::bootstrap::field;
use serde_json::{Map, Value};
use url::{Host, Url};

use crate::http::error::cause;
use crate::http::{ApiError, body, json};

/// Largest request, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// Longest path of a socket that the kernel takes: 108 bytes with the zero at the end (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
const MAX_PATH: usize = 4096;
/// Most xDS servers in one request.
const MAX_SERVERS: usize = 16;
/// The paths of the port.
pub const PATHS: &[&str] = &["/bootstrap"];
/// What a kuma-dp of the original Kuma, which knows nothing of today's Envoy, is told.
const OTHER_RELEASE: &str = "this control plane needs the kuma-dp of its own release";
const TITLE: &str = "Could not generate a bootstrap configuration";

/// What is the same in every bootstrap configuration.
#[derive(Clone, Debug)]
pub struct BootstrapContext {
    /// Host of the xDS server as Envoys see it.
    pub xds_host: String,
    /// Its port.
    pub xds_port: u16,
    /// How long Envoy waits for a connection to it.
    pub xds_connect_timeout: Duration,
    /// Certificate of the CA that Envoys check the xDS server against, PEM.
    pub xds_ca_pem: String,
    /// Address of Envoy's admin interface.
    pub admin_address: IpAddr,
    /// Port of Envoy's admin interface where kuma-dp asks for none; 0 = no admin interface.
    pub admin_port: u16,
    /// File that the admin interface logs its requests to.
    pub admin_access_log_path: String,
}

/// What the port answers from.
pub struct BootstrapServer {
    /// Where Dataplanes are.
    pub store: Arc<dyn Store>,
    /// The same for everyone.
    pub context: BootstrapContext,
}

/// The port as a service.
pub fn router(server: Arc<BootstrapServer>) -> Router {
    Router::new().fallback(handle).with_state(server)
}

async fn handle(State(server): State<Arc<BootstrapServer>>, request: Request<Body>) -> Response {
    server.answer(request).await.unwrap_or_else(ApiError::into_response)
}

impl BootstrapServer {
    async fn answer(&self, request: Request<Body>) -> Result<Response, ApiError> {
        let (parts, sent) = request.into_parts();
        let path = parts.uri.path();
        if !PATHS.contains(&path.strip_suffix('/').unwrap_or(path)) {
            return Err(ApiError::no_such_path());
        }
        if parts.method != Method::POST {
            return Err(ApiError::method_not_allowed("POST"));
        }
        let sent = body::read(&parts.headers, sent, MAX_BODY).await.map_err(|error| error.into_api_error(TITLE))?;
        let wanted = Wanted::parse(&sent)?;
        let client = parts.headers.get(USER_AGENT).map(|name| String::from_utf8_lossy(name.as_bytes()));
        if wanted.is_of_another_release(client.as_deref().unwrap_or_default()) {
            tracing::warn!(
                mesh = wanted.mesh,
                dataplane = wanted.name,
                "refused a kuma-dp of another release: {OTHER_RELEASE}"
            );
            return Ok(([(CONTENT_TYPE, "text/x-yaml")], for_another_release()).into_response());
        }
        let key = Key::new(Dataplane::KIND, &wanted.mesh, &wanted.name);
        let stored = self.store.get(&key).await.map_err(|error| ApiError::store(TITLE, &error))?;
        let Some(stored) = stored else {
            let details = format!("There is no {key}. Did you first apply a Dataplane resource?");
            return Err(ApiError::new(StatusCode::NOT_FOUND, TITLE, details));
        };
        let dataplane: Dataplane = stored.decode().map_err(|violations| ApiError::internal(TITLE, &violations))?;
        let yaml = serde_saphyr::to_string(&self.bootstrap(&wanted, &dataplane))
            .map_err(|error| ApiError::internal(TITLE, &error))?;
        Ok(([(CONTENT_TYPE, "text/x-yaml")], yaml).into_response())
    }

    fn bootstrap(&self, wanted: &Wanted, dataplane: &Dataplane) -> Value {
        let context = &self.context;
        let admin_port = if wanted.admin_port != 0 { wanted.admin_port } else { context.admin_port };
        let mut xds_servers = vec![(context.xds_host.as_str(), context.xds_port)];
        for (host, port) in &wanted.xds_servers {
            if !xds_servers.contains(&(host, *port)) {
                xds_servers.push((host, *port));
            }
        }
        kuma_envoy::bootstrap(&BootstrapParams {
            mesh: &wanted.mesh,
            name: &wanted.name,
            service: dataplane.identifying_service(),
            admin: (admin_port != 0).then(|| SocketAddr::new(context.admin_address, admin_port)),
            admin_access_log_path: &context.admin_access_log_path,
            xds_servers: &xds_servers,
            xds_connect_timeout: context.xds_connect_timeout,
            xds_ca_pem: &context.xds_ca_pem,
            token_path: wanted.token_path.as_deref(),
            access_log_socket: &wanted.access_log_socket,
            max_connections: wanted.max_connections,
        })
    }
}

/// What kuma-dp asks for.
#[derive(Debug)]
struct Wanted {
    mesh: String,
    name: String,
    /// 0 = as configured.
    admin_port: u16,
    token_path: Option<String>,
    access_log_socket: String,
    /// Whether it says where access logs are received. Every kuma-dp of ours does.
    has_socket: bool,
    /// How many connections its machine lets Envoy carry at a time.
    max_connections: Option<u64>,
    /// Further xDS servers, by host and port.
    xds_servers: Vec<(String, u16)>,
}

/// The answer to a kuma-dp of another release. It prints nothing of an answer but why it cannot read a bootstrap, so
/// this is one that it cannot read, because of a type with our words for a name.
fn for_another_release() -> String {
    format!("# {OTHER_RELEASE}\nstatsSinks:\n- name: other-release\n  typedConfig:\n    '@type': '{OTHER_RELEASE}'\n")
}

impl Wanted {
    /// Whether a kuma-dp of the original Kuma asks, of which there are releases up to 0.4: it names no socket for
    /// access logs. A person who asks by hand, for an Envoy without kuma-dp, names no port and no token either.
    fn is_of_another_release(&self, client: &str) -> bool {
        !self.has_socket && (self.admin_port != 0 || self.token_path.is_some() || client.starts_with("Go-http-client/"))
    }

    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let fields = json::object(body).map_err(|error| ApiError::unreadable(TITLE, &error))?;
        let mut fields = Fields { fields: &fields, causes: Vec::new() };
        let (name, mesh) = (fields.name(field::NAME), fields.name(field::MESH));
        let admin_port = fields.port(field::ADMIN_PORT);
        let token_path = fields.path(field::DATAPLANE_TOKEN_PATH, MAX_PATH);
        let socket = fields.path(field::ACCESS_LOG_SOCKET, MAX_SOCKET_PATH);
        let max_connections = fields.count(field::MAX_CONNECTIONS);
        let xds_servers = fields.servers(field::XDS_SERVERS);
        if !fields.causes.is_empty() {
            return Err(ApiError::invalid(TITLE, fields.causes));
        }
        let has_socket = socket.is_some();
        let access_log_socket = socket.unwrap_or_else(|| format!("/tmp/kuma-access-logs-{name}-{mesh}.sock"));
        Ok(Self { mesh, name, admin_port, token_path, access_log_socket, has_socket, max_connections, xds_servers })
    }
}

/// The parts of `host:port`, where an IPv6 address stands in brackets.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let url = Url::parse(&format!("grpc://{text}")).ok()?;
    let host = match url.host()? {
        // A scheme of our own: the URL standard does not look for addresses in its hosts.
        Host::Domain(name) if !name.is_empty() => name.to_owned(),
        Host::Domain(_) => return None,
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    let is_alone = url.username().is_empty() && url.password().is_none() && url.path().is_empty();
    let port = url.port().filter(|port| *port != 0)?;
    (is_alone && url.query().is_none() && url.fragment().is_none()).then_some((host, port))
}

/// Reads fields and collects what is wrong with them. Unknown ones are a newer kuma-dp's.
struct Fields<'a> {
    fields: &'a Map<String, Value>,
    causes: Vec<Violation>,
}

impl Fields<'_> {
    fn name(&mut self, field: &str) -> String {
        let text = self.text(field).unwrap_or_default();
        match kuma_model::check_name(&text) {
            _ if text.is_empty() => self.causes.push(cause(field, "cannot be empty")),
            Some(message) => self.causes.push(cause(field, message)),
            None => {}
        }
        text
    }

    fn port(&mut self, field: &str) -> u16 {
        let value = match self.fields.get(field) {
            None | Some(Value::Null) => Some(0),
            Some(value) => value.as_u64().and_then(|port| u16::try_from(port).ok()),
        };
        if value.is_none() {
            self.causes.push(cause(field, "must be in the range [0, 65535]"));
        }
        value.unwrap_or_default()
    }

    /// A number from 1 on.
    fn count(&mut self, field: &str) -> Option<u64> {
        let value = self.fields.get(field).filter(|value| !value.is_null())?;
        let count = value.as_u64().filter(|count| *count > 0);
        if count.is_none() {
            self.causes.push(cause(field, "must be a whole number above 0"));
        }
        count
    }

    /// A list of `host:port`.
    fn servers(&mut self, field: &str) -> Vec<(String, u16)> {
        let items = match self.fields.get(field) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(items)) if items.len() <= MAX_SERVERS => items.as_slice(),
            Some(_) => {
                self.causes.push(cause(field, format!("must be a list of at most {MAX_SERVERS} texts")));
                return Vec::new();
            }
        };
        let mut servers = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.as_str().and_then(host_and_port) {
                Some(server) => servers.push(server),
                None => self.causes.push(cause(format!("{field}[{index}]"), "must be HOST:PORT")),
            }
        }
        servers
    }

    /// An absolute path; one that is empty is not given.
    fn path(&mut self, field: &str, longest: usize) -> Option<String> {
        let text = self.text(field).filter(|text| !text.is_empty())?;
        if !text.starts_with('/') || text.contains('\0') {
            self.causes.push(cause(field, "must be an absolute path"));
        } else if text.len() > longest {
            self.causes.push(cause(field, format!("must not be longer than {longest} bytes")));
        }
        Some(text)
    }

    fn text(&mut self, field: &str) -> Option<String> {
        match self.fields.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                self.causes.push(cause(field, "must be a text"));
                None
            }
        }
    }
}
