//! Order between types, O1 to O3.

use crate::script::Client;

const NOTHING: [&str; 0] = [];

/// A client of either variant that is subscribed as Envoy is, and has accepted all.
fn both(text: &str) -> [Client; 2] {
    let mut sotw = Client::sotw(text);
    let mut delta = Client::delta(text);
    for request in ["C", "E a b", "S s", "L", "X x", "R r"] {
        sotw.ask(request);
    }
    for request in ["C", "E +a +b", "S +s", "L", "X +x", "R +r"] {
        delta.ask(request);
    }
    let accept = |mut client: Client| {
        while client.ack_all() != NOTHING {}
        client.take_events();
        client
    };
    [accept(sotw), accept(delta)]
}

#[test]
fn o1_types_are_sent_in_order() {
    for mut client in both("C a:1; E a:1; S s:1; L l:1; X x:1; R r:1") {
        assert_eq!(
            client.serve("R r:2; X x:2; L l:2; S s:2; E a:2; C a:2"),
            ["C a:2", "E a:2", "S s:2", "L l:2", "X x:2", "R r:2"]
        );
    }
}

#[test]
fn o1_clusters_and_endpoints_are_taken_away_last() {
    let [mut sotw, mut delta] = both("C a:1; E a:1; L l:1; X x:1");
    let next = "C b:1; E b:1; L l:2; X x:2";
    assert_eq!(sotw.serve(next), ["C a:1 b:1", "E b:1", "L l:2", "X x:2"], "the old one is still there");
    assert_eq!(delta.serve(next), ["C b:1", "E b:1", "L l:2", "X x:2"]);
    for client in [&mut sotw, &mut delta] {
        for letter in ["C", "E", "X"] {
            assert_eq!(client.ack(letter), NOTHING);
        }
    }
    assert_eq!(sotw.ack("L"), ["C b:1"]);
    assert_eq!(sotw.ack("C"), NOTHING);
    assert_eq!(delta.ack("L"), ["C -a", "E -a"]);
    assert_eq!(delta.ack("C"), NOTHING);
}

#[test]
fn o1_a_cluster_that_comes_back_in_time_is_not_touched() {
    for mut client in both("C a:1; E a:1; L l:1") {
        client.serve("E a:1; L l:2");
        assert_eq!(client.serve("C a:1; E a:1; L l:2"), NOTHING);
        assert_eq!(client.ack("L"), NOTHING);
    }
}

#[test]
fn o1_a_refused_listener_holds_clusters_back() {
    for mut client in both("C a:1; E a:1; L l:1") {
        client.serve("E a:1; L l:2");
        assert_eq!(client.nack("L", "cannot bind"), NOTHING);
        assert_eq!(client.serve("E a:1; L l:3"), ["L l:3"]);
        assert_eq!(client.ack("L").len(), 1, "the old listener is gone, so the cluster may go");
    }
}

#[test]
fn o1_listeners_wait_for_a_new_cluster_that_waits_for_an_ack() {
    for mut client in both("C a:1; E a:1; L l:1; S s:1") {
        client.serve("C a:2; E a:1; L l:1; S s:1");
        let next = "C a:2 b:1; E a:1 b:1; L l:2; S s:2";
        assert_eq!(client.serve(next), ["E b:1", "S s:2"], "what Envoy may need to warm the cluster");
        let sent = client.ack("C");
        assert_eq!(sent.len(), 2);
        assert!(sent[0].contains("b:1"));
        assert_eq!(sent[1], "L l:2");
    }
}

/// Envoy requests the endpoints of a new cluster only when it has the cluster. A listener that is sent before them
/// would refuse its connections.
#[test]
fn o1_listeners_wait_for_a_new_cluster_to_warm() {
    let [mut sotw, mut delta] = both("C a:1; E a:1; L l:1");
    let next = "C a:1 z:1>z; E a:1 z:1; L l:2";
    assert_eq!(sotw.serve(next), ["C a:1 z:1"]);
    assert_eq!(sotw.ask("E a b z"), ["E z:1"]);
    assert_eq!(delta.serve(next), ["C z:1"]);
    assert_eq!(delta.ask("E +z"), ["E z:1"]);
    for client in [&mut sotw, &mut delta] {
        assert_eq!(client.ack("E"), NOTHING);
        assert_eq!(client.ack("C"), ["L l:2"]);
    }
}

#[test]
fn o1_listeners_do_not_wait_for_a_changed_cluster() {
    for mut client in both("C a:1; E a:1; L l:1") {
        client.serve("C a:2; E a:1; L l:1");
        assert_eq!(client.serve("C a:3; E a:1; L l:2"), ["L l:2"]);
    }
}

#[test]
fn o1_endpoints_do_not_wait_for_clusters() {
    for mut client in both("C a:1; E a:1; L l:1") {
        client.serve("C a:2; E a:1; L l:1");
        assert_eq!(client.serve("C a:2; E a:2; L l:1"), ["E a:2"]);
    }
}

#[test]
fn o1_a_client_that_comes_back_keeps_its_clusters_until_it_asks_for_listeners() {
    let mut client = Client::delta("L l:2");
    assert_eq!(client.come_back("C", "a:1"), NOTHING);
    assert_eq!(client.come_back("L", "l:1"), ["L l:2"]);
    assert_eq!(client.ack("L"), ["C -a"]);
}

