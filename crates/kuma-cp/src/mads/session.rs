//! One stream of v1alpha1 as a state machine, without I/O: state-of-the-world discovery of one type.

use std::collections::BTreeSet;
use std::time::Duration;

use kuma_mads::v1alpha1::TYPE_URL;
use kuma_xds::DiscoveryRequest;
use kuma_xds::grpc::{Code, Status};
use tokio::time::Instant;

use super::List;
use super::list::Message;

/// Limit on the bytes per second of a stream. Each change sends the whole list, so in a large mesh with frequent
/// changes a client gets several changes at once. The first list, and small lists, are sent without a delay.
const RATE: usize = 8 << 20;

/// The state of the client.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Whether it has sent a request.
    asked: bool,
    /// The names that it requests; all if empty.
    names: BTreeSet<String>,
    /// The version that it has: the last one that it was sent, or the one that it reported at the start.
    held: Option<String>,
    /// Whether `held` is from another stream.
    foreign: bool,
    /// Number of the last response; 0 before the first.
    nonce: u64,
    /// Whether the last response has not been answered yet.
    in_flight: bool,
    not_before: Option<Instant>,
}

/// The meaning of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// A request for the list.
    Question,
    /// The last response was accepted.
    Ack,
    /// The last response was refused. The client keeps its list, and gets the next one.
    Nack,
    /// The answer to an earlier response.
    Stale,
}

impl Session {
    /// Handles a request.
    ///
    /// # Errors
    /// It requests another type.
    pub(super) fn on_request(&mut self, request: DiscoveryRequest) -> Result<Heard, Status> {
        if !matches!(request.type_url.as_str(), "" | TYPE_URL) {
            let text = format!("this port has resources of the type {TYPE_URL} alone, not {}", request.type_url);
            return Err(Status::new(Code::InvalidArgument, text));
        }
        let names = request.resource_names.into_iter().collect();
        if !self.asked {
            self.asked = true;
            self.names = names;
            self.held = Some(request.version_info).filter(|version| !version.is_empty());
            self.foreign = self.held.is_some();
            return Ok(Heard::Question);
        }
        if self.nonce > 0 && request.response_nonce != self.nonce.to_string() {
            return Ok(Heard::Stale);
        }
        if names != self.names {
            // It requests other names.
            self.names = names;
            (self.held, self.foreign) = (None, false);
        }
        if !std::mem::take(&mut self.in_flight) {
            return Ok(Heard::Question);
        }
        Ok(if request.error_detail.is_some() { Heard::Nack } else { Heard::Ack })
    }

    /// When the list has to be sent; `None` if the client needs nothing.
    pub(super) fn due(&mut self, list: &List, now: Instant) -> Option<Instant> {
        if !self.asked || self.in_flight {
            return None;
        }
        let due = list.due(self.held.as_deref(), &mut self.foreign, now)?;
        Some(self.not_before.map_or(due, |moment| due.max(moment)))
    }

