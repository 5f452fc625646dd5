//! Rules of the state-of-the-world variant, S1 to S5.

use kuma_xds::Variant;

use crate::script::Client;

const NOTHING: [&str; 0] = [];

#[test]
fn s1_a_request_with_a_stale_nonce_is_as_if_it_had_never_come() {
    let mut client = Client::sotw("E a:1 b:1");
    assert_eq!(client.ask("E a"), ["E a:1"]);
    client.ack("E");
    let stale = client.nonce("E");
    assert_eq!(client.serve("E a:2 b:1"), ["E a:2"]);
    client.take_events();
    assert_eq!(client.ask_with_nonce("E a b", &stale), NOTHING);
    for nonsense in ["", "x", "99"] {
        assert_eq!(client.ask_with_nonce("E a b", nonsense), NOTHING);
    }
    assert_eq!(client.take_events(), NOTHING);
    assert_eq!(client.ask("E a b"), ["E b:1"], "with the fresh one it counts");
    assert_eq!(client.take_events(), ["E acked", "E subscribed b"]);
}

#[test]
fn s2_clusters_and_listeners_are_sent_whole() {
    for letter in ["C", "L"] {
        let mut client = Client::sotw(&format!("{letter} a:1 b:1 c:1"));
        assert_eq!(client.ask(letter), [format!("{letter} a:1 b:1 c:1")]);
        client.ack(letter);
        assert_eq!(client.serve(&format!("{letter} a:1 b:2 c:1")), [format!("{letter} a:1 b:2 c:1")]);
        client.ack(letter);
        assert_eq!(client.serve(&format!("{letter} a:1 c:1")), [format!("{letter} a:1 c:1")]);
        client.ack(letter);
        assert_eq!(client.serve(""), [letter], "empty deletes all");
        assert_eq!(client.ack(letter), NOTHING);
    }
}

#[test]
fn s3_of_endpoints_and_routes_those_that_changed() {
    for letter in ["E", "R"] {
        let mut client = Client::sotw(&format!("{letter} a:1 b:1"));
        assert_eq!(client.ask(&format!("{letter} a b c")), [format!("{letter} a:1 b:1")]);
        client.ack(letter);
        assert_eq!(client.serve(&format!("{letter} a:1 b:2")), [format!("{letter} b:2")]);
        client.ack(letter);
        assert_eq!(client.serve(&format!("{letter} b:2")), NOTHING, "deletion is implicit");
        assert_eq!(client.serve(&format!("{letter} a:1 b:2")), [format!("{letter} a:1")], "and over");
    }
}

#[test]
fn s3_secrets_and_extension_configs_are_sent_whole_and_stay() {
    for letter in ["S", "X"] {
        let mut client = Client::sotw(&format!("{letter} a:1 b:1"));
        assert_eq!(client.ask(&format!("{letter} a b")), [format!("{letter} a:1 b:1")]);
        client.ack(letter);
        assert_eq!(client.serve(&format!("{letter} a:2 b:1")), [format!("{letter} a:2 b:1")]);
        client.ack(letter);
        assert_eq!(client.serve(&format!("{letter} b:1")), NOTHING);
        assert_eq!(
            client.serve(&format!("{letter} b:2")),
            [format!("{letter} a:2 b:2")],
            "to Envoy its absence would be an error"
        );
    }
}

#[test]
fn s4_omission_unsubscribes() {
    let mut client = Client::sotw("E a:1 b:1");
    client.ask("E a b");
    assert_eq!(client.ask("E b"), NOTHING);
    assert_eq!(client.serve("E a:2 b:1"), NOTHING);
    assert_eq!(client.ask("E"), NOTHING);
    assert_eq!(client.serve("E a:3 b:3"), NOTHING);
    let events = client.take_events();
    assert_eq!(events[1..], ["E acked", "E unsubscribed a", "E unsubscribed b"]);
}

#[test]
fn s5_an_equal_version_spares_a_pure_wildcard() {
    let mut first = Client::sotw("C a:1 b:1");
    first.ask("C");
    let version = first.last("C").version_info().to_owned();

    let mut client = Client::sotw("C a:1 b:1");
    assert_eq!(client.come_back("C", &version), NOTHING);
    assert_eq!(client.take_events(), ["C reported ", "C subscribed *"]);
    assert_eq!(client.serve("C a:1 b:2"), ["C a:1 b:2"], "and it is known what the client holds");

    let mut client = Client::sotw("C a:1 b:2");
    assert_eq!(client.come_back("C", &version), ["C a:1 b:2"]);

    let mut client = Client::sotw("C a:1 b:1");
    assert_eq!(client.come_back("C * a", &version), ["C a:1 b:1"], "not a pure one");
}

#[test]
fn s5_an_equal_version_does_not_spare_names() {
    let mut first = Client::sotw("E a:1");
    first.ask("E a");
    let version = first.last("E").version_info().to_owned();
    let mut client = Client::sotw("E a:1 b:1");
    assert_eq!(client.come_back("E a b", &version), ["E a:1 b:1"]);
}

#[test]
fn s5_what_a_held_stream_reports_is_kept() {
    let mut first = Client::sotw("C a:1");
    first.ask("C");
    let version = first.last("C").version_info().to_owned();
    let mut client = Client::new(Variant::Sotw);
    assert_eq!(client.come_back("C", &version), NOTHING);
    assert_eq!(client.serve("C a:1"), NOTHING);
}

#[test]
fn a_placeholder_takes_nothing_from_a_client_that_came_back() {
    let mut client = Client::sotw("E a:0? b:1");
    assert_eq!(client.come_back("E a b", "some"), ["E b:1"]);
    client.ack("E");
    assert_eq!(client.serve("E a:1 b:1"), ["E a:1"]);

    let mut client = Client::sotw("E a:0?");
    assert_eq!(client.ask("E a"), ["E a:0"], "it has nothing");
}
