//! The detailed description of one dataplane, for troubleshooting.

use std::fmt::Write as _;

use jiff::Timestamp;
use kuma_model::{Counters, DataplaneInsight, SubscriptionStatus, UNENCRYPTED, UnsettledResource};
use serde_json::Value;

use super::{dataplane_cells, insight, status};
use crate::age::ago;
use crate::table::{one_line, table};

const COLUMNS: [&str; 7] = ["TYPE", "SENT", "ACCEPTED", "REFUSED", "LAST ACCEPTED AGO", "LAST REFUSED AGO", "NOW"];

/// The description of a dataplane and of its newest connection, if it has had any.
pub(super) fn text(overview: &Value, now: Timestamp) -> String {
    let insight = insight(overview);
    let mut text = String::new();
    let mut line = |title: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:15}{}", format!("{title}:"), one_line(value));
    };
    for (title, value) in ["Mesh", "Name", "Tags"].into_iter().zip(dataplane_cells(overview)) {
        line(title, &value);
    }
    let age = |time: Option<kuma_model::Timestamp>| ago(now, time.map(Timestamp::from));
    let Some(latest) = insight.latest() else {
        line("Status", "Offline, has never connected");
        if let Some(departure) = &insight.departure {
            line("Left", &format!("{} ago: {}", age(departure.time), departure.reason));
        }
        return text;
    };
    let since = if insight.is_online() { latest.connect_time } else { latest.disconnect_time };
    line("Status", &format!("{} for {}", status(&insight), age(since)));
    if let Some(departure) = &insight.departure {
        line("Left", &format!("{} ago: {}", age(departure.time), departure.reason));
    }
    let config = config(&latest.status);
    match latest.status.accepted_time {
        Some(time) => line("Config", &format!("{config}, last accepted as a whole {} ago", age(Some(time)))),
        None => line("Config", config),
    }
    match latest.key_exchange.as_str() {
        "" => {}
        UNENCRYPTED => line("Key exchange", "none: its connection to the control plane is not encrypted"),
        group if group.contains("MLKEM") => {
            line("Key exchange", &format!("{group} (post-quantum) with the control plane"));
        }
        group => line("Key exchange", &format!("{group} with the control plane")),
    }
    for warning in &latest.status.warnings {
        line("Warning", warning);
    }
    for UnsettledResource { resource_type, name, message, .. } in &latest.status.refused {
        line("Refuses", &format!("{} {name}: {message}", short(resource_type)));
    }
    for UnsettledResource { resource_type, name, .. } in &latest.status.unanswered {
        line("Waits for", &format!("{} {name}, which does not exist", short(resource_type)));
    }
    if let Some(rejection) = insight.last_rejection() {
        let what = short(&rejection.resource_type);
        line("Last refused", &format!("{what}, {} ago: {}", age(rejection.time), rejection.message));
    }
    text.push('\n');
    let rows = types(&latest.status).map(|(name, counters)| {
        vec![
            name.to_owned(),
            counters.responses_sent.to_string(),
            counters.responses_acknowledged.to_string(),
            counters.responses_rejected.to_string(),
            age(counters.last_acknowledged_time),
            age(counters.last_rejected_time),
            state(counters).to_owned(),
        ]
    });
    text.push_str(&table(&COLUMNS, &rows.collect::<Vec<_>>()));
    text
}

/// Summarises whether a proxy has accepted what it was sent over a connection.
pub(super) fn config(status: &SubscriptionStatus) -> &'static str {
    let states: Vec<&str> = types(status).map(|(_, counters)| state(counters)).collect();
    let any = |wanted: &str| states.contains(&wanted);
    match () {
        () if any(REFUSED) || !status.refused.is_empty() => REFUSED,
        () if any(PENDING) => PENDING,
        // A proxy that reconnects and already holds everything is sent nothing.
        () if any(ACCEPTED) || status.accepted_time.is_some() => ACCEPTED,
        () => NONE,
    }
}

/// The most important problem of a proxy.
pub(super) fn reason(insight: &DataplaneInsight, status: &SubscriptionStatus) -> String {
    let refused = match status.refused.first() {
        Some(refused) => Some(format!("{}: {}", short(&refused.resource_type), refused.message)),
        None => {
            let last = insight.last_rejection();
            last.map(|rejection| format!("{}: {}", short(&rejection.resource_type), rejection.message))
        }
    };
    let left = insight.departure.as_ref().map(|departure| departure.reason.clone());
    left.or_else(|| status.warnings.first().cloned()).or(refused).unwrap_or_else(|| "-".to_owned())
}

const ACCEPTED: &str = "accepted";
const REFUSED: &str = "refused";
const PENDING: &str = "pending";
const NONE: &str = "none";

