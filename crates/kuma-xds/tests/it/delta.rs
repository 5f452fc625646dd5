//! Rules of the incremental variant, D1 to D10.

use kuma_xds::{Resource, ResourceType, Snapshot, Variant};

use crate::script::Client;

const NOTHING: [&str; 0] = [];

#[test]
fn d1_answers_match_by_nonce() {
    let mut client = Client::delta("C a:1; E a:1");
    client.ask("C");
    client.ask("E +a");
    client.take_events();
    let (of_clusters, of_endpoints) = (client.nonce("C"), client.nonce("E"));
    for stale in ["", "x", "0", "99", &of_endpoints] {
        client.answer(ResourceType::Cluster, stale, None);
    }
    assert_eq!(client.take_events(), NOTHING);
    assert_eq!(client.serve("C a:2; E a:1"), NOTHING, "still in flight");
    assert_eq!(client.answer(ResourceType::Cluster, &of_clusters, None), ["C a:2"]);
    assert_eq!(client.take_events(), ["C acked"]);
}

#[test]
fn d2_a_stale_nonce_cancels_no_change_of_a_subscription() {
    let mut client = Client::delta("E a:1 b:1");
    client.ask("E +a");
    client.ack("E");
    assert_eq!(client.ask_with_nonce("E +b -a", "77"), ["E b:1"]);
    client.ack("E");
    assert_eq!(client.serve("E a:2 b:1"), NOTHING);
}

#[test]
fn d3_asked_again_is_sent_again() {
    let mut client = Client::delta("E a:1; S s:1");
    client.ask("E +a");
    client.ack("E");
    assert_eq!(client.ask("E +a"), ["E a:1"]);
    client.take_events();
    client.ack("E");
    client.ask("S +s");
    client.ack("S");
    assert_eq!(client.ask("S +s"), ["S s:1"]);
    assert_eq!(client.take_events()[1..], ["S subscribed s", "S acked", "S subscribed s"]);
}

#[test]
fn d3_all_asked_again_are_sent_again() {
    let mut client = Client::delta("C a:1 b:1");
    client.ask("C");
    client.ack("C");
    assert_eq!(client.ask("C +*"), ["C a:1 b:1"]);
}

#[test]
fn d4_needless_unsubscribing_is_ignored() {
    let mut client = Client::delta("E a:1");
    client.ask("E +a");
    client.ack("E");
    client.take_events();
    assert_eq!(client.ask("E -z -*"), NOTHING);
    assert_eq!(client.take_events(), NOTHING);
    assert_eq!(client.ask("E -a"), NOTHING);
    assert_eq!(client.take_events(), ["E unsubscribed a"]);
    assert_eq!(client.serve("E a:2"), NOTHING);
}

#[test]
fn d5_out_of_a_wildcard_unsubscribing_is_answered() {
    let mut client = Client::delta("C a:1");
    assert_eq!(client.ask("C +* +a +z"), ["C a:1 -z"]);
    client.ack("C");
    assert_eq!(client.ask("C -a"), ["C a:1"]);
    client.ack("C");
    assert_eq!(client.ask("C -z"), ["C -z"]);
}

#[test]
fn d6_a_missing_name_is_answered_at_once() {
    for letter in ["C", "E", "L", "R"] {
        let mut client = Client::delta("");
        assert_eq!(client.ask(&format!("{letter} +z")), [format!("{letter} -z")]);
        client.ack(letter);
        assert_eq!(client.serve(&format!("{letter} z:1")), [format!("{letter} z:1")]);
    }
}

#[test]
fn d6_a_missing_secret_or_extension_config_is_not() {
    for letter in ["S", "X"] {
        let mut client = Client::delta(&format!("{letter} a:1"));
        assert_eq!(client.ask(&format!("{letter} +z")), NOTHING);
        assert_eq!(client.ask(&format!("{letter} +a")), [format!("{letter} a:1")]);
        client.ack(letter);
        let expected = [
            format!("{letter} subscribed z"),
            format!("{letter} unknown z"),
            format!("{letter} subscribed a"),
            format!("{letter} acked"),
        ];
        assert_eq!(client.take_events(), expected, "said once");
        assert_eq!(client.serve(&format!("{letter} a:1 z:1")), [format!("{letter} z:1")]);
    }
}