#[test]
fn o2_endpoints_are_sent_again_behind_their_cluster() {
    let [mut sotw, mut delta] = both("C a:1>a b:1>b; E a:1 b:1; L l:1");
    let next = "C a:2>a b:1>b; E a:1 b:1; L l:1";
    assert_eq!(sotw.serve(next), ["C a:2 b:1", "E a:1"], "only of the one that changed");
    assert_eq!(delta.serve(next), ["C a:2", "E a:1"]);
    for client in [&mut sotw, &mut delta] {
        client.ack("E");
        assert_eq!(client.ack("C"), NOTHING);
    }
}

#[test]
fn o2_a_second_cluster_on_the_same_endpoints_gets_them() {
    for mut client in both("C a:1>a; E a:1") {
        assert_eq!(client.serve("C a:1>a z:1>a; E a:1")[1..], ["E a:1"]);
    }
}

#[test]
fn o2_endpoints_that_wait_for_an_ack_are_owed() {
    for mut client in both("C a:1>a; E a:1") {
        client.serve("C a:1>a; E a:2");
        assert_eq!(client.serve("C a:2>a; E a:2"), ["C a:2"]);
        assert_eq!(client.ack("E"), ["E a:2"]);
        client.ack("E");
        assert_eq!(client.ack("C"), NOTHING);
    }
}

/// Envoy repeats its request for endpoints when a cluster changed. It looks like an ACK of the previous response, and
/// the endpoints have been sent already.
#[test]
fn o2_the_repeated_request_is_answered_already() {
    let [mut client, _] = both("C a:1>a; E a:1");
    let before = client.nonce("E");
    assert_eq!(client.serve("C a:2>a; E a:1"), ["C a:2", "E a:1"]);
    client.take_events();
    assert_eq!(client.ask_with_nonce("E a b", &before), NOTHING);
    assert_eq!(client.take_events(), NOTHING);
    assert_eq!(client.ack("E"), NOTHING);
    assert_eq!(client.ack("C"), NOTHING);
}

#[test]
fn o2_holds_after_a_reconnect_for_endpoints_that_are_asked_for_later() {
    let mut client = Client::delta("C a:2>a b:1>b; E a:1 b:1");
    assert_eq!(client.come_back("C", "a:1 b:1"), ["C a:2"]);
    assert_eq!(client.come_back("E +a +b", "a:1 b:1"), ["E a:1"], "equal, and needed");
}

#[test]
fn o2_what_is_not_subscribed_to_is_not_sent() {
    for mut client in both("C a:1; E a:1") {
        assert_eq!(client.serve("C a:1 c:1>c; E a:1 c:1").len(), 1);
    }
}

/// They are removed when nothing needs them; until then the cluster is warmed with the endpoints that the client has.
#[test]
fn o2_endpoints_that_are_to_go_are_sent_again_first() {
    let [mut sotw, mut delta] = both("C a:1>a; E a:1; L l:1");
    let next = "C a:2>a; L l:1";
    assert_eq!(sotw.serve(next), ["C a:2", "E a:1"]);
    assert_eq!(delta.serve(next), ["C a:2", "E a:1"]);
    assert_eq!(delta.ack("E"), ["E -a"]);
    assert_eq!(delta.ack("E"), NOTHING);
    assert_eq!(delta.ack("C"), NOTHING);
}

#[test]
fn o2_what_vanished_before_a_reconnect_ends_the_wait() {
    let mut client = Client::delta("C a:2>a");
    assert_eq!(client.come_back("C", "a:1"), ["C a:2"]);
    assert_eq!(client.come_back("E +a", "a:1"), NOTHING, "listeners may still need them");
    assert_eq!(client.come_back("L", ""), ["L"]);
    assert_eq!(client.ack("L"), ["E -a"]);
}

/// The endpoints wait for the listeners, the listeners for the new cluster, and that for endpoints.
#[test]
fn o1_o2_no_wait_goes_in_a_circle() {
    let [mut sotw, mut delta] = both("C a:1>a; E a:1; L l:1");
    for client in [&mut sotw, &mut delta] {
        assert_eq!(client.serve("C a:1>a; E a:2; L l:1"), ["E a:2"]);
        let sent = client.serve("C a:2>a b:1>b; E a:2 b:1; L l:2");
        assert_eq!(sent, ["C a:2 b:1"], "endpoints wait for their ACK, the listener for b");
        assert_eq!(client.serve(""), NOTHING);
    }
    assert_eq!(sotw.ack("E"), ["E a:2"]);
    assert_eq!(delta.ack("E"), ["E a:2 -b"], "now both clusters are warm, and all goes on");
}

#[test]
fn o2_a_placeholder_takes_nothing() {
    let mut client = Client::delta("C a:2>a; E a:0?");
    assert_eq!(client.come_back("C", "a:1"), ["C a:2"]);
    assert_eq!(client.come_back("E +a", "a:7"), NOTHING);
}

#[test]
fn o2_any_type_may_require_any() {
    for mut client in both("S s:1; L l:1; X x:1") {
        assert_eq!(client.serve("S s:1; L l:2>S/s; X x:1"), ["L l:2", "S s:1"]);
        client.ack("S");
        client.ack("L");
        // The circular wait ends.
        assert_eq!(client.serve("S s:2>X/x; L l:2; X x:1>S/s").len(), 2);
        client.ack("S");
        assert_eq!(client.ack("X"), NOTHING);
    }
}

#[test]
fn o3_what_a_new_listener_refers_to_is_provided_when_it_is_asked_for() {
    let mut client = Client::delta("L l:1; R r:1");
    assert_eq!(client.ask("L"), ["L l:1"]);
    assert_eq!(client.ask("R +r"), ["R r:1"], "before the listener is accepted");
    client.ack("R");
    client.ack("L");
    assert_eq!(client.serve("L l:2; R r:1"), ["L l:2"], "unchanged, it need not be sent again");
}
