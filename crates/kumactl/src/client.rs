//! The HTTP API of a control plane, as seen by a client.

use std::error::Error;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderValue, WARNING};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use url::{Host, Url};

use crate::admin_tls;
use crate::config::{AdminApi, parse_address};
use crate::failure::Failure;

/// Time for one call of the API.
pub(crate) const API_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for a call of the catalog or of the admin server.
pub(crate) const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The header with the reason for a write.
const NOTE: &str = "kuma-note";

/// A client of one server.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    address: String,
    timeout: Duration,
    log: bool,
    /// Path of the client certificate, if there is one.
    certificate: Option<String>,
    /// The reason for writes, which the history shows.
    note: Option<String>,
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// There was no answer.
    Unreachable {
        /// Address of the server.
        address: String,
        /// The innermost cause.
        reason: String,
        /// What the user can try.
        hint: String,
    },
    /// The server refused the request.
    Refused(Refusal),
    /// The answer is not valid in this API.
    Garbled {
        /// Address of the server.
        address: String,
        /// The error in it.
        reason: String,
    },
}

/// Identifies the change that a write has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// Its revision. If the write has changed nothing, the latest revision.
    pub(crate) revision: u64,
    /// The epoch of the revision.
    pub(crate) epoch: String,
}

impl Written {
    fn read(headers: &HeaderMap) -> Option<Written> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        Some(Written { revision: text("kuma-revision")?.parse().ok()?, epoch: text("kuma-epoch")?.to_owned() })
    }
}

/// An answer of the API.
struct Answer {
    body: Vec<u8>,
    written: Option<Written>,
}

/// An answer with an error status.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// HTTP status.
    pub(crate) status: StatusCode,
    body: Result<ErrorBody, String>,
}

/// How the API describes an error.
#[derive(Debug, serde::Deserialize)]
struct ErrorBody {
    title: String,
    #[serde(default)]
    details: String,
    #[serde(default)]
    causes: Vec<ErrorCause>,
    /// The present plan of a refused rollback.
    #[serde(default)]
    plan: Option<Box<Value>>,
}

#[derive(Debug, Default, serde::Deserialize)]
struct ErrorCause {
    #[serde(default)]
    field: String,
    #[serde(default)]
    message: String,
}

impl Client {
    /// A client of the server at `address`; `log` reports every call on stderr.
    pub(crate) fn new(address: &str, timeout: Duration, log: bool) -> Result<Client, Failure> {
        Client::build(address, timeout, log, http_client)
    }

    /// A client with a certificate.
    pub(crate) fn with_certificate(
        address: &str,
        timeout: Duration,
        log: bool,
        credentials: &AdminApi,
    ) -> Result<Client, Failure> {
        let tls = admin_tls::client_config(credentials)?;
        let mut client = Client::build(address, timeout, log, |url| http_client(url).tls_backend_preconfigured(tls))?;
        client.certificate = Some(credentials.client_cert.clone());
        Ok(client)
    }

    fn build(
        address: &str,
        timeout: Duration,
        log: bool,
        begin: impl FnOnce(&Url) -> reqwest::ClientBuilder,
    ) -> Result<Client, Failure> {
        let base = parse_address(address)
            .map_err(|reason| Failure::new(format!("the address of the Control Plane is not valid: {reason}")))?;
        let http = begin(&base).timeout(timeout).redirect(reqwest::redirect::Policy::none()).build();
        let http = http.map_err(|error| Failure::new(format!("could not set up HTTP: {}", root_cause(&error))))?;
        Ok(Client { http, base, address: address.to_owned(), timeout, log, certificate: None, note: None })
    }

    /// The same client, with a reason for its writes.
    pub(crate) fn with_note(self, note: Option<String>) -> Client {
        Client { note, ..self }
    }

    /// Reads JSON. `path` is given in segments, which are escaped.
    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, CallError> {
        self.get_with_revision(path, query).await.map(|(value, _)| value)
    }

    /// The same, with the revision of the answer, if it has one.
    pub(crate) async fn get_with_revision(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<(Value, Option<u64>), CallError> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let answer = self.call(Method::GET, url, |request| request).await?;
        Ok((self.json(&answer.body)?, answer.written.map(|written| written.revision)))
    }

