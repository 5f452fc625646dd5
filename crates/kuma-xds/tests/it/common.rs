//! Rules of both variants, C1 to C15.

use kuma_xds::grpc::Code;
use kuma_xds::session::limits::{MAX_NAME_LENGTH, MAX_SUBSCRIPTIONS};
use kuma_xds::{
    DeltaDiscoveryRequest, DiscoveryRequest, Event, Node, Request, ResourceType, Session, StreamState, Variant,
};

use crate::script::{Client, snapshot};

const NOTHING: [&str; 0] = [];

fn request(variant: Variant, node_id: Option<&str>, type_url: &str) -> Request {
    let node = node_id.map(|id| Node { id: id.to_owned(), ..Node::default() });
    let type_url = type_url.to_owned();
    match variant {
        Variant::Sotw => Request::Sotw(DiscoveryRequest { node, type_url, ..Default::default() }),
        Variant::Delta => Request::Delta(DeltaDiscoveryRequest { node, type_url, ..Default::default() }),
    }
}

#[test]
fn c1_the_node_comes_first_and_never_changes() {
    let clusters = ResourceType::Cluster.type_url();
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut events = Vec::new();
        let mut session = Session::new(variant);
        let mut take = |session: &mut Session, id| session.on_request(request(variant, id, clusters), &mut events);
        for nobody in [None, Some("")] {
            let error = take(&mut session, nobody).expect_err("no node");
            assert_eq!(error.code, Code::InvalidArgument);
        }
        take(&mut session, Some("default.web-1")).expect("the first");
        take(&mut session, None).expect("without");
        take(&mut session, Some("default.web-1")).expect("again the same");
        let error = take(&mut session, Some("default.web-2")).expect_err("another");
        assert_eq!(error.code, Code::InvalidArgument);
    }
}

#[test]
fn c3_a_nonce_of_another_stream_means_nothing() {
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut client = Client::new(variant);
        client.serve("E a:1");
        let names = if variant == Variant::Delta { "E +a" } else { "E a" };
        assert_eq!(client.ask_with_nonce(names, "1"), ["E a:1"], "{variant:?}");
        let acked = Event::Acked { resource_type: ResourceType::Endpoint };
        assert!(!client.events.contains(&acked), "{variant:?}");
    }
}

#[test]
fn c4_an_ack_needs_no_response() {
    for mut client in [Client::sotw("C a:1"), Client::delta("C a:1")] {
        assert_eq!(client.ask("C"), ["C a:1"]);
        client.take_events();
        assert_eq!(client.ack("C"), NOTHING);
        assert_eq!(client.ack("C"), NOTHING);
        assert_eq!(client.take_events(), ["C acked"], "the second is of no response");
    }
}

#[test]
fn c5_a_nack_is_an_error_detail() {
    for mut client in [Client::sotw("C a:1"), Client::delta("C a:1")] {
        client.ask("C");
        client.ack("C");
        client.serve("C a:1 b:1");
        client.take_events();
        // The version that a SotW client repeats is the accepted or the same one, and has no meaning here.
        assert_eq!(client.nack("C", "bad\n  b"), NOTHING);
        assert_eq!(client.take_events(), ["C nacked bad b"]);
    }
}

#[test]
fn c6_what_was_refused_is_not_sent_again_and_what_differs_is() {
    for mut client in [Client::sotw("C a:1"), Client::delta("C a:1")] {
        client.ask("C");
        client.ack("C");
        assert_eq!(client.serve("C a:2"), ["C a:2"]);
        assert_eq!(client.nack("C", "bad"), NOTHING);
        assert_eq!(client.serve("C a:2; L l:1"), NOTHING);
        assert_eq!(client.serve("C a:1"), ["C a:1"], "back to what it had before");
        client.ack("C");
        assert_eq!(client.serve("C a:3"), ["C a:3"]);
    }
}