    /// Makes the response, and records that it is sent now.
    pub(super) fn send(&mut self, list: &List, now: Instant) -> Message {
        self.nonce += 1;
        let message = list.message(&self.names, &self.nonce.to_string());
        self.in_flight = true;
        (self.held, self.foreign) = (Some(list.version.to_string()), false);
        self.not_before = Some(now + Duration::from_secs_f64(message.length as f64 / RATE as f64));
        message
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use envoy_api::envoy::service::discovery::v3::DiscoveryResponse;
    use kuma_mads::Assignment;
    use kuma_xds::ErrorDetail;
    use kuma_xds::grpc::FrameDecoder;
    use prost::Message as _;

    use super::*;
    use crate::mads::Hold;
    use crate::mads::list::Assigned;

    fn list(names: &[&str], hold: Hold) -> List {
        let assigned = names.iter().map(|name| {
            Assigned::new(Assignment {
                mesh: "default".into(),
                dataplane: (*name).into(),
                service: "web".into(),
                address: ([10, 0, 0, 1], 5670).into(),
                path: "/metrics".into(),
                tags: Default::default(),
            })
        });
        List::new(assigned.map(Into::into).collect(), hold)
    }

    fn question(version: &str) -> DiscoveryRequest {
        DiscoveryRequest { version_info: version.into(), type_url: TYPE_URL.into(), ..DiscoveryRequest::default() }
    }

    fn answer(nonce: &str) -> DiscoveryRequest {
        DiscoveryRequest { response_nonce: nonce.into(), ..question("") }
    }

    fn hear(session: &mut Session, request: DiscoveryRequest) -> Heard {
        session.on_request(request).expect("a request")
    }

    #[test]
    fn a_list_is_sent_once_and_again_when_it_changes() {
        let now = Instant::now();
        let later = now + Duration::from_secs(3600);
        let (one, two) = (list(&["a"], Hold::No), list(&["a", "b"], Hold::No));
        let mut session = Session::default();
        assert_eq!(session.due(&one, now), None, "nobody has asked");
        assert_eq!(hear(&mut session, question("")), Heard::Question);
        assert_eq!(session.due(&one, now), Some(now));
        session.send(&one, now);
        assert_eq!(session.due(&two, later), None, "the first is not answered yet");
        assert_eq!(hear(&mut session, answer("7")), Heard::Stale);
        assert_eq!(session.due(&two, later), None);
        assert_eq!(hear(&mut session, answer("1")), Heard::Ack);
        assert_eq!(session.due(&one, later), None, "it has that");
        assert_eq!(session.due(&two, later), Some(later));
        session.send(&two, later);
        let refusal = DiscoveryRequest { error_detail: Some(ErrorDetail::default()), ..answer("2") };
        assert_eq!(hear(&mut session, refusal), Heard::Nack);
        assert_eq!(session.due(&two, later + Duration::from_secs(1)), None, "what was refused is not sent again");
        assert!(session.due(&one, later + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn a_client_that_comes_back_is_told_what_it_does_not_hold_and_only_by_who_knows() {
        let now = Instant::now();
        let soon = now + Duration::from_secs(5);
        for (held, hold, due) in [
            ("its own", Hold::No, None),
            ("another", Hold::No, Some(now)),
            ("another", Hold::Until(soon), Some(soon)),
            ("another", Hold::Unwritten, None),
            ("its own", Hold::Unwritten, None),
            ("", Hold::Unwritten, Some(now)),
            ("", Hold::Until(soon), Some(now)),
        ] {
            let list = list(&["a"], hold);
            let version = if held == "its own" { list.version.to_string() } else { held.to_owned() };
            let mut session = Session::default();
            hear(&mut session, question(&version));
            assert_eq!(session.due(&list, now), due, "{held} {hold:?}");
        }
    }

    #[test]
    fn who_agrees_once_is_told_of_every_change() {
        let now = Instant::now();
        let hold = Hold::Until(now + Duration::from_secs(5));
        let (one, two) = (list(&["a"], hold), list(&["a", "b"], hold));
        let mut session = Session::default();
        hear(&mut session, question(&one.version));
        assert_eq!(session.due(&one, now), None);
        assert_eq!(session.due(&two, now), Some(now));
    }

    #[test]
    fn names_choose() {
        let now = Instant::now();
        let list = list(&["a", "b"], Hold::No);
        let all = list.message(&BTreeSet::new(), "1").length;
        let mut session = Session::default();
        let b = vec!["/meshes/default/dataplanes/b".to_owned()];
        hear(&mut session, DiscoveryRequest { resource_names: b, ..question("") });
        assert!(session.send(&list, now).length < all);
        hear(&mut session, answer("1"));
        assert!(session.due(&list, now).is_some(), "now it wants all");
        assert_eq!(session.send(&list, now).length, all);
    }

    #[test]
    fn other_types_are_refused() {
        let other = DiscoveryRequest { type_url: "other".into(), ..question("") };
        assert_eq!(Session::default().on_request(other).expect_err("refused").code, Code::InvalidArgument);
    }

    #[test]
    fn many_changes_of_a_large_list_are_told_together() {
        let now = Instant::now();
        let names: Vec<String> = (0..20_000).map(|at| format!("dataplane-{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut session = Session::default();
        hear(&mut session, question(""));
        let mut message = session.send(&list(&names, Hold::No), now);
        let pieces: Vec<Bytes> = std::iter::from_fn(|| message.next_piece()).collect();
        assert!(pieces.len() > 100, "it is not put together at once");
        let mut decoder = FrameDecoder::new(64 << 20);
        decoder.push(pieces.concat().into());
        let response = decoder.next_message().expect("a frame").expect("all of it");
        assert_eq!(DiscoveryResponse::decode(response).expect("a response").resources.len(), names.len());
        assert!(!decoder.is_partial());
        hear(&mut session, answer("1"));
        let due = session.due(&list(&["a"], Hold::No), now).expect("later");
        assert_eq!((due - now).as_millis(), (message.length * 1000 / RATE) as u128);
    }
}
