//! One change, and when it reached whom.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::fleet::Fleet;
use crate::names::Id;
use crate::report::{distribution, rounded, rounded_or_null};

/// How long a change may take to reach the last whom it concerns.
const LIMIT: Duration = Duration::from_secs(30);

/// How long to watch on for those who see it and should not.
const AFTERWARDS: Duration = Duration::from_millis(20);

/// A change, and by what it is noticed.
pub(crate) struct Expected<'a> {
    /// Bytes that are nowhere yet.
    pub(crate) marker: &'a str,
    /// The change is that the resource of this name comes without the marker.
    pub(crate) gone_from: Option<Id>,
    /// The clients that are to see it.
    pub(crate) concerned: &'a BTreeSet<u32>,
}

/// When a change reached those who saw it.
pub(crate) struct Arrivals {
    /// How long the answer to the write took.
    pub(crate) write_took: Duration,
    /// From before the request was sent, until the ACK was.
    pub(crate) since_asked: Vec<Duration>,
    /// From the answer; 0 where it came after the effect.
    pub(crate) since_answered: Vec<Duration>,
    /// Clients that should have seen it.
    pub(crate) concerned: usize,
    /// Of these, those that did not.
    pub(crate) missing: usize,
    /// Clients that saw it and should not.
    pub(crate) wrong: usize,
}

/// Makes a change and waits until it has reached all whom it concerns.
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
    Ok(Arrivals {
        write_took,
        since_asked: seen.values().map(|at| at.duration_since(asked)).collect(),
        since_answered: seen.values().map(|at| at.saturating_duration_since(answered)).collect(),
        concerned: concerned.len(),
        missing: concerned.iter().filter(|client| !seen.contains_key(client)).count(),
        wrong: seen.keys().filter(|client| !concerned.contains(client)).count(),
    })
}

/// What several changes of a kind took, in the fields that every report has.
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

/// The 99th percentile of some changes, from before the request, in milliseconds; infinite if one was not seen by all.
pub(crate) fn p99(changes: &[Arrivals]) -> f64 {
    if changes.iter().any(|change| change.missing > 0) {
        return f64::INFINITY;
    }
    summary(changes)["ms_from_request"]["p99"].as_f64().unwrap_or(f64::INFINITY)
}

/// Costs shared among changes, rounded.
pub(crate) fn per_change(total: f64, changes: &[Arrivals]) -> Value {
    rounded(total / changes.len().max(1) as f64)
}
