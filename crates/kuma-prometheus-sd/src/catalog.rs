//! Requests the address of the monitoring assignment server from the control plane's HTTP API.

use std::time::Duration;

use http::StatusCode;
use kuma_wire::catalog::Catalog;
use url::Url;

/// How long the request may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Largest response that is accepted; a catalog has some hundred bytes.
const MAX_BODY: usize = 1024 * 1024;

/// Why the address could not be found.
#[derive(Debug, thiserror::Error)]
#[error("unable to retrieve Catalog of Kuma APIs from {url}")]
pub(crate) struct Failure {
    url: Url,
    source: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("there is no answer")]
    NoAnswer(#[source] reqwest::Error),
    #[error("unexpected status code: {}", .0.as_u16())]
    Status(StatusCode),
    #[error("the answer is not one of a control plane: {0}")]
    Nonsense(String),
    #[error("unsupported scheme {0:?} of the monitoring assignment server. Use one of [grpc grpcs]")]
    Scheme(String),
}

impl Failure {
    /// Whether the same request may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        match &self.source {
            Reason::NoAnswer(_) => true,
            Reason::Status(status) => {
                status.is_server_error()
                    || matches!(*status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            }
            Reason::Nonsense(_) | Reason::Scheme(_) => false,
        }
    }
}

/// The base URL of the monitoring assignment server, with the scheme `http` for `grpc` and `https` for `grpcs`.
pub(crate) async fn monitoring_assignment_server(cp_address: &Url) -> Result<Url, Failure> {
    let mut url = cp_address.clone();
    url.set_path(&format!("{}/catalog", cp_address.path().trim_end_matches('/')));
    url.set_query(None);
    url.set_fragment(None);
    ask(&url).await.map_err(|source| {
        // The password must not be shown. This fails only for URLs without a host, which have no password either.
        let _ = url.set_password(None);
        let _ = url.set_username("");
        Failure { url, source }
    })
}

async fn ask(url: &Url) -> Result<Url, Reason> {
    // The URL may hold a password. It is shown elsewhere, without it.
    let no_answer = |error: reqwest::Error| Reason::NoAnswer(error.without_url());
    let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().map_err(no_answer)?;
    let mut answer = http.get(url.clone()).send().await.map_err(no_answer)?;
    if answer.status() != StatusCode::OK {
        return Err(Reason::Status(answer.status()));
    }
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(no_answer)? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_BODY {
            return Err(Reason::Nonsense(format!("it has more than {MAX_BODY} bytes")));
        }
    }
    address(&body)
}

fn address(body: &[u8]) -> Result<Url, Reason> {
    let catalog: Catalog = serde_json::from_slice(body).map_err(|error| Reason::Nonsense(error.to_string()))?;
    let text = catalog.apis.monitoring_assignment.url;
    let nonsense = || Reason::Nonsense(format!("{text:?} as the URL of the monitoring assignment server"));
    let (scheme, rest) = text.split_once("://").ok_or_else(nonsense)?;
    let scheme = match scheme {
        "grpc" => "http",
        "grpcs" => "https",
        other => return Err(Reason::Scheme(other.to_owned())),
    };
    Url::parse(&format!("{scheme}://{rest}")).map_err(|_| nonsense())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(url: &str) -> Result<String, String> {
        let body = format!(r#"{{"apis":{{"bootstrap":{{"url":"x"}},"monitoringAssignment":{{"url":"{url}"}}}}}}"#);
        address(body.as_bytes()).map(String::from).map_err(|error| error.to_string())
    }

    #[test]
    fn schemes_are_those_of_grpc() {
        assert_eq!(catalog("grpc://localhost:5676").as_deref(), Ok("http://localhost:5676/"));
        assert_eq!(catalog("grpcs://[::1]:5676").as_deref(), Ok("https://[::1]:5676/"));
        let error = catalog("http://localhost:5676").expect_err("no gRPC");
        assert_eq!(error, "unsupported scheme \"http\" of the monitoring assignment server. Use one of [grpc grpcs]");
        for url in ["", "localhost:5676", "grpc://"] {
            assert!(catalog(url).expect_err(url).contains("as the URL of the monitoring assignment server"), "{url}");
        }
        assert!(address(b"<html>").is_err() && address(b"{}").is_err());
    }
}
