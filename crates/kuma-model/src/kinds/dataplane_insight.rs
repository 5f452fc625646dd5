//! What a proxy has been sent and has answered, as the control plane saw it.

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::decode::{self, Decode, Fields};
use crate::resource::Resource;
use crate::timestamp::Timestamp;
use crate::violations::Violations;

/// The history of a proxy's streams. The control plane writes it; name and mesh are those of the Dataplane.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct DataplaneInsight {
    /// Its streams, oldest first.
    pub subscriptions: Vec<Subscription>,
    /// That it has left, so that its clients do not dial it; until it is back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub departure: Option<Departure>,
}

/// How a proxy left.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Departure {
    /// When it was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// How it was known, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// One stream of a proxy.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Unique.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Which control plane process it was with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub control_plane_instance_id: String,
    /// The group of the key exchange of TLS as the TLS registry of IANA calls it, or [`UNENCRYPTED`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_exchange: String,
    /// When it was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_time: Option<Timestamp>,
    /// When it ended, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disconnect_time: Option<Timestamp>,
    /// What passed over it.
    pub status: SubscriptionStatus,
}

/// The `key_exchange` of a stream in plain text.
pub const UNENCRYPTED: &str = "none";

/// What passed over a stream.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionStatus {
    /// When the last response was sent or answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Timestamp>,
    /// When the proxy last held, and had accepted, all that it should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_time: Option<Timestamp>,
    /// Of all types of Envoy resource.
    pub total: Counters,
    /// Clusters.
    pub cds: Counters,
    /// Endpoints.
    pub eds: Counters,
    /// Listeners.
    pub lds: Counters,
    /// Routes.
    pub rds: Counters,
    /// Secrets.
    #[serde(skip_serializing_if = "Counters::is_empty")]
    pub sds: Counters,
    /// Extension configurations.
    #[serde(skip_serializing_if = "Counters::is_empty")]
    pub ecds: Counters,
    /// What the proxy refused last, if it refused anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rejection: Option<Rejection>,
    /// The last revision of the documents that the proxy had accepted as a whole.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub accepted_revision: u64,
    /// The resources whose latest version the proxy refuses, as of now. It goes on with what it had, if it had any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<UnsettledResource>,
    /// What the proxy has asked for and waits for, because it does not exist; as of now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<UnsettledResource>,
    /// What keeps the proxy from working as its mesh says, for people; as of now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A resource that a proxy refuses, or waits for.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnsettledResource {
    /// The type of resource, by its URL.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub resource_type: String,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The proxy's reason, in one line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The revision for which it was sent, or asked for.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub since_revision: u64,
}

/// A response that a proxy refused.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// The type of resource, by its URL.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub resource_type: String,
    /// The proxy's reason, in one line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

/// Counts of responses. Strings in JSON, as proto3 writes numbers of 64 bits; 0 is left out.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Sent to the proxy.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub responses_sent: u64,
    /// Accepted by it.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub responses_acknowledged: u64,
    /// Refused by it.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub responses_rejected: u64,
    /// When it accepted one last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_acknowledged_time: Option<Timestamp>,
    /// When it refused one last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rejected_time: Option<Timestamp>,
}

impl DataplaneInsight {
    /// Whether a stream is open.
    pub fn is_online(&self) -> bool {
        self.subscriptions.iter().any(|entry| entry.connect_time.is_some() && entry.disconnect_time.is_none())
    }

    /// The stream that was opened last.
    pub fn latest(&self) -> Option<&Subscription> {
        self.subscriptions.iter().max_by_key(|entry| entry.connect_time)
    }

    /// What the proxy refused last, over whichever stream that was kept.
    pub fn last_rejection(&self) -> Option<&Rejection> {
        self.subscriptions.iter().filter_map(|entry| entry.status.last_rejection.as_ref()).max_by_key(|one| one.time)
    }

    /// The totals of all streams.
    pub fn sum(&self) -> Counters {
        let mut sum = Counters::default();
        for entry in &self.subscriptions {
            sum.add(&entry.status.total);
        }
        sum
    }
}

