//! One insight out of what several control planes have reported of a proxy.

use std::sync::Arc;

use kuma_model::text::parse_json;
use serde_json::{Value, json};

use crate::{InsightRow, Stored};

/// How many streams of a proxy are shown.
const SUBSCRIPTIONS: usize = 10;

/// Joins rows of the same proxy, which follow each other. A process that is not alive has no stream: those that are
/// open in its rows ended when it wrote them last, or later.
pub(crate) fn merge(mut rows: Vec<InsightRow>, is_alive: impl Fn(&str) -> bool) -> Vec<Arc<Stored>> {
    for row in rows.iter_mut().filter(|row| !is_alive(&row.instance)) {
        close(row);
    }
    let same_proxy = |a: &InsightRow, b: &InsightRow| a.key == b.key;
    rows.chunk_by(same_proxy).map(|rows| Arc::new(merge_one(rows))).collect()
}

fn close(row: &mut InsightRow) {
    let Ok(mut spec) = parse_json(row.spec.as_bytes()) else { return };
    let subscriptions = spec.get_mut("subscriptions").and_then(Value::as_array_mut).into_iter().flatten();
    let open: Vec<_> = subscriptions.filter(|one| one.get("disconnectTime").is_none()).collect();
    if open.is_empty() {
        return;
    }
    for one in open {
        one["disconnectTime"] = row.modified.to_string().into();
    }
    row.spec = spec.to_string().into();
}

fn merge_one(rows: &[InsightRow]) -> Stored {
    // `chunk_by` gives no empty slice.
    let mut latest = &rows[0];
    let mut subscriptions = Vec::new();
    for row in rows {
        if row.modified > latest.modified {
            latest = row;
        }
        if rows.len() > 1 {
            let mut spec: Value = parse_json(row.spec.as_bytes()).unwrap_or_default();
            if let Some(Value::Array(own)) = spec.get_mut("subscriptions").map(Value::take) {
                subscriptions.extend(own);
            }
        }
    }
    let text = match rows {
        [row] => row.spec.clone(),
        _ => {
            // Whether the proxy has left is known best by who has heard of it last.
            let mut spec: Value = parse_json(latest.spec.as_bytes()).unwrap_or_else(|_| json!({}));
            subscriptions.sort_by_cached_key(|one| one["connectTime"].as_str().unwrap_or_default().to_owned());
            let older = subscriptions.len().saturating_sub(SUBSCRIPTIONS);
            spec["subscriptions"] = subscriptions.split_off(older).into();
            spec.to_string().into()
        }
    };
    Stored::restored(latest.key.clone(), text, 1, latest.modified, latest.modified)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kuma_model::{DataplaneInsight, Key, Resource as _};

    use super::*;

    fn row(name: &str, instance: &str, second: i64, subscriptions: &[&str]) -> InsightRow {
        let subscriptions: Vec<_> =
            subscriptions.iter().map(|time| json!({"id": format!("{instance} {time}"), "connectTime": time})).collect();
        InsightRow {
            key: Key::new(DataplaneInsight::KIND, "default", name),
            instance: instance.into(),
            modified: Timestamp::from_second(second).expect("a time"),
            spec: json!({"subscriptions": subscriptions, "departure": {"reason": instance}}).to_string().into(),
        }
    }

    #[test]
    fn rows_of_a_proxy_are_joined_in_the_order_of_their_streams() {
        let rows = vec![row("db", "a", 5, &["1"]), row("web", "a", 5, &["1", "4"]), row("web", "b", 6, &["2", "3"])];
        let merged = merge(rows.clone(), |_| true);
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[0].spec_text(), &*rows[0].spec);
        let spec = merged[1].spec();
        let ids: Vec<_> = spec["subscriptions"].as_array().expect("a list").iter().map(|one| &one["id"]).collect();
        assert_eq!(ids, ["a 1", "b 2", "b 3", "a 4"]);
        assert_eq!(spec["departure"]["reason"], "b");
    }

    #[test]
    fn streams_of_a_process_that_is_gone_have_ended() {
        let rows = || vec![row("db", "a", 5, &["1"]), row("web", "a", 5, &["1"]), row("web", "b", 6, &["2"])];
        let merged = merge(rows(), |instance| instance == "b");
        let ends: Vec<_> = merged[1].spec()["subscriptions"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one.get("disconnectTime").cloned())
            .collect();
        assert_eq!(ends, [Some(json!("1970-01-01T00:00:05Z")), None]);
        assert_eq!(merged[0].spec()["subscriptions"][0]["disconnectTime"], "1970-01-01T00:00:05Z");
        assert!(!merge(rows(), |_| true)[1].spec_text().contains("disconnectTime"));
    }

    #[test]
    fn the_latest_ten_streams_are_kept() {
        let times: Vec<_> = (10..30).map(|n| n.to_string()).collect();
        let (even, odd): (Vec<&str>, Vec<&str>) =
            (times.iter().step_by(2).map(|s| &**s).collect(), times.iter().skip(1).step_by(2).map(|s| &**s).collect());
        let spec = merge(vec![row("web", "a", 1, &even), row("web", "b", 2, &odd)], |_| true)[0].spec();
        let kept: Vec<_> =
            spec["subscriptions"].as_array().expect("a list").iter().map(|one| &one["connectTime"]).collect();
        assert_eq!(kept, times[10..].iter().collect::<Vec<_>>());
    }
}