#[test]
fn c7_of_a_burst_the_last_state_counts() {
    let mut client = Client::sotw("E a:1 b:1 c:1");
    assert_eq!(client.ask("E a"), ["E a:1"]);
    for _ in 0..100 {
        assert_eq!(client.ask_with_nonce("E a b", ""), NOTHING);
    }
    assert_eq!(client.ask("E c"), ["E c:1"]);

    let mut client = Client::delta("E a:1 b:1 c:1");
    assert_eq!(client.ask("E +a"), ["E a:1"]);
    for _ in 0..100 {
        assert_eq!(client.ask("E +b -a"), NOTHING);
        assert_eq!(client.ask("E -b +c"), NOTHING);
    }
    assert_eq!(client.ack("E"), ["E c:1"]);
}

#[test]
fn c8_a_newly_named_resource_is_sent_unchanged() {
    let mut client = Client::sotw("S a:1 b:1; E a:1 b:1");
    assert_eq!(client.ask("S a"), ["S a:1"]);
    assert_eq!(client.ask("S b a"), ["S a:1 b:1"], "secrets are sent whole");
    assert_eq!(client.ask("S a"), NOTHING);
    assert_eq!(client.ask("S a b"), ["S a:1 b:1"], "though it had it before");
    assert_eq!(client.ask("E a"), ["E a:1"]);
    assert_eq!(client.ask("E a b"), ["E b:1"], "endpoints only as needed");

    let mut client = Client::delta("S a:1 b:1");
    assert_eq!(client.ask("S +a"), ["S a:1"]);
    assert_eq!(client.ask("S +b"), NOTHING, "one at a time");
    assert_eq!(client.ack("S"), ["S b:1"]);
}

#[test]
fn c9_a_missing_resource_is_sent_when_it_exists() {
    let mut client = Client::sotw("");
    assert_eq!(client.ask("E z"), NOTHING);
    assert_eq!(client.serve("E y:1 z:1"), ["E z:1"]);

    let mut client = Client::delta("");
    assert_eq!(client.ask("E +z"), ["E -z"]);
    client.ack("E");
    assert_eq!(client.serve("E y:1 z:1"), ["E z:1"]);
}

#[test]
fn c10_no_response_names_a_resource_twice() {
    let mut client = Client::delta("C a:1 b:1>x b:2; E x:1");
    assert_eq!(client.ask("C +* +a +b"), ["C a:1 b:2"]);
    let mut client = Client::sotw("C a:1 b:1");
    assert_eq!(client.ask("C * a b a"), ["C a:1 b:1"]);
}

#[test]
fn c11_the_empty_first_request_means_all() {
    // The four steps of xds_protocol.rst.
    let mut client = Client::sotw("C a:1 b:1");
    assert_eq!(client.ask("C"), ["C a:1 b:1"]);
    assert_eq!(client.ask("C * a"), ["C a:1 b:1"]);
    assert_eq!(client.ask("C a"), NOTHING);
    assert_eq!(client.serve("C a:1 b:2"), NOTHING, "b is not wanted any more");
    assert_eq!(client.ask("C"), NOTHING);
    assert_eq!(client.serve("C a:2 b:2"), NOTHING, "nothing is");

    let mut client = Client::delta("C a:1 b:1");
    assert_eq!(client.ask("C"), ["C a:1 b:1"]);
    client.ack("C");
    assert_eq!(client.ask("C +a"), ["C a:1"]);
    client.ack("C");
    assert_eq!(client.ask("C -*"), NOTHING);
    assert_eq!(client.serve("C a:1 b:2"), NOTHING);
    assert_eq!(client.ask("C -a"), NOTHING);
    assert_eq!(client.serve("C a:2 b:2"), NOTHING);

    // For other types the empty list subscribes to nothing.
    for mut client in [Client::sotw("E a:1; S a:1"), Client::delta("E a:1; S a:1")] {
        assert_eq!(client.ask("E"), NOTHING);
        assert_eq!(client.ask("S"), NOTHING);
    }
}

