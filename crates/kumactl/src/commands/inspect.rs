//! `kumactl inspect`: resources together with what the control plane knows about them.

use jiff::Timestamp;
use kuma_model::{Dataplane, DataplaneInsight, Kind, decode_spec};
use serde_json::Value;

use super::watch::watch;
use super::{document, segment, show};
use crate::age::ago;
use crate::cli::{InspectDataplanes, Output};
use crate::failure::Failure;
use crate::session::Session;
use crate::table::table;

/// Header of the table of dataplanes.
const DATAPLANE_COLUMNS: [&str; 8] =
    ["MESH", "NAME", "TAGS", "STATUS", "LAST CONNECTED AGO", "LAST UPDATED AGO", "TOTAL UPDATES", "TOTAL ERRORS"];

/// Lists dataplanes with their connection to the control plane.
pub(super) async fn dataplanes(session: &Session, arguments: InspectDataplanes) -> Result<String, Failure> {
    let InspectDataplanes { tag, watch: go_on, output: Output { format } } = arguments;
    let tags: Vec<(&str, String)> = tag.into_iter().map(|(name, value)| ("tag", format!("{name}:{value}"))).collect();
    let path = ["meshes", segment(&session.mesh)?, "dataplanes+insights"];
    let client = session.api()?;
    let read = async || {
        let overviews = client.list(&path, &tags).await;
        overviews.map_err(|error| Failure::from(error).context("failed to list Dataplanes"))
    };
    let show = |overviews: Vec<Value>| {
        show(dataplanes_kind(), overviews, format, |overviews| {
            let now = Timestamp::now();
            let rows: Vec<Vec<String>> = overviews.iter().map(|overview| dataplane_row(overview, now)).collect();
            table(&DATAPLANE_COLUMNS, &rows)
        })
    };
    if go_on { watch(read, show).await } else { show(read().await?) }
}

fn dataplanes_kind() -> &'static Kind {
    const KIND: &Kind = &Kind::of::<Dataplane>();
    KIND
}

/// The cells of one overview. Both times are those of the newest connection; updates and errors are summed over all of them.
fn dataplane_row(overview: &Value, now: Timestamp) -> Vec<String> {
    // An overview is a Dataplane whose spec stands one level deeper, so the first cells are those of `get dataplanes`.
    let mut dataplane = overview.get("dataplane").cloned().unwrap_or_else(|| Value::Object(Default::default()));
    for field in ["mesh", "name"] {
        dataplane[field] = overview.get(field).cloned().unwrap_or_default();
    }
    let mut row = dataplanes_kind().row(&document(dataplanes_kind(), &dataplane));
    let insight: DataplaneInsight =
        overview.get("dataplaneInsight").and_then(|insight| decode_spec(insight).ok()).unwrap_or_default();
    let latest = insight.latest();
    let total = insight.sum();
    row.extend([
        if insight.is_online() { "Online" } else { "Offline" }.to_owned(),
        ago(now, latest.and_then(|subscription| subscription.connect_time).map(Timestamp::from)),
        ago(now, latest.and_then(|subscription| subscription.status.last_update_time).map(Timestamp::from)),
        total.responses_sent.to_string(),
        total.responses_rejected.to_string(),
    ]);
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(overview: Value, expected: &str) {
        let now: Timestamp = "2020-01-26T12:00:00Z".parse().expect("a time");
        assert_eq!(dataplane_row(&overview, now).join("|"), expected);
    }

    #[test]
    fn a_connected_dataplane() {
        check(
            json!({
                "type": "DataplaneOverview", "mesh": "default", "name": "web-1",
                "dataplane": {"networking": {"inbound": [{"interface": "127.0.0.1:80:8080", "tags": {"version": "v2", "service": "web"}}]}},
                "dataplaneInsight": {"subscriptions": [
                    {"id": "1", "controlPlaneInstanceId": "a", "connectTime": "2020-01-26T10:00:00Z", "disconnectTime": "2020-01-26T11:00:00Z",
                     "status": {"lastUpdateTime": "2020-01-26T11:59:59Z", "total": {"responsesSent": "10", "responsesRejected": "1"}}},
                    {"id": "2", "controlPlaneInstanceId": "a", "connectTime": "2020-01-26T11:59:41Z",
                     "status": {"lastUpdateTime": "2020-01-26T11:59:42.500Z", "total": {"responsesSent": "3", "responsesAcknowledged": "3"}}}
                ]}
            }),
            "default|web-1|service=web version=v2|Online|19s|17s|13|1",
        );
    }

    #[test]
    fn a_dataplane_that_never_connected() {
        let dataplane = json!({"networking": {"gateway": {"tags": {"service": "gw"}}}});
        check(
            json!({"mesh": "default", "name": "gw-1", "dataplane": dataplane}),
            "default|gw-1|service=gw|Offline|never|never|0|0",
        );
        check(
            json!({"mesh": "default", "name": "odd", "dataplaneInsight": {"subscriptions": 1}}),
            "default|odd||Offline|never|never|0|0",
        );
    }
}