/// Whether the last response of a type was accepted.
fn state(counters: &Counters) -> &'static str {
    let answered = counters.responses_acknowledged.saturating_add(counters.responses_rejected);
    match counters {
        Counters { responses_sent: 0, .. } => NONE,
        Counters { responses_sent, .. } if *responses_sent > answered => PENDING,
        Counters { last_rejected_time, last_acknowledged_time, .. } if last_rejected_time > last_acknowledged_time => {
            REFUSED
        }
        _ => ACCEPTED,
    }
}

fn types(status: &SubscriptionStatus) -> impl Iterator<Item = (&'static str, &Counters)> {
    [
        ("Cluster", &status.cds),
        ("ClusterLoadAssignment", &status.eds),
        ("Secret", &status.sds),
        ("Listener", &status.lds),
        ("TypedExtensionConfig", &status.ecds),
        ("RouteConfiguration", &status.rds),
    ]
    .into_iter()
}

/// `Listener` of `type.googleapis.com/envoy.config.listener.v3.Listener`.
fn short(type_url: &str) -> &str {
    type_url.rsplit('.').next().unwrap_or(type_url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(insight: Value) -> String {
        let now: Timestamp = "2020-01-26T12:00:00Z".parse().expect("a time");
        let overview = json!({
            "type": "DataplaneOverview", "mesh": "default", "name": "web-1",
            "dataplane": {"networking": {"inbound": [{"interface": "127.0.0.1:80:8080", "tags": {"service": "web"}}]}},
            "dataplaneInsight": insight,
        });
        text(&overview, now)
    }

    #[test]
    fn the_key_exchange() {
        let line = |key_exchange: &str| {
            let stream = json!({"connectTime": "2020-01-26T11:00:00Z", "keyExchange": key_exchange});
            let text = shown(json!({"subscriptions": [stream]}));
            text.lines().find(|line| line.starts_with("Key exchange:")).map(str::to_owned)
        };
        let expected = "Key exchange:  X25519MLKEM768 (post-quantum) with the control plane";
        assert_eq!(line("X25519MLKEM768").as_deref(), Some(expected));
        assert_eq!(line("X25519").as_deref(), Some("Key exchange:  X25519 with the control plane"));
        let expected = "Key exchange:  none: its connection to the control plane is not encrypted";
        assert_eq!(line("none").as_deref(), Some(expected));
        assert_eq!(line(""), None, "an older control plane has not noted it");
    }

    #[test]
    fn one_that_has_refused_something() {
        insta::assert_snapshot!(shown(json!({"subscriptions": [
            {"id": "1", "keyExchange": "X25519MLKEM768", "connectTime": "2020-01-26T11:00:00Z", "status": {
                "acceptedTime": "2020-01-26T11:00:01Z",
                "total": {"responsesSent": "6", "responsesAcknowledged": "4", "responsesRejected": "1"},
                "cds": {"responsesSent": "2", "responsesAcknowledged": "2",
                    "lastAcknowledgedTime": "2020-01-26T11:59:00Z"},
                "eds": {"responsesSent": "2", "responsesAcknowledged": "1",
                    "lastAcknowledgedTime": "2020-01-26T11:58:00Z"},
                "lds": {"responsesSent": "2", "responsesAcknowledged": "1", "responsesRejected": "1",
                    "lastAcknowledgedTime": "2020-01-26T11:00:01Z", "lastRejectedTime": "2020-01-26T11:57:37Z"},
                "lastRejection": {"type": "type.googleapis.com/envoy.config.listener.v3.Listener",
                    "time": "2020-01-26T11:57:37Z",
                    "message": "cannot bind '127.0.0.1:80': Address already in use\u{1b}[31m"},
                "warnings": ["the proxy offers no metrics"]}},
        ]})));
    }

    #[test]
    fn one_that_has_left() {
        insta::assert_snapshot!(shown(json!({
            "departure": {"time": "2020-01-26T11:59:58Z", "reason": "its Envoy has ended: it was killed by signal 9"},
            "subscriptions": [{"id": "1", "connectTime": "2020-01-26T11:00:00Z",
                "disconnectTime": "2020-01-26T11:59:57Z",
                "status": {"lds": {"responsesSent": "1", "responsesAcknowledged": "1",
                    "lastAcknowledgedTime": "2020-01-26T11:00:01Z"}}}],
        })));
    }

    #[test]
    fn one_that_has_come_back_and_was_sent_nothing() {
        insta::assert_snapshot!(shown(json!({"subscriptions": [
            {"id": "1", "connectTime": "2020-01-26T10:00:00Z", "disconnectTime": "2020-01-26T11:00:00Z",
                "status": {"lastRejection":
                {"type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "time": "2020-01-26T10:30:00Z",
                    "message": "no"}}},
            {"id": "2", "connectTime": "2020-01-26T11:00:02Z", "status": {"acceptedTime": "2020-01-26T11:00:03Z"}},
        ]})));
    }

    #[test]
    fn one_that_has_never_connected() {
        insta::assert_snapshot!(shown(json!({"subscriptions": []})));
    }
}
