//! The resources that a client has refused, or waits for, are recorded with their revisions.

use kuma_xds::{Event, ResourceType};

use crate::script::{Client, snapshot};

/// Names of resources, each with a revision.
type Names = Vec<(String, u64)>;

/// The revision that was settled last, with the names of what is refused and of what is unanswered, each with its
/// revision.
fn settled(client: &mut Client) -> Option<(u64, Names, Names)> {
    let events = std::mem::take(&mut client.events);
    events.into_iter().rev().find_map(|event| match event {
        Event::Settled { revision, refused, unanswered, .. } => Some((
            revision,
            refused.into_iter().map(|one| (one.name.to_string(), one.revision)).collect(),
            unanswered.into_iter().map(|one| (one.name.to_string(), one.revision)).collect(),
        )),
        _ => None,
    })
}

fn at(revision: u64, text: &str) -> kuma_xds::Snapshot {
    let mut builder = kuma_xds::Snapshot::builder().revision(revision);
    for list in ResourceType::ALL.map(|kind| snapshot(text).list(kind).clone()) {
        for resource in list.iter() {
            builder.insert(resource.clone());
        }
    }
    builder.build()
}

fn names(list: &[(&str, u64)]) -> Names {
    list.iter().map(|(name, revision)| ((*name).to_owned(), *revision)).collect()
}

#[test]
fn an_ack_of_another_listener_ends_no_refusal() {
    let mut client = Client::delta("");
    client.serve_snapshot(at(1, "L a:1 b:1"));
    client.ask("L");
    client.ack("L");
    client.serve_snapshot(at(2, "L a:2 b:1"));
    client.nack("L", "Error adding/updating listener(s) a: cannot bind");
    assert_eq!(settled(&mut client), Some((2, names(&[("a", 2)]), vec![])));
    client.serve_snapshot(at(3, "L a:2 b:2"));
    client.ack("L");
    assert_eq!(settled(&mut client), Some((3, names(&[("a", 2)]), vec![])), "b proves nothing of a");
    client.serve_snapshot(at(4, "L a:3 b:2"));
    client.ack("L");
    assert_eq!(settled(&mut client), Some((4, vec![], vec![])), "a later version of a was accepted");
}

#[test]
fn the_reason_says_which_resources_are_refused_and_without_names_all_are() {
    for (reason, refused) in [
        ("listener(s) b: bad", vec!["b"]),
        ("listener(s) a: bad, c: worse", vec!["a", "c"]),
        ("something is wrong", vec!["a", "b", "c"]),
    ] {
        let mut client = Client::delta("");
        client.serve_snapshot(at(7, "L a:1 b:1 c:1"));
        client.ask("L");
        client.nack("L", reason);
        let refused: Names = refused.iter().map(|name| ((*name).to_owned(), 7)).collect();
        assert_eq!(settled(&mut client), Some((7, refused, vec![])), "{reason}");
    }
}

#[test]
fn a_refusal_ends_when_the_resource_is_taken_away() {
    for mut client in [Client::sotw(""), Client::delta("")] {
        client.serve_snapshot(at(1, "L a:1 b:1"));
        client.ask("L");
        client.nack("L", "a: bad");
        assert_eq!(settled(&mut client).map(|settled| settled.1), Some(names(&[("a", 1)])));
        client.serve_snapshot(at(2, "L b:1"));
        client.ack("L");
        assert_eq!(settled(&mut client), Some((2, vec![], vec![])));
    }
}

#[test]
fn what_was_refused_is_sent_once_more_when_asked_to() {
    for mut client in [Client::sotw(""), Client::delta("")] {
        client.serve_snapshot(at(1, "L a:1 b:1"));
        client.ask("L");
        assert!(!client.session.has_refused());
        client.nack("L", "a: the port is taken");
        assert!(client.session.has_refused());
        client.session.retry();
        let sent = client.drain();
        assert!(sent.iter().any(|text| text.contains("a:1")), "{sent:?}");
        client.ack("L");
        assert!(!client.session.has_refused());
        assert_eq!(settled(&mut client), Some((1, vec![], vec![])));
    }
}

/// A listener that refers to a secret that does not exist is accepted and does not work.
#[test]
fn a_name_without_an_answer_is_told_until_it_has_one() {
    for (mut client, secret) in [(Client::sotw(""), "S s"), (Client::delta(""), "S +s")] {
        client.serve_snapshot(at(1, "L a:1"));
        client.ask("L");
        client.ack("L");
        client.ask("E");
        client.ask(secret);
        assert_eq!(settled(&mut client), Some((1, vec![], names(&[("s", 1)]))));
        // An endpoint cannot refer to it; a listener that is sent now may do so.
        client.serve_snapshot(at(2, "L a:1; E e:1"));
        assert_eq!(settled(&mut client), Some((2, vec![], names(&[("s", 1)]))));
        client.serve_snapshot(at(3, "L a:2; E e:1"));
        client.ack("L");
        assert_eq!(settled(&mut client), Some((3, vec![], names(&[("s", 3)]))));
        client.serve_snapshot(at(4, "L a:2; E e:1; S s:1"));
        client.ack("S");
        assert_eq!(settled(&mut client), Some((4, vec![], vec![])));
    }
}

/// Whether the client keeps an older version of what it has refused, by name.
fn has_older(client: &mut Client) -> Vec<(String, u64, bool)> {
    let events = std::mem::take(&mut client.events);
    let last = events.into_iter().rev().find_map(|event| match event {
        Event::Settled { refused, .. } => Some(refused),
        _ => None,
    });
    let told = last.into_iter().flatten().map(|one| (one.name.to_string(), one.revision, one.has_older));
    told.collect()
}

#[test]
fn a_refusal_says_whether_there_is_an_older_version_and_since_when() {
    let mut client = Client::delta("");
    client.serve_snapshot(at(1, "L a:1"));
    client.ask("L");
    client.ack("L");
    client.serve_snapshot(at(2, "L a:2 b:1"));
    client.nack("L", "a: bad, b: bad");
    let refused = |a: u64, b: u64| vec![("a".to_owned(), a, true), ("b".to_owned(), b, false)];
    assert_eq!(has_older(&mut client), refused(2, 2));
    client.serve_snapshot(at(3, "L a:3 b:2"));
    client.nack("L", "a: bad, b: bad");
    assert_eq!(has_older(&mut client), refused(3, 3), "the refused version is no older version");
    client.serve_snapshot(at(9, "L a:3 b:2; E e:1"));
    client.session.retry();
    client.drain();
    client.nack("L", "a: bad, b: bad");
    assert_eq!(has_older(&mut client), refused(3, 3), "a retry makes it no refusal of the latest revision");
}
