//! `kumactl inspect`: resources with their state in the control plane.

mod description;

use jiff::Timestamp;
use kuma_model::{Dataplane, DataplaneInsight, Kind, decode_spec};
use serde_json::Value;

use super::watch::watch;
use super::{document, meshes, segment, show, show_one};
use crate::age::ago;
use crate::cli::{InspectDataplane, InspectDataplanes, Output};
use crate::client::CallError;
use crate::failure::Failure;
use crate::output::Format;
use crate::session::Session;
use crate::table::table;

/// Header of the table of dataplanes.
const COLUMNS: [&str; 8] =
    ["MESH", "NAME", "TAGS", "STATUS", "LAST CONNECTED AGO", "LAST UPDATED AGO", "TOTAL UPDATES", "TOTAL ERRORS"];

/// Additional columns of `-o wide`.
const WIDE: [&str; 4] = ["CONFIG", "LAST ACCEPTED AGO", "LAST REFUSED AGO", "REASON"];

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
            let (now, wide) = (Timestamp::now(), format == Format::Wide);
            let columns: Vec<&str> = COLUMNS.into_iter().chain(WIDE.into_iter().filter(|_| wide)).collect();
            table(&columns, &overviews.iter().map(|overview| row(overview, wide, now)).collect::<Vec<_>>())
        })
    };
    if go_on {
        return watch(read, show).await;
    }
    let overviews = read().await?;
    if overviews.is_empty() {
        meshes::warn_of_missing(&client, &session.mesh).await;
    }
    show(overviews)
}

/// Shows one dataplane in detail.
pub(super) async fn dataplane(session: &Session, arguments: InspectDataplane) -> Result<String, Failure> {
    let InspectDataplane { name, watch: go_on, output: Output { format } } = arguments;
    let path = ["meshes", segment(&session.mesh)?, "dataplanes+insights", segment(&name)?];
    let client = session.api()?;
    let read = async || match client.get(&path, &[]).await {
        Ok(overview) => Ok(overview),
        Err(CallError::Refused(refusal)) if refusal.is_not_found() => {
            let failure = Failure::new(format!("there is no Dataplane with name \"{name}\""));
            Err(meshes::explained(failure, &client, dataplanes_kind(), &session.mesh).await)
        }
        Err(error) => Err(Failure::from(error).context(format!("failed to get Dataplane \"{name}\""))),
    };
    let show = |overview: Value| {
        show_one(dataplanes_kind(), overview, format, |overviews| {
            overviews.iter().map(|overview| description::text(overview, Timestamp::now())).collect()
        })
    };
    if go_on { watch(read, show).await } else { show(read().await?) }
}

fn dataplanes_kind() -> &'static Kind {
    const KIND: &Kind = &Kind::of::<Dataplane>();
    KIND
}

/// The cells of `get dataplanes` for the Dataplane of an overview, whose spec is nested one level deeper.
fn dataplane_cells(overview: &Value) -> Vec<String> {
    let mut dataplane = overview.get("dataplane").cloned().unwrap_or_else(|| Value::Object(Default::default()));
    for field in ["mesh", "name"] {
        dataplane[field] = overview.get(field).cloned().unwrap_or_default();
    }
    dataplanes_kind().row(&document(dataplanes_kind(), &dataplane))
}

/// The insight in an overview.
fn insight(overview: &Value) -> DataplaneInsight {
    overview.get("dataplaneInsight").and_then(|insight| decode_spec(insight).ok()).unwrap_or_default()
}

/// `Degraded` is a proxy that is connected but does not work as its documents say: it has refused a resource, waits for
/// one that does not exist, is no endpoint any more, or has no certificate.
fn status(insight: &DataplaneInsight) -> &'static str {
    let status = insight.latest().map(|latest| &latest.status);
    let is_degraded = status.is_some_and(|status| {
        !status.refused.is_empty() || !status.unanswered.is_empty() || !status.warnings.is_empty()
    });
    match (insight.is_online(), is_degraded) {
        (false, _) => "Offline",
        (true, false) => "Online",
        (true, true) => "Degraded",
    }
}

/// The cells of one overview. Times are those of the newest connection; updates and errors are sums over all
/// connections.
fn row(overview: &Value, wide: bool, now: Timestamp) -> Vec<String> {
    let mut row = dataplane_cells(overview);
    let insight = insight(overview);
    let latest = insight.latest().cloned().unwrap_or_default();
    let total = insight.sum();
    let ago = |time: Option<kuma_model::Timestamp>| ago(now, time.map(Timestamp::from));
    row.extend([
        status(&insight).to_owned(),
        ago(latest.connect_time),
        ago(latest.status.last_update_time),
        total.responses_sent.to_string(),
        total.responses_rejected.to_string(),
    ]);
    if wide {
        row.extend([
            description::config(&latest.status).to_owned(),
            ago(latest.status.accepted_time),
            ago(insight.last_rejection().and_then(|rejection| rejection.time)),
            description::reason(&insight, &latest.status),
        ]);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(overview: Value, expected: &str) {
        let now: Timestamp = "2020-01-26T12:00:00Z".parse().expect("a time");
        assert_eq!(row(&overview, false, now).join("|"), expected);
    }

    #[test]
    fn a_connected_dataplane() {
        check(
            json!({
                "type": "DataplaneOverview", "mesh": "default", "name": "web-1",
                "dataplane": {"networking": {"inbound": [{"interface": "127.0.0.1:80:8080", "tags": {"version": "v2",
                    "service": "web"}}]}},
                "dataplaneInsight": {"subscriptions": [
                    {"id": "1", "controlPlaneInstanceId": "a", "connectTime": "2020-01-26T10:00:00Z",
                        "disconnectTime": "2020-01-26T11:00:00Z",
                     "status": {"lastUpdateTime": "2020-01-26T11:59:59Z", "total": {"responsesSent": "10",
                         "responsesRejected": "1"}}},
                    {"id": "2", "controlPlaneInstanceId": "a", "connectTime": "2020-01-26T11:59:41Z",
                     "status": {"lastUpdateTime": "2020-01-26T11:59:42.500Z", "total": {"responsesSent": "3",
                         "responsesAcknowledged": "3"}}}
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