    /// Reads the items of a list.
    pub(crate) async fn list(&self, path: &[&str], query: &[(&str, String)]) -> Result<Vec<Value>, CallError> {
        self.items(self.get(path, query).await?)
    }

    /// The items of an answer that is a list.
    pub(crate) fn items(&self, answer: Value) -> Result<Vec<Value>, CallError> {
        match answer {
            Value::Object(mut list) => match list.remove("items") {
                Some(Value::Array(items)) => Ok(items),
                _ => Err(self.garbled("the answer has no list of items")),
            },
            _ => Err(self.garbled("the answer is not a list")),
        }
    }

    /// Creates or replaces a document. `None` if the control plane is older and does not identify changes.
    pub(crate) async fn put(&self, path: &[&str], body: &Value) -> Result<Option<Written>, CallError> {
        let answer = self.call(Method::PUT, self.url(path), |request| request.json(body)).await?;
        Ok(answer.written)
    }

    /// Deletes a document. `None` if the control plane is older and does not identify changes.
    pub(crate) async fn delete(&self, path: &[&str]) -> Result<Option<Written>, CallError> {
        let answer = self.call(Method::DELETE, self.url(path), |request| request).await?;
        Ok(answer.written)
    }

    /// Deletes, with a query.
    pub(crate) async fn delete_with(&self, path: &[&str], query: &[(&str, String)]) -> Result<(), CallError> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.call(Method::DELETE, url, |request| request).await.map(drop)
    }

    /// Sends JSON and reads text.
    pub(crate) async fn post(&self, path: &[&str], body: &Value) -> Result<String, CallError> {
        let answer = self.call(Method::POST, self.url(path), |request| request.json(body)).await?;
        String::from_utf8(answer.body).map_err(|_| self.garbled("the answer is not text"))
    }

    /// Sends JSON and reads JSON; returns the change too.
    pub(crate) async fn post_change(&self, path: &[&str], body: &Value) -> Result<(Value, Option<Written>), CallError> {
        let answer = self.call(Method::POST, self.url(path), |request| request.json(body)).await?;
        Ok((self.json(&answer.body)?, answer.written))
    }

    fn json(&self, body: &[u8]) -> Result<Value, CallError> {
        serde_json::from_slice(body).map_err(|error| self.garbled(format!("the answer is not JSON: {error}")))
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_fragment(None);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    async fn call(
        &self,
        method: Method,
        url: Url,
        fill: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, CallError> {
        let start = Instant::now();
        let description = format!("{method} {url}");
        let note = self.note.as_ref().filter(|_| method != Method::GET);
        let note = note.and_then(|note| HeaderValue::from_bytes(note.as_bytes()).ok());
        let answer = async {
            let mut request = fill(self.http.request(method, url));
            if let Some(note) = note {
                request = request.header(NOTE, note);
            }
            let response = request.send().await?;
            let status = response.status();
            let warnings = response.headers().get_all(WARNING).iter().filter_map(warning_text).collect::<Vec<String>>();
            let written = Written::read(response.headers());
            let body = response.bytes().await?;
            warnings.iter().for_each(|warning| eprintln!("Warning: {warning}"));
            reqwest::Result::Ok((status, body, written))
        };
        let answer = answer.await;
        if self.log {
            let outcome = answer.as_ref().map_or_else(root_cause, |(status, ..)| status.to_string());
            eprintln!("{description}: {outcome} ({} ms)", start.elapsed().as_millis());
        }
        match answer {
            Ok((status, body, written)) if status.is_success() => Ok(Answer { body: body.into(), written }),
            Ok((status, body, _)) => Err(CallError::Refused(Refusal::read(status, &body))),
            Err(error) => {
                let (address, reason) = (self.address.clone(), self.reason(&error));
                let hint = self.hint(&reason);
                Err(CallError::Unreachable { address, reason, hint })
            }
        }
    }

    /// What the user can do about a server that does not answer.
    fn hint(&self, reason: &str) -> String {
        match &self.certificate {
            Some(certificate) if reason.contains("received fatal alert") => format!(
                "the admin server does not know this client: put {certificate} as a file *.pem into the folder that \
                 KUMA_ADMIN_SERVER_PUBLIC_CLIENT_CERTS_DIR of kuma-cp names"
            ),
            Some(_) if reason.contains("invalid peer certificate") => {
                "the server is not the one whose certificate was given with --admin-server-cert".to_owned()
            }
            _ => "is kuma-cp running there? `kumactl config control-planes list` shows which one is active".to_owned(),
        }
    }

    fn reason(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() { format!("no answer within {} s", self.timeout.as_secs()) } else { root_cause(error) }
    }

    /// The answer is not valid in this API.
    pub(crate) fn garbled(&self, reason: impl Into<String>) -> CallError {
        CallError::Garbled { address: self.address.clone(), reason: reason.into() }
    }
}

/// A builder of clients for requests to `url`. Addresses on this machine are not reached through an HTTP proxy, and the
/// system's CA certificates are only read for TLS: a container may have none.
pub(crate) fn http_client(url: &Url) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder().user_agent(concat!("kumactl/", env!("CARGO_PKG_VERSION")));
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).to_canonical().is_loopback(),
        None => false,
    };
    let builder = if local { builder.no_proxy() } else { builder };
    if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder }
}