#[test]
fn c11_all_of_nothing_is_answered() {
    for mut client in [Client::sotw(""), Client::delta("")] {
        assert_eq!(client.ask("C"), ["C"], "Envoy waits for it");
        assert_eq!(client.ack("C"), NOTHING);
        assert_eq!(client.ask("E"), NOTHING);
    }
}

#[test]
fn c12_dropping_the_wildcard_keeps_the_names() {
    let mut client = Client::sotw("L a:1 b:1");
    assert_eq!(client.ask("L * a"), ["L a:1 b:1"]);
    assert_eq!(client.ask("L a"), NOTHING);
    assert_eq!(client.serve("L a:2 b:2"), ["L a:2"]);

    let mut client = Client::delta("L a:1 b:1");
    assert_eq!(client.ask("L +* +a"), ["L a:1 b:1"]);
    client.ack("L");
    assert_eq!(client.ask("L -*"), NOTHING);
    assert_eq!(client.serve("L a:2 b:2"), ["L a:2"]);
}

#[test]
fn c13_an_unknown_type_hurts_nothing() {
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut client = Client::new(variant);
        client.serve("C a:1");
        for type_url in [
            "type.googleapis.com/envoy.service.runtime.v3.Runtime",
            "type.googleapis.com/envoy.api.v2.Cluster",
            "x",
            "\u{0}",
        ] {
            assert_eq!(client.send(request(variant, None, type_url)), Ok(Vec::new()));
        }
        assert_eq!(client.ask("C"), ["C a:1"]);
        let error = client.send(request(variant, None, "")).expect_err("which type?");
        assert_eq!(error.code, Code::InvalidArgument);
    }
}

#[test]
fn c13_a_stream_of_one_type_may_leave_it_out() {
    for variant in [Variant::Sotw, Variant::Delta] {
        let mut events = Vec::new();
        let mut session = Session::of_type(variant, ResourceType::Cluster);
        session.on_state(StreamState::Serve(snapshot("C a:1").into()));
        session.on_request(request(variant, Some("n"), ""), &mut events).expect("its own type");
        assert!(session.poll(&mut events).is_some());
        let listeners = ResourceType::Listener.type_url();
        let error = session.on_request(request(variant, None, listeners), &mut events).expect_err("another");
        assert_eq!(error.code, Code::InvalidArgument);
    }
}

#[test]
fn c14_the_version_of_the_whole_is_made_of_its_content() {
    let version = |text| {
        let mut client = Client::sotw(text);
        client.ask("C");
        client.last("C").version_info().to_owned()
    };
    assert_eq!(version("C a:1 b:2"), version("C b:2 a:1; L l:1"));
    assert_ne!(version("C a:1 b:2"), version("C a:1 b:1"));
    assert_ne!(version("C a:1 b:2"), version("C a:1"));
    assert_ne!(version("C a:11"), version("C a1:1"));
}

#[test]
fn c15_nothing_is_sent_unless_it_changed() {
    for mut client in [Client::sotw("C a:1; L l:1"), Client::delta("C a:1; L l:1")] {
        client.ask("C");
        client.ask("L");
        client.ack("C");
        client.ack("L");
        for _ in 0..3 {
            assert_eq!(client.serve("C a:1; L l:1"), NOTHING, "equal, though other objects");
            assert_eq!(client.serve("C a:1; L l:1; R unwanted:1; E unwanted:1"), NOTHING);
            client.hold();
            assert_eq!(client.drain(), NOTHING);
        }
    }
}

#[test]
fn while_held_nothing_is_answered() {
    for (variant, names) in [(Variant::Sotw, "E a"), (Variant::Delta, "E +a")] {
        let mut client = Client::new(variant);
        assert_eq!(client.ask("C"), NOTHING);
        assert_eq!(client.ask(names), NOTHING);
        assert_eq!(client.take_events(), ["C subscribed *", "E subscribed a"]);
        assert_eq!(client.serve("C a:1>a; E a:1"), ["C a:1", "E a:1"]);
        client.hold();
        client.ack("C");
        client.ack("E");
        assert_eq!(client.serve("C a:1>a; E a:2"), ["E a:2"]);
    }
}

