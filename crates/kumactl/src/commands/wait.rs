//! `--wait`: waits until a change has reached the proxies, by its receipt.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Outcome;
use crate::age::ago;
use crate::cli::Wait;
use crate::client::{CallError, Client, Written};
use crate::failure::Failure;

/// Exit code if the time ran out. The change stays stored.
const NOT_YET: u8 = 3;
/// Exit code when a proxy has refused the change.
const REFUSED: u8 = 4;

/// The longest wait of one request, a long poll.
const PER_REQUEST: Duration = Duration::from_secs(30);

/// The receipt of a change, as the control plane returns it.
#[derive(Debug, Deserialize)]
struct Receipt {
    revision: u64,
    state: String,
    proxies: Proxies,
    #[serde(default)]
    seconds: Seconds,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Proxies {
    concerned: u64,
    accepted: u64,
    refused: u64,
    superseded: u64,
    silent: u64,
    held: u64,
    away: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Seconds {
    p50: Option<f64>,
    last: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Exception {
    dataplane: String,
    state: String,
    #[serde(rename = "type")]
    resource_type: String,
    resource: String,
    message: String,
    since_revision: u64,
    since: Option<jiff::Timestamp>,
}

/// Waits for changes, and appends the state of each to `done`. There are several if documents were sent one by one.
pub(super) async fn wait(client: &Client, done: String, written: &[Written], wait: &Wait) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::from(done);
    let began = Instant::now();
    let mut last = None;
    for change in written {
        if last == Some(change.revision) {
            continue;
        }
        last = Some(change.revision);
        let receipt = receipt(client, change, wait, began).await?;
        let (text, code) = summary(&receipt, began.elapsed(), jiff::Timestamp::now());
        outcome.text.push_str(&text);
        outcome.code = outcome.code.max(code);
    }
    Ok(outcome)
}

async fn receipt(client: &Client, change: &Written, wait: &Wait, began: Instant) -> Result<Receipt, Failure> {
    let revision = change.revision.to_string();
    loop {
        let left = wait.limit.saturating_sub(began.elapsed());
        let query = [
            ("wait", format!("{}ms", left.min(PER_REQUEST).as_millis())),
            ("all", wait.all.to_string()),
            ("epoch", change.epoch.clone()),
        ];
        let answer = client.get(&["changes", &revision], &query).await;
        let answer = answer.map_err(|error| cannot_tell(error, &revision))?;
        let receipt: Receipt = serde_json::from_value(answer)
            .map_err(|error| Failure::from(client.garbled(format!("its receipt cannot be read: {error}"))))?;
        let is_final = match receipt.state.as_str() {
            "reached" => !wait.all,
            "spreading" => false,
            _ => true,
        };
        if is_final || left <= PER_REQUEST {
            return Ok(receipt);
        }
    }
}

fn cannot_tell(error: CallError, revision: &str) -> Failure {
    Failure::from(error).context(format!("revision {revision} is stored, but its receipt could not be read"))
}

/// The summary of a receipt, with a line for each proxy that has not accepted the change, and the exit code.
fn summary(receipt: &Receipt, waited: Duration, now: jiff::Timestamp) -> (String, u8) {
    let Proxies { concerned, accepted, refused, superseded, silent, held, away } = receipt.proxies;
    let done = accepted + superseded;
    let after = match receipt.seconds {
        Seconds { last: Some(last), p50: Some(half) } if done > 1 => {
            format!(" after {} (half after {})", seconds(last), seconds(half))
        }
        Seconds { last: Some(last), .. } => format!(" after {}", seconds(last)),
        Seconds { last: None, .. } => String::new(),
    };
    let proxies = |number: u64| if number == 1 { "proxy".to_owned() } else { "proxies".to_owned() };
    let (mut line, code) = match receipt.state.as_str() {
        "live" | "superseded" | "reached" if concerned == 0 => ("live: it concerns no connected proxy".to_owned(), 0),
        "live" => (format!("live on {done} of {concerned} {}{after}", proxies(concerned)), 0),
        "superseded" => {
            let by = format!("; on {superseded} of them a later change of the same documents");
            (format!("live on {done} of {concerned} {}{after}{by}", proxies(concerned)), 0)
        }
        "reached" => (format!("live on {done} of {concerned} {} that can be reached{after}", proxies(concerned)), 0),
        "refused" => (format!("refused by {refused} of {concerned} {}", proxies(concerned)), REFUSED),
        _ => {
            let code = if refused > 0 { REFUSED } else { NOT_YET };
            (
                format!(
                    "accepted by {done} of {concerned} {} after {}",
                    proxies(concerned),
                    seconds(waited.as_secs_f64())
                ),
                code,
            )
        }
    };
    if away > 0 {
        let (are, they) = if away == 1 { ("dataplane is", "it comes") } else { ("dataplanes are", "they come") };
        line.push_str(&format!("; {away} {are} away and will get it when {they}"));
    }
    let mut text = format!("revision {}: {line}\n", receipt.revision);
    for exception in &receipt.exceptions {
        text.push_str(&format!("  {}\n", kept(exception, now)));
    }
    let named = receipt.exceptions.len() as u64;
    let all = (concerned - done.min(concerned)).max(refused) + silent.min(named) + held;
    if all > named && named > 0 && code != 0 {
        text.push_str("  and others\n");
    }
    (text, code)
}

/// Why a proxy has not accepted a change.
fn kept(exception: &Exception, now: jiff::Timestamp) -> String {
    let Exception { dataplane, state, resource_type, resource, message, since_revision, since } = exception;
    let kind = resource_type.rsplit('.').next().unwrap_or_default();
    match state.as_str() {
        "refused" => format!("{dataplane}  refused {kind} {resource}: {message}"),
        "unanswered" => format!("{dataplane}  waits for {kind} {resource}, which does not exist"),
        "silent" => {
            let since = ago(now, *since);
            format!("{dataplane}  silent for {since}: may serve what it had (revision {since_revision})")
        }
        "held" => format!("{dataplane}  keeps what it has until its documents are written again"),
        _ => format!("{dataplane}  has not answered"),
    }
}

/// A time in a readable unit.
fn seconds(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 1.0 => format!("{:.0} ms", (seconds * 1000.0).max(1.0)),
        seconds if seconds < 10.0 => format!("{seconds:.1} s"),
        seconds => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(receipt: serde_json::Value, expected: &str, code: u8) {
        let receipt: Receipt = serde_json::from_value(receipt).expect("a receipt");
        let now = "2020-01-26T12:00:00Z".parse().expect("a time");
        assert_eq!(summary(&receipt, Duration::from_secs(10), now), (expected.to_owned(), code));
    }

    #[test]
    fn what_is_live() {
        check(
            json!({
                "revision": 413, "state": "live", "proxies": {"concerned": 37, "accepted": 37, "away": 2},
                "seconds": {"first": 0.004, "p50": 0.018, "p99": 0.061, "last": 0.083},
            }),
            "revision 413: live on 37 of 37 proxies after 83 ms (half after 18 ms); 2 dataplanes are away and will \
             get it when they come\n",
            0,
        );
        check(
            json!({"revision": 1, "state": "live", "proxies": {"concerned": 0}, "seconds": {"last": null}}),
            "revision 1: live: it concerns no connected proxy\n",
            0,
        );
        check(
            json!({
                "revision": 7, "state": "superseded", "proxies": {"concerned": 2, "accepted": 1, "superseded": 1,
                    "away": 1},
                "seconds": {"p50": 1.25, "last": 12.4},
            }),
            "revision 7: live on 2 of 2 proxies after 12 s (half after 1.2 s); on 1 of them a later change of the same \
             documents; 1 dataplane is away and will get it when it comes\n",
            0,
        );
    }

    #[test]
    fn what_is_not() {
        check(
            json!({
                "revision": 414, "state": "spreading", "proxies": {"concerned": 37, "accepted": 35, "refused": 1,
                    "waiting": 1},
                "exceptions": [
                    {"dataplane": "backend-7", "state": "refused", "resource": "inbound:10.0.0.7:80",
                        "message": "cannot bind",
                     "type": "type.googleapis.com/envoy.config.listener.v3.Listener", "sinceRevision": 414},
                    {"dataplane": "web-2", "state": "silent", "sinceRevision": 409, "since": "2020-01-26T11:59:56Z"},
                ],
            }),
            "revision 414: accepted by 35 of 37 proxies after 10 s\n  \
             backend-7  refused Listener inbound:10.0.0.7:80: cannot bind\n  \
             web-2  silent for 4s: may serve what it had (revision 409)\n",
            REFUSED,
        );
        check(
            json!({
                "revision": 9, "state": "spreading", "proxies": {"concerned": 2, "accepted": 0, "waiting": 2},
                "exceptions": [
                    {"dataplane": "web-1", "state": "waiting"},
                    {"dataplane": "web-2", "state": "unanswered", "resource": "s",
                     "type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"},
                ],
            }),
            "revision 9: accepted by 0 of 2 proxies after 10 s\n  web-1  has not answered\n  \
             web-2  waits for Secret s, which does not exist\n",
            NOT_YET,
        );
        check(
            json!({
                "revision": 9, "state": "reached", "proxies": {"concerned": 1, "accepted": 1, "silent": 1},
                "seconds": {"p50": 0.0001, "last": 0.0001},
                "exceptions": [{"dataplane": "old", "state": "held"}],
            }),
            "revision 9: live on 1 of 1 proxy that can be reached after 1 ms\n  \
             old  keeps what it has until its documents are written again\n",
            0,
        );
        check(
            json!({"revision": 9, "state": "refused", "proxies": {"concerned": 2, "accepted": 1, "refused": 1}}),
            "revision 9: refused by 1 of 2 proxies\n",
            REFUSED,
        );
    }
}