#[test]
fn d7_what_goes_is_removed_and_what_comes_again_is_sent() {
    for letter in ["C", "E", "L", "R"] {
        let mut client = Client::delta(&format!("{letter} a:1 b:1"));
        client.ask(&format!("{letter} +a +b"));
        client.ack(letter);
        assert_eq!(client.serve(&format!("{letter} b:1")), [format!("{letter} -a")]);
        client.ack(letter);
        assert_eq!(client.serve(&format!("{letter} b:1")), NOTHING);
        assert_eq!(client.serve(&format!("{letter} a:1 b:1")), [format!("{letter} a:1")]);
    }
}

#[test]
fn d7_a_secret_or_extension_config_that_goes_stays_with_the_client() {
    for letter in ["S", "X"] {
        let mut client = Client::delta(&format!("{letter} a:1"));
        client.ask(&format!("{letter} +a"));
        client.ack(letter);
        assert_eq!(client.serve(""), NOTHING);
        assert_eq!(client.serve(&format!("{letter} a:1")), NOTHING, "it still has it");
        client.serve("");
        client.ask(&format!("{letter} -a"));
        assert_eq!(client.ask(&format!("{letter} +a")), NOTHING);
        assert_eq!(client.serve(&format!("{letter} a:1")), [format!("{letter} a:1")], "now it has not");
    }
}

#[test]
fn d8_only_what_changed_is_sent() {
    let clusters = |changed: usize| {
        let entry = |number| format!("c{number:03}:{}", if number == changed { 2 } else { 1 });
        format!("C {}", (0..500).map(entry).collect::<Vec<_>>().join(" "))
    };
    let mut client = Client::delta(&clusters(999));
    client.ask("C");
    client.ack("C");
    assert_eq!(client.serve(&clusters(250)), ["C c250:2"]);
}

#[test]
fn d9_a_client_that_came_back_is_sent_what_differs() {
    let mut client = Client::delta("C same:1 changed:2 new:1; L l:1; E e:1 f:2");
    // Removal waits for the listeners, which may still use the clusters.
    assert_eq!(client.come_back("C", "same:1 changed:1 gone:1"), ["C changed:2 new:1"]);
    assert_eq!(client.ack("C"), NOTHING);
    assert_eq!(client.come_back("L", "l:1"), ["C -gone"]);
    assert_eq!(client.come_back("E +e +f", "e:1 f:1 g:1"), ["E f:2"], "g is not subscribed to");
    client.ack("E");
    assert_eq!(client.ask("E +g"), ["E -g"]);
    let events = client.take_events();
    assert_eq!(events[0], "C reported changed:1 gone:1 same:1");
    assert!(events.contains(&"E subscribed e:1 f:1".to_owned()), "{events:?}");
}

#[test]
fn d9_with_everything_equal_nothing_is_sent() {
    let mut client = Client::delta("C a:1; E a:1; S s:1; L l:1");
    assert_eq!(client.come_back("C", "a:1"), NOTHING);
    assert_eq!(client.come_back("E +a", "a:1"), NOTHING);
    assert_eq!(client.come_back("S +s", "s:1"), NOTHING);
    assert_eq!(client.come_back("L", "l:1"), NOTHING);
    assert_eq!(client.serve("C a:1; E a:1; S s:2; L l:1"), ["S s:2"]);
}

#[test]
fn d9_what_a_held_stream_reports_is_kept() {
    let mut client = Client::new(Variant::Delta);
    assert_eq!(client.come_back("C", "a:1 b:1 c:1"), NOTHING);
    assert_eq!(client.come_back("L", "l:1"), NOTHING);
    assert_eq!(client.serve("C a:1 b:2; L l:1"), ["C b:2"]);
    assert_eq!(client.ack("C"), ["C -c"]);
}

#[test]
fn d9_a_vanished_secret_is_left_alone() {
    let mut client = Client::delta("");
    assert_eq!(client.come_back("S +s", "s:1"), NOTHING);
    assert_eq!(client.serve("S s:1"), NOTHING);
    assert_eq!(client.serve("S s:2"), ["S s:2"]);
}