#[test]
fn one_response_of_a_type_is_in_flight_and_the_latest_wins() {
    for mut client in [Client::sotw("C a:1"), Client::delta("C a:1")] {
        client.ask("C");
        for version in 2..100 {
            assert_eq!(client.serve(&format!("C a:{version}")), NOTHING);
        }
        assert_eq!(client.ack("C"), ["C a:99"]);
        client.serve("C a:100");
        client.serve("C a:99");
        assert_eq!(client.ack("C"), NOTHING, "it went back to what the client has");
    }
}

#[test]
fn settled_says_when_all_is_accepted() {
    let settled = |client: &mut Client| -> Vec<(u64, bool)> {
        let events = std::mem::take(&mut client.events);
        let pair = |event: Event| match event {
            Event::Settled { revision, generation, refused, unanswered } => {
                assert_eq!((generation, unanswered.len()), (7, 0), "it comes back");
                Some((revision, refused.is_empty()))
            }
            _ => None,
        };
        events.into_iter().filter_map(pair).collect()
    };
    let at = |revision, text| {
        let mut builder = kuma_xds::Snapshot::builder().revision(revision).generation(7);
        for resource in snapshot(text).list(ResourceType::Cluster).iter() {
            builder.insert(resource.clone());
        }
        builder.build()
    };
    for mut client in [Client::sotw(""), Client::delta("")] {
        client.serve_snapshot(at(1, "C a:1"));
        client.ask("C");
        assert_eq!(settled(&mut client), []);
        client.ack("C");
        assert_eq!(settled(&mut client), [(1, true)]);
        client.serve_snapshot(at(2, "C a:1"));
        assert_eq!(settled(&mut client), [(2, true)], "nothing to do");
        client.serve_snapshot(at(3, "C a:2"));
        assert_eq!(settled(&mut client), []);
        client.nack("C", "bad");
        assert_eq!(settled(&mut client), [(3, false)]);
    }
}

#[test]
fn unreasonable_requests_are_refused() {
    let many: Vec<String> = (0..=MAX_SUBSCRIPTIONS).map(|number| number.to_string()).collect();
    let cases = [
        (vec!["x".repeat(MAX_NAME_LENGTH)], None),
        (vec!["x".repeat(MAX_NAME_LENGTH + 1)], Some(Code::InvalidArgument)),
        (many[1..].to_vec(), None),
        (many, Some(Code::ResourceExhausted)),
    ];
    for (names, expected) in cases {
        let type_url = ResourceType::Endpoint.type_url().to_owned();
        let delta = DeltaDiscoveryRequest {
            type_url: type_url.clone(),
            resource_names_subscribe: names.clone(),
            ..Default::default()
        };
        let sotw = DiscoveryRequest { type_url, resource_names: names, ..Default::default() };
        for (variant, request) in [(Variant::Delta, Request::Delta(delta)), (Variant::Sotw, Request::Sotw(sotw))] {
            let outcome = Client::new(variant).send(request);
            assert_eq!(outcome.err().map(|error| error.code), expected, "{variant:?}");
        }
    }
}

#[test]
fn subscriptions_add_up() {
    let names = |letter: &str| (0..MAX_SUBSCRIPTIONS / 2 + 1).map(|number| format!("{letter}{number}")).collect();
    let mut client = Client::new(Variant::Delta);
    for (letter, expected) in [("a", None), ("b", Some(Code::ResourceExhausted))] {
        let request = Request::Delta(DeltaDiscoveryRequest {
            type_url: ResourceType::Endpoint.type_url().to_owned(),
            resource_names_subscribe: names(letter),
            ..Default::default()
        });
        assert_eq!(client.send(request).err().map(|error| error.code), expected);
    }
}