/// The text of a `Warning` header: `299 kuma-cp "…"` (RFC 7234, 5.5).
fn warning_text(value: &HeaderValue) -> Option<String> {
    let value = String::from_utf8_lossy(value.as_bytes());
    let quoted = value.strip_prefix("299 ")?.split_once(" \"")?.1.strip_suffix('"')?;
    let mut text = String::with_capacity(quoted.len());
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        text.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    Some(text.chars().filter(|letter| !letter.is_control()).collect())
}

/// The innermost cause, which is the most specific.
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

impl Refusal {
    /// Whether the API answers that the resource does not exist. The answer to an unknown path is a different one.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && self.body.is_ok()
    }

    /// Whether the request conflicts with the stored documents.
    pub(crate) fn is_conflict(&self) -> bool {
        self.status == StatusCode::CONFLICT && self.body.is_ok()
    }

    /// The present plan of a refused rollback.
    pub(crate) fn plan(&self) -> Option<&Value> {
        self.body.as_ref().ok()?.plan.as_deref()
    }

    /// Whether the request is too large.
    pub(crate) fn is_too_large(&self) -> bool {
        self.status == StatusCode::PAYLOAD_TOO_LARGE
    }

    /// Replaces field and message of each cause.
    pub(crate) fn map_causes(mut self, map: impl Fn(String, String) -> (String, String)) -> Refusal {
        if let Ok(body) = &mut self.body {
            for cause in &mut body.causes {
                let ErrorCause { field, message } = std::mem::take(cause);
                let (field, message) = map(field, message);
                *cause = ErrorCause { field, message };
            }
        }
        self
    }

    fn read(status: StatusCode, body: &[u8]) -> Refusal {
        /// Largest number of characters shown of a body that is not the API's.
        const SHOWN: usize = 1000;
        let body = serde_json::from_slice(body)
            .map_err(|_| String::from_utf8_lossy(body).trim().chars().take(SHOWN).collect());
        Refusal { status, body }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        match error {
            CallError::Unreachable { address, reason, hint } => {
                Failure::new(format!("could not connect to the Control Plane at {address}: {reason}")).hint(hint)
            }
            CallError::Garbled { address, reason } => {
                Failure::new(format!("the server at {address} does not answer like a Control Plane: {reason}"))
            }
            CallError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(Refusal { status, body }: Refusal) -> Failure {
        let failure = match body {
            Ok(ErrorBody { title, details, causes, .. }) => {
                let message = if details.is_empty() { title } else { format!("{title} ({details})") };
                causes
                    .into_iter()
                    .fold(Failure::new(message), |failure, cause| failure.cause(cause.field, cause.message))
            }
            Err(text) => {
                let text = if text.is_empty() {
                    status.canonical_reason().unwrap_or("no explanation").to_owned()
                } else {
                    text
                };
                Failure::new(format!("({}): {text}", status.as_u16()))
            }
        };
        match status {
            StatusCode::METHOD_NOT_ALLOWED => {
                failure.hint("this Control Plane is read-only; on Kubernetes, resources are changed with kubectl")
            }
            _ => failure,
        }
    }
}
