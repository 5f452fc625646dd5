//! Requests Envoy's bootstrap from the control plane: first the catalog from the HTTP API, then the bootstrap from the
//! server that the catalog names.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use kuma_wire::bootstrap::BootstrapRequest;
use kuma_wire::catalog;
use url::{Host, Url};

use crate::http_client::{self, Answer, NoAnswer};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Where the control plane's other servers are (`GET /catalog`).
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) bootstrap: Url,
    /// Whether the control plane issues dataplane tokens, and so may require one.
    pub(crate) issues_tokens: bool,
    /// Where it serves xDS. Control planes of earlier releases do not tell.
    pub(crate) xds: Option<Server>,
}

/// A host (name or IP address) and a port.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Server {
    fn of_url(url: &str) -> Option<Server> {
        let url = Url::parse(url).ok()?;
        Some(Server { host: url.host_str()?.trim_matches(['[', ']']).to_owned(), port: url.port()? })
    }
}

impl fmt::Display for Server {
    /// As it stands in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Why there is no configuration for Envoy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("could not retrieve catalog from {url}")]
    Catalog { url: Url, source: Reason },
    #[error("failed to generate Envoy bootstrap config at {url}")]
    Bootstrap { url: Url, source: Reason },
    #[error(
        "failed to generate Envoy bootstrap config: status: 404. Did you first apply a Dataplane resource? \
         {url} knows no Dataplane {name:?} in mesh {mesh:?}"
    )]
    UnknownDataplane { url: Url, mesh: String, name: String },
}

/// What went wrong with one request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Reason {
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    #[error("unexpected status code: {}{said}", .status.as_u16())]
    Status { status: StatusCode, said: String },
    #[error("the answer is not one of a control plane: {0}")]
    Malformed(String),
}

impl Failure {
    /// Whether the same request may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            // A proxy may be started before its Dataplane is applied.
            Failure::UnknownDataplane { .. } => true,
            Failure::Catalog { source, .. } | Failure::Bootstrap { source, .. } => match source {
                Reason::NoAnswer(cause) => !cause.is_untrusted_certificate() && !matches!(cause, NoAnswer::BadUrl(_)),
                Reason::Status { status, .. } => {
                    status.is_server_error()
                        || matches!(*status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
                }
                Reason::Malformed(_) => false,
            },
        }
    }

    /// What the user can do about it. `cp_address` is the configured address.
    pub(crate) fn advice(&self, cp_address: &Url) -> String {
        match self {
            Failure::UnknownDataplane { .. } => "check --name and --mesh, or apply it with 'kumactl apply'".to_owned(),
            Failure::Catalog { source: Reason::NoAnswer(cause), .. } if cause.is_untrusted_certificate() => {
                "its certificate has to come from a CA that this machine trusts; there is no way around that".to_owned()
            }
            Failure::Catalog { source: Reason::NoAnswer(_), .. } => {
                "check that kuma-cp runs there, and --cp-address (KUMA_CONTROL_PLANE_API_SERVER_URL)".to_owned()
            }
            Failure::Catalog { .. } => {
                "check that --cp-address (KUMA_CONTROL_PLANE_API_SERVER_URL) is the API server of a kuma-cp, by \
                 default its port 5681"
                    .to_owned()
            }
            Failure::Bootstrap { url, source: Reason::NoAnswer(_) } if is_loopback(url) && !is_loopback(cp_address) => {
                "that address is where the control plane says it is; set KUMA_GENERAL_ADVERTISED_HOSTNAME of kuma-cp \
                 to a name that this machine can reach"
                    .to_owned()
            }
            Failure::Bootstrap { source: Reason::NoAnswer(_), .. } => {
                "check that this machine may connect to the bootstrap server of kuma-cp, which its catalog \
                 names"
                    .to_owned()
            }
            Failure::Bootstrap { .. } => "the log of kuma-cp may say more".to_owned(),
        }
    }
}

