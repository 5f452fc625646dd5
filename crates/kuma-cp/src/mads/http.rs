//! v1 over HTTP: long polls of Prometheus' own service discovery (`kuma_sd_configs`).

use std::time::Duration;

use ::http::{Method, Request, StatusCode};
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use kuma_mads::v1;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::Mads;
use super::grpc::until;
use crate::http::error::cause;
use crate::http::{ApiError, body, json};

/// Largest request, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// How long a poll waits for a change by default.
const WAIT: Duration = Duration::from_secs(30);

/// The longest wait of a poll. The client polls again, so it misses nothing, and a client that has vanished is
/// detected.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);

const TITLE: &str = "Could not process the discovery request";

impl Mads {
    /// Answers a poll: at once if the client has another version, otherwise when the list changes, or with 304 after
    /// the time of the poll.
    pub(super) async fn poll(&self, request: Request<Body>) -> Result<Response, ApiError> {
        let (parts, sent) = request.into_parts();
        if parts.method != Method::POST {
            return Err(ApiError::method_not_allowed("POST"));
        }
        let wait = fetch_timeout(parts.uri.query().unwrap_or_default())?;
        let sent = body::read(&parts.headers, sent, MAX_BODY).await.map_err(|error| error.into_api_error(TITLE))?;
        let asked = Asked::parse(&sent)?;
        tracing::debug!(client = asked.client, version = asked.version, "a monitoring client polls");
        let held = Some(asked.version.as_str()).filter(|version| !version.is_empty());
        // The first poll has no version. A version from this process comes with its nonce.
        let mut foreign = held.is_some() && asked.nonce != self.life;
        let end = Instant::now() + wait;
        let mut latest = self.list.clone();
        loop {
            let list = latest.borrow_and_update().clone();
            let now = Instant::now();
            let due = list.due(held, &mut foreign, now);
            if due.is_some_and(|due| due <= now) {
                let nonce = self.life.clone();
                return self.outgoing.respond(TITLE, move || list.v1(&nonce)).await;
            }
            tokio::select! {
                changed = latest.changed() => if changed.is_err() { break },
                () = until(due) => {}
                () = tokio::time::sleep_until(end) => break,
                () = self.stop.cancelled() => break,
            }
        }
        Ok(StatusCode::NOT_MODIFIED.into_response())
    }
}

/// How long to wait: `fetch-timeout` in Go's syntax, such as `2m` or `1m30s`. Zero or less means not to wait.
fn fetch_timeout(query: &str) -> Result<Duration, ApiError> {
    let value = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "fetch-timeout");
    let Some((_, text)) = value else { return Ok(WAIT) };
    match go_duration::nanoseconds(&text) {
        Ok(nanos) => Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or_default()).min(LONGEST_WAIT)),
        Err(error) => Err(ApiError::invalid(TITLE, vec![cause("fetch-timeout", error.to_string())])),
    }
}

/// The request of a client. Field names are those of Envoy's DiscoveryRequest, in either spelling of protobuf's JSON.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    client: String,
    version: String,
    nonce: String,
}

impl Asked {
    fn parse(body: &[u8]) -> Result<Asked, ApiError> {
        let fields = json::object(body).map_err(|error| ApiError::unreadable(TITLE, &error))?;
        let mut causes = Vec::new();
        let mut text = |fields: &Map<String, Value>, shown: &str, names: [&str; 2]| match names
            .iter()
            .find_map(|name| fields.get(*name))
        {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(_) => {
                causes.push(cause(shown, "must be a text"));
                String::new()
            }
        };
        let version = text(&fields, "version_info", ["version_info", "versionInfo"]);
        let nonce = text(&fields, "response_nonce", ["response_nonce", "responseNonce"]);
        let type_url = text(&fields, "type_url", ["type_url", "typeUrl"]);
        let node = fields.get("node").and_then(Value::as_object);
        let client = node.map(|node| text(node, "node.id", ["id", "id"])).unwrap_or_default();
        if !matches!(type_url.as_str(), "" | v1::TYPE_URL) {
            causes.push(cause("type_url", format!("must be {}", v1::TYPE_URL)));
        }
        if causes.is_empty() { Ok(Asked { client, version, nonce }) } else { Err(ApiError::invalid(TITLE, causes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_written_as_in_go() {
        for (query, seconds) in [
            ("", 30),
            ("other=1s", 30),
            ("fetch-timeout=2m", 120),
            ("fetch-timeout=1m30s", 90),
            ("fetch-timeout=0", 0),
            ("fetch-timeout=0s", 0),
            ("fetch-timeout=-5s", 0),
            ("fetch-timeout=87600h", 600),
        ] {
            assert_eq!(fetch_timeout(query).expect(query).as_secs(), seconds, "{query}");
        }
        for query in ["fetch-timeout=", "fetch-timeout=soon", "fetch-timeout=-", "fetch-timeout=5"] {
            assert_eq!(fetch_timeout(query).expect_err(query).status, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn requests_are_read_in_both_spellings() {
        let asked = Asked { client: "prometheus".into(), version: "7".into(), nonce: "n".into() };
        for body in [
            concat!(
                r#"{"version_info":"7","node":{"id":"prometheus"},"#,
                r#""type_url":"type.googleapis.com/kuma.observability.v1.MonitoringAssignment","#,
                r#""response_nonce":"n"}"#,
            ),
            r#"{"versionInfo":"7","node":{"id":"prometheus","locality":{}},"responseNonce":"n","unknown":[1]}"#,
        ] {
            assert_eq!(Asked::parse(body.as_bytes()).expect(body), asked);
        }
        let empty = Asked { client: String::new(), version: String::new(), nonce: String::new() };
        assert_eq!(Asked::parse(b"{}").expect("the first poll"), empty);
        for body in ["", "[]", r#"{"type_url":"x"}"#, r#"{"version_info":7}"#, r#"{"node":{"id":1}}"#] {
            assert_eq!(Asked::parse(body.as_bytes()).expect_err(body).status, StatusCode::BAD_REQUEST);
        }
    }
}
