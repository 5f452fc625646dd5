//! Numbers for people and programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

/// The distribution of some durations, in milliseconds.
pub(crate) fn distribution(durations: &[Duration]) -> Value {
    let mut sorted: Vec<f64> = durations.iter().map(|duration| duration.as_secs_f64() * 1e3).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| -> Value {
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).map_or(Value::Null, |&ms| rounded(ms))
    };
    json!({"count": sorted.len(), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0)})
}

/// With three digits behind the point.
pub(crate) fn rounded(number: f64) -> Value {
    json!((number * 1e3).round() / 1e3)
}

/// The same; null if it is no number, such as a mean of nothing.
pub(crate) fn rounded_or_null(number: f64) -> Value {
    if number.is_finite() { rounded(number) } else { Value::Null }
}

/// The figures of a report that most people look at, in one line.
pub(crate) fn for_people(report: &Value) -> String {
    let mut text = format!("{} of {} proxies:", report["scenario"].as_str().unwrap_or_default(), report["proxies"]);
    let times = &report["ms_from_request"];
    if times["count"].as_u64() > Some(0) {
        let _ =
            write!(text, " p50 {} p99 {} last {} max {} ms,", times["p50"], times["p99"], times["last"], times["max"]);
    }
    let _ = write!(
        text,
        " {} ms CPU per change, {} s CPU ({} % of a core), {} MB at the peak; the generator {} % busy{}",
        report["server_cpu_ms_per_change"],
        report["server_cpu_s"],
        report["server_percent_of_a_core"],
        report["peak_rss"].as_u64().unwrap_or_default() / 1_000_000,
        (report["generator_busy"].as_f64().unwrap_or_default() * 100.0).round(),
        if report["generator_limited"] == true { ": it may have been what limited this run" } else { "" },
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let durations: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        let expected = json!({"count": 100, "p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0});
        assert_eq!(distribution(&durations), expected);
        assert_eq!(distribution(&[])["p50"], Value::Null);
    }
}
