//! One change, and the times at which it reached the clients.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::fleet::Fleet;
use crate::names::Id;
use crate::report::{distribution, rounded, rounded_or_null};

/// How long a change may take to reach the last client that it concerns.
const LIMIT: Duration = Duration::from_secs(30);

/// How long to watch for clients that get the change although it does not concern them.
const AFTERWARDS: Duration = Duration::from_millis(20);

/// A change, and the marker by which it is detected.
pub(crate) struct Expected<'a> {
    /// Bytes that no resource contains yet.
    pub(crate) marker: &'a str,
    /// If set, the change is that the resource of this name arrives without the marker.
    pub(crate) gone_from: Option<Id>,
    /// The clients that the change concerns.
    pub(crate) concerned: &'a BTreeSet<u32>,
}

/// When a change reached the clients.
pub(crate) struct Arrivals {
    /// Time until the response to the write.
    pub(crate) write_took: Duration,
    /// For each client, the time from just before the request until its ACK was sent.
    pub(crate) since_asked: Vec<Duration>,
    /// The same, of the clients alone that are connected to another control plane than the one that was written to.
    pub(crate) elsewhere: Vec<Duration>,
    /// For each client, the time from the response to the write; 0 if the ACK came first.
    pub(crate) since_answered: Vec<Duration>,
    /// Number of clients that the change concerns.
    pub(crate) concerned: usize,
    /// How many of these did not get it.
    pub(crate) missing: usize,
    /// Number of clients that got it although it does not concern them.
    pub(crate) wrong: usize,
}

/// Makes a change and waits until it has reached all clients that it concerns.
pub(crate) async fn measure(
    fleet: &Fleet,
    expected: Expected<'_>,
    write: impl Future<Output = anyhow::Result<Duration>>,
) -> anyhow::Result<Arrivals> {
    let Expected { marker, gone_from, concerned } = expected;
    fleet.markers.watch(marker, gone_from, concerned);
    let asked = Instant::now();
    let write_took = write.await?;
    let answered = Instant::now();
    fleet.markers.seen_by_all(marker, answered + LIMIT).await;
    tokio::time::sleep(AFTERWARDS).await;
    let seen = fleet.markers.take(marker);
    let elsewhere = seen.iter().filter(|(client, _)| fleet.is_elsewhere(**client));
    Ok(Arrivals {
        write_took,
        since_asked: seen.values().map(|at| at.duration_since(asked)).collect(),
        elsewhere: elsewhere.map(|(_, at)| at.duration_since(asked)).collect(),
        since_answered: seen.values().map(|at| at.saturating_duration_since(answered)).collect(),
        concerned: concerned.len(),
        missing: concerned.iter().filter(|client| !seen.contains_key(client)).count(),
        wrong: seen.keys().filter(|client| !concerned.contains(client)).count(),
    })
}

/// The times of several changes of a kind, in the fields of a report.
pub(crate) fn summary(changes: &[Arrivals]) -> Map<String, Value> {
    let times = |of: fn(&Arrivals) -> &Vec<Duration>| {
        let all: Vec<Duration> = changes.iter().flat_map(|change| of(change).iter().copied()).collect();
        let last: Vec<Duration> = changes.iter().filter_map(|change| of(change).iter().max().copied()).collect();
        let mut times = distribution(&all);
        times["last"] = distribution(&last)["p50"].clone();
        times
    };
    let writes: Vec<Duration> = changes.iter().map(|change| change.write_took).collect();
    let concerned = changes.iter().map(|change| change.concerned).sum::<usize>();
    let fields = json!({
        "changes": changes.len(),
        "concerned_per_change": rounded_or_null(concerned as f64 / changes.len() as f64),
        "ms_from_request": times(|change| &change.since_asked),
        "ms_from_request_on_other_control_planes": times(|change| &change.elsewhere),
        "ms_from_answer": times(|change| &change.since_answered),
        "ms_api_answer": distribution(&writes),
        "missing": changes.iter().map(|change| change.missing).sum::<usize>(),
        "wrong": changes.iter().map(|change| change.wrong).sum::<usize>(),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The 99th percentile of the times since the request, in milliseconds; infinite if a change did not reach all clients.
pub(crate) fn p99(changes: &[Arrivals]) -> f64 {
    if changes.iter().any(|change| change.missing > 0) {
        return f64::INFINITY;
    }
    summary(changes)["ms_from_request"]["p99"].as_f64().unwrap_or(f64::INFINITY)
}

/// Costs per change, rounded.
pub(crate) fn per_change(total: f64, changes: &[Arrivals]) -> Value {
    rounded(total / changes.len().max(1) as f64)
}