/// Requests the catalog.
pub(crate) async fn catalog(cp_address: &Url) -> Result<Catalog, Failure> {
    let url = below(cp_address, "catalog");
    let parse = |answer: Answer| {
        let catalog::Catalog { apis } =
            serde_json::from_slice(&answer.body).map_err(|error| Reason::Malformed(error.to_string()))?;
        let bootstrap = Url::parse(&apis.bootstrap.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| Reason::Malformed(format!("{:?} as the URL of the bootstrap server", apis.bootstrap.url)))?;
        let xds = apis.xds.and_then(|xds| Server::of_url(&xds.url));
        Ok(Catalog { bootstrap, issues_tokens: !apis.dataplane_token.local_url.is_empty(), xds })
    };
    let answer = http_client::get(&url, LIMIT).await.map_err(Reason::from).and_then(successful).and_then(parse);
    answer.map_err(|source| Failure::Catalog { url: without_password(url), source })
}

/// Requests Envoy's bootstrap configuration, which is YAML or JSON.
pub(crate) async fn bootstrap(catalog: &Catalog, request: &BootstrapRequest<'_>) -> Result<Bytes, Failure> {
    let url = below(&catalog.bootstrap, "bootstrap");
    let answer = match serde_json::to_vec(request) {
        Ok(body) => http_client::post(&url, body.into(), LIMIT).await.map_err(Reason::from).and_then(successful),
        // A path that is not UTF-8.
        Err(error) => Err(Reason::Malformed(error.to_string())),
    };
    let url = without_password(url);
    match answer {
        Ok(answer) => Ok(answer.body),
        Err(Reason::Status { status: StatusCode::NOT_FOUND, .. }) => {
            Err(Failure::UnknownDataplane { url, mesh: request.mesh.to_owned(), name: request.name.to_owned() })
        }
        Err(source) => Err(Failure::Bootstrap { url, source }),
    }
}

fn successful(answer: Answer) -> Result<Answer, Reason> {
    if answer.status == StatusCode::OK {
        return Ok(answer);
    }
    // The beginning of the answer often explains the failure.
    let text = String::from_utf8_lossy(&answer.body);
    let text: String = text.trim().chars().filter(|c| !c.is_control()).take(200).collect();
    let said = if text.is_empty() { String::new() } else { format!(" ({text})") };
    Err(Reason::Status { status: answer.status, said })
}

/// `base` with one more segment, whether or not it ends in a slash.
fn below(base: &Url, segment: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{segment}", base.path().trim_end_matches('/')));
    url.set_query(None);
    url.set_fragment(None);
    url
}

/// A URL without its password, for messages.
fn without_password(mut url: Url) -> Url {
    // Only fails for URLs without a host, which have no password either.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> Failure {
        let source = Reason::Status { status: StatusCode::from_u16(code).unwrap(), said: String::new() };
        Failure::Bootstrap { url: Url::parse("http://cp/bootstrap").unwrap(), source }
    }

    #[test]
    fn what_waiting_can_heal() {
        for code in [408, 429, 500, 502, 503] {
            assert!(status(code).is_transient(), "{code}");
        }
        for code in [301, 400, 401, 403, 405, 422] {
            assert!(!status(code).is_transient(), "{code}");
        }
    }

    #[test]
    fn addresses_join_in_every_spelling() {
        for (base, url) in [
            ("http://cp:5681", "http://cp:5681/catalog"),
            ("http://cp:5681/", "http://cp:5681/catalog"),
            ("https://cp/kuma", "https://cp/kuma/catalog"),
            ("https://cp/kuma/?x=1#y", "https://cp/kuma/catalog"),
        ] {
            assert_eq!(below(&Url::parse(base).unwrap(), "catalog").as_str(), url);
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let url = without_password(Url::parse("http://user:canary@cp:5681/catalog").unwrap());
        assert_eq!(url.as_str(), "http://cp:5681/catalog");
    }

    #[test]
    fn a_loopback_address_from_a_remote_control_plane_is_explained() {
        let failure = Failure::Bootstrap {
            url: Url::parse("http://localhost:5682/bootstrap").unwrap(),
            source: Reason::NoAnswer(NoAnswer::TimedOut(LIMIT)),
        };
        let advice = |cp: &str| failure.advice(&Url::parse(cp).unwrap());
        assert!(advice("http://cp.internal:5681").contains("KUMA_GENERAL_ADVERTISED_HOSTNAME"));
        assert!(!advice("http://127.0.0.1:5681").contains("KUMA_GENERAL_ADVERTISED_HOSTNAME"));
    }
}
