//! Numbers for people and programs.

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