impl SubscriptionStatus {
    /// Takes over the counts of another stream, and nothing else: what was refused there is not this stream's.
    pub fn add(&mut self, other: &SubscriptionStatus) {
        self.last_update_time = self.last_update_time.max(other.last_update_time);
        self.total.add(&other.total);
        self.cds.add(&other.cds);
        self.eds.add(&other.eds);
        self.lds.add(&other.lds);
        self.rds.add(&other.rds);
        self.sds.add(&other.sds);
        self.ecds.add(&other.ecds);
    }
}

impl Counters {
    /// Whether there was nothing to count.
    pub fn is_empty(&self) -> bool {
        *self == Counters::default()
    }

    /// Adds other counts.
    pub fn add(&mut self, other: &Counters) {
        self.responses_sent = self.responses_sent.saturating_add(other.responses_sent);
        self.responses_acknowledged = self.responses_acknowledged.saturating_add(other.responses_acknowledged);
        self.responses_rejected = self.responses_rejected.saturating_add(other.responses_rejected);
        self.last_acknowledged_time = self.last_acknowledged_time.max(other.last_acknowledged_time);
        self.last_rejected_time = self.last_rejected_time.max(other.last_rejected_time);
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn as_string<S: Serializer>(count: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(count)
}

impl Resource for DataplaneInsight {
    const KIND: &'static str = "DataplaneInsight";
    const API_PATH: &'static str = "dataplane-insights";
    const CLI_LIST: &'static str = "dataplane-insights";
    const CLI_ONE: &'static str = "dataplane-insight";
    const SERVER_MADE: bool = true;

    fn decode(fields: &mut Fields<'_>) -> DataplaneInsight {
        DataplaneInsight { subscriptions: fields.get("subscriptions"), departure: fields.opt("departure") }
    }

    fn validate(&self, _: &mut Violations) {}
}

impl Decode for Departure {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Departure> {
        decode::object(value, path, violations, |fields| Departure {
            time: fields.opt("time"),
            reason: fields.get("reason"),
        })
    }
}

impl Decode for Subscription {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Subscription> {
        decode::object(value, path, violations, |fields| Subscription {
            id: fields.get("id"),
            control_plane_instance_id: fields.get("controlPlaneInstanceId"),
            key_exchange: fields.get("keyExchange"),
            connect_time: fields.opt("connectTime"),
            disconnect_time: fields.opt("disconnectTime"),
            status: fields.get("status"),
        })
    }
}

impl Decode for SubscriptionStatus {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<SubscriptionStatus> {
        decode::object(value, path, violations, |fields| SubscriptionStatus {
            last_update_time: fields.opt("lastUpdateTime"),
            accepted_time: fields.opt("acceptedTime"),
            total: fields.get("total"),
            cds: fields.get("cds"),
            eds: fields.get("eds"),
            lds: fields.get("lds"),
            rds: fields.get("rds"),
            sds: fields.get("sds"),
            ecds: fields.get("ecds"),
            last_rejection: fields.opt("lastRejection"),
            accepted_revision: fields.get("acceptedRevision"),
            refused: fields.get("refused"),
            unanswered: fields.get("unanswered"),
            warnings: fields.get("warnings"),
        })
    }
}

impl Decode for Rejection {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Rejection> {
        decode::object(value, path, violations, |fields| Rejection {
            resource_type: fields.get("type"),
            message: fields.get("message"),
            time: fields.opt("time"),
        })
    }
}

impl Decode for UnsettledResource {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<UnsettledResource> {
        decode::object(value, path, violations, |fields| UnsettledResource {
            resource_type: fields.get("type"),
            name: fields.get("name"),
            message: fields.get("message"),
            since_revision: fields.get("sinceRevision"),
        })
    }
}

impl Decode for Counters {
    fn decode(value: &Value, path: &str, violations: &mut Violations) -> Option<Counters> {
        decode::object(value, path, violations, |fields| Counters {
            responses_sent: fields.get("responsesSent"),
            responses_acknowledged: fields.get("responsesAcknowledged"),
            responses_rejected: fields.get("responsesRejected"),
            last_acknowledged_time: fields.opt("lastAcknowledgedTime"),
            last_rejected_time: fields.opt("lastRejectedTime"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{read, refused, stored};

    const INSIGHT: &str = r#"
subscriptions:
- id: one
  controlPlaneInstanceId: cp
  connectTime: "2019-10-24T14:04:56.820350Z"
  disconnectTime: "2019-10-24T15:04:56Z"
  status:
    lastUpdateTime: "2019-10-24T14:04:57.832482Z"
    total: {responsesSent: "3", responsesAcknowledged: 2, responsesRejected: "18446744073709551615"}
    cds: {responses_sent: 0}
- id: two
  keyExchange: X25519MLKEM768
  connectTime: "2019-10-24T16:04:56+02:00"
  status:
    total: {responsesSent: 1}
"#;

    #[test]
    fn counters_are_strings_and_all_five_are_there() {
        let expected = r#"{"subscriptions":[{"id":"one","controlPlaneInstanceId":"cp","#.to_owned()
            + r#""connectTime":"2019-10-24T14:04:56.820350Z","disconnectTime":"2019-10-24T15:04:56Z","#
            + r#""status":{"lastUpdateTime":"2019-10-24T14:04:57.832482Z","#
            + r#""total":{"responsesSent":"3","responsesAcknowledged":"2","responsesRejected":"18446744073709551615"},"#
            + r#""cds":{},"eds":{},"lds":{},"rds":{}}},"#
            + r#"{"id":"two","keyExchange":"X25519MLKEM768","connectTime":"2019-10-24T14:04:56Z","#
            + r#""status":{"total":{"responsesSent":"1"},"cds":{},"eds":{},"lds":{},"rds":{}}}]}"#;
        assert_eq!(stored::<DataplaneInsight>(INSIGHT), expected);
        assert_eq!(stored::<DataplaneInsight>(""), "{}");
        assert_eq!(stored::<DataplaneInsight>("subscriptions: []"), r#"{"subscriptions":[]}"#);
    }

    #[test]
    fn the_last_rejection_and_warnings_stand_behind_the_counters() {
        let spec = r#"{"subscriptions":[{"status":{"total":{},"cds":{},"eds":{},"lds":{},"rds":{},"#.to_owned()
            + r#""lastRejection":{"type":"type.googleapis.com/envoy.config.listener.v3.Listener","#
            + r#""message":"cannot bind","time":"2019-10-24T14:04:57Z"},"acceptedRevision":"7","#
            + r#""refused":[{"type":"t","name":"n","message":"cannot bind","sinceRevision":"8"}],"#
            + r#""unanswered":[{"type":"t","name":"s"}],"warnings":["no token"]}}]}"#;
        assert_eq!(stored::<DataplaneInsight>(&spec), spec);
    }

    #[test]
    fn values_must_have_their_types() {
        refused::<DataplaneInsight>(
            "
            subscriptions:
            - id: 1
              connectTime: yesterday
              disconnectTime: 5
              status: {total: {responsesSent: '18446744073709551616', responsesRejected: x}, totals: {}}",
            r#"
            subscriptions[0].id: must be a string, not a number: put it in quotes
            subscriptions[0].connectTime: must be a time such as "2020-01-31T15:04:05Z"
            subscriptions[0].disconnectTime: must be a string, not a number
            subscriptions[0].status.total.responsesSent: must be a whole number from 0 to 18446744073709551615
            subscriptions[0].status.total.responsesRejected: must be a whole number from 0 to 18446744073709551615
            subscriptions[0].status.totals: unknown field; did you mean "total"?"#,
        );
    }

    #[test]
    fn a_proxy_is_online_while_a_stream_is_open() {
        let mut insight: DataplaneInsight = read(INSIGHT);
        assert!(insight.is_online());
        insight.subscriptions[1].disconnect_time = insight.subscriptions[0].disconnect_time;
        assert!(!insight.is_online());
        assert!(!DataplaneInsight::default().is_online());
    }

    #[test]
    fn the_latest_stream_is_the_one_opened_last_and_totals_are_of_all() {
        let insight: DataplaneInsight = read(INSIGHT);
        assert_eq!(insight.latest().map(|entry| entry.id.as_str()), Some("one"));
        let sum = insight.sum();
        assert_eq!((sum.responses_sent, sum.responses_acknowledged, sum.responses_rejected), (4, 2, u64::MAX));
    }

    #[test]
    fn statuses_add_up() {
        let insight: DataplaneInsight = read(INSIGHT);
        let [first, second] = insight.subscriptions.as_slice() else { panic!("two subscriptions") };
        let mut status = second.status.clone();
        status.add(&first.status);
        assert_eq!(status.last_update_time, first.status.last_update_time);
        assert_eq!(status.total, insight.sum());
    }
}