#[test]
fn d10_a_version_is_of_one_resource() {
    let mut client = Client::delta("");
    let cluster = |name: &str, value: &[u8]| Resource::new(ResourceType::Cluster, name, value);
    client.serve_snapshot(Snapshot::builder().with(cluster("a", b"1")).with(cluster("b", b"1")).build());
    client.ask("C");
    let versions = |client: &Client| -> Vec<String> {
        client.last("C").resources().iter().map(|resource| resource.version().to_owned()).collect()
    };
    let [a, b] = versions(&client).try_into().expect("two");
    assert_eq!(a, b, "equal content, equal version");
    assert_eq!(client.last("C").version_info(), "");
}

#[test]
fn a_placeholder_is_for_a_client_that_has_nothing() {
    let mut client = Client::delta("E a:0? b:0?");
    assert_eq!(client.come_back("E +a +b", "a:7"), ["E b:0"]);
    client.ack("E");
    assert_eq!(client.serve("E a:1 b:1"), ["E a:1 b:1"]);
    client.ack("E");
    assert_eq!(client.serve("E a:0? b:1"), NOTHING, "it has something better");
    client.ask("E -a");
    assert_eq!(client.ask("E +a"), ["E a:0"], "it has nothing again");
}

#[test]
fn what_is_held_is_never_sent() {
    let mut client = Client::delta("S identity_cert:7!");
    assert_eq!(client.come_back("S +identity_cert", "identity_cert:7"), NOTHING);
    assert_eq!(client.take_events()[1..], ["S subscribed identity_cert:7"]);
    assert_eq!(client.ask("S +identity_cert"), NOTHING, "asked anew: there is no body");
    assert_eq!(client.take_events(), ["S subscribed identity_cert"]);
    assert_eq!(client.serve("S identity_cert:8"), ["S identity_cert:8"]);
    client.ack("S");

    let mut client = Client::delta("S identity_cert:7!");
    assert_eq!(client.come_back("S +identity_cert", "identity_cert:6"), NOTHING);
    assert_eq!(client.serve("S identity_cert:8"), ["S identity_cert:8"]);
}

#[test]
fn a_large_response_is_split_and_counts_until_the_last_part_is_accepted() {
    let resource = |name: &str, fill: u8| {
        Resource::with_version(ResourceType::Cluster, name, fill.to_string(), &vec![fill; 400_000])
    };
    let all = |fill| {
        let names = ["a", "b", "c", "d", "e"];
        names.iter().fold(Snapshot::builder(), |builder, name| builder.with(resource(name, fill))).build()
    };
    let mut client = Client::delta("");
    client.serve_snapshot(all(1));
    assert_eq!(client.ask("C"), ["C a:1 b:1", "C c:1 d:1", "C e:1"]);
    assert_eq!(client.nonce("C"), "3", "consecutive");
    assert_eq!(client.serve_snapshot(all(2)), NOTHING);
    for part in ["1", "2"] {
        assert_eq!(client.answer(ResourceType::Cluster, part, None), NOTHING);
    }
    assert_eq!(client.ack("C"), ["C a:2 b:2", "C c:2 d:2", "C e:2"]);
}

#[test]
fn between_the_parts_of_a_response_the_latest_wins_and_parts_end() {
    let resource = |name: &str, version: u8| {
        Resource::with_version(ResourceType::Cluster, name, version.to_string(), &[0; 600_000])
    };
    let both = |a, b| Snapshot::builder().with(resource("a", a)).with(resource("b", b)).build();
    let mut client = Client::delta("");
    client.serve_snapshot(both(1, 1));
    client.session.on_request(first_request(), &mut client.events).expect("good");
    let poll = |client: &mut Client| client.session.poll(&mut client.events).map(|one| crate::script::show(&one));
    assert_eq!(poll(&mut client).as_deref(), Some("C a:1"));
    client.session.on_state(kuma_xds::StreamState::Serve(both(2, 2).into()));
    client.answer(ResourceType::Cluster, "1", None);
    assert_eq!(client.last("C").resources()[0].version(), "2");
    assert_eq!(client.nonce("C"), "2", "b, once; a waits for the answer");
    assert_eq!(client.ack("C"), ["C a:2"]);
}

fn first_request() -> kuma_xds::Request {
    kuma_xds::Request::Delta(kuma_xds::DeltaDiscoveryRequest {
        node: Some(kuma_xds::Node { id: "default.web-1".to_owned(), ..Default::default() }),
        type_url: ResourceType::Cluster.type_url().to_owned(),
        ..Default::default()
    })
}
