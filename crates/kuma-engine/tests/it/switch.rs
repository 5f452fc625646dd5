//! mTLS is enabled and disabled in an order in which no client sends plain text to a server that expects TLS.

use std::time::Duration;

use kuma_engine::Progress;
use kuma_xds::ResourceType;

use crate::support::{Mesh, Stream, ca, mesh, permission, redis, web};

/// Time after a switch in which both sides have got it.
const DONE: Duration = Duration::from_secs(1);

/// redis-1, and web-1 with an outbound to it, connected and up to date, with mTLS or without.
fn connected(durable: bool, mtls: bool) -> (Mesh, Stream, Stream) {
    let mut life = Mesh::new(durable);
    life.write(&[&mesh(mtls), &ca(), &redis(), &web(), &permission("all", "*", "*")]);
    let (web, redis) = (life.open_with_identity("web-1"), life.open_with_identity("redis-1"));
    life.accept(&web);
    life.accept(&redis);
    (life, web, redis)
}

/// Whether web connects with TLS, and whether redis requires it.
fn tls(web: &Stream, redis: &Stream) -> (bool, bool) {
    let has = |stream: &Stream, kind, name| {
        let served = stream.served().expect("it is served");
        let resource = served.get(kind, name).expect("it is there").clone();
        resource.delta_entry().windows(17).any(|text| text == b"transport_sockets")
    };
    (has(web, ResourceType::Cluster, "redis"), has(redis, ResourceType::Listener, "inbound:10.0.0.2:9000"))
}

#[test]
fn clients_are_told_first_that_it_is_on_and_servers_that_it_is_off() {
    for before in [false, true] {
        let (mut life, web, redis) = connected(true, before);
        assert_eq!(tls(&web, &redis), (before, before));
        life.write(&[&mesh(!before)]);
        assert_eq!(tls(&web, &redis), (true, false), "on before: {before}");
        life.pass(DONE);
        assert_eq!(tls(&web, &redis), (!before, !before));
    }
}

/// A receipt of a switch waits for both sides.
#[test]
fn a_switch_is_live_when_both_sides_have_accepted_it() {
    for before in [false, true] {
        let (mut life, web, redis) = connected(true, before);
        life.write(&[&mesh(!before)]);
        let (at, progress) = (life.revision, |life: &Mesh, at| life.engine.progress(at).expect("it is remembered"));
        for stream in [&web, &redis] {
            life.accept(stream);
        }
        assert_eq!(progress(&life, at), Progress::Spreading);
        life.pass(DONE);
        for stream in [&web, &redis] {
            assert_eq!(progress(&life, at), Progress::Spreading);
            life.accept(stream);
        }
        assert_eq!(progress(&life, at), Progress::Live);
    }
}

/// A commit during a switch takes effect after it, without a delay.
#[test]
fn the_next_change_ends_a_switch() {
    let (mut life, web, redis) = connected(true, false);
    life.write(&[&mesh(true)]);
    life.write(&[&permission("one", "web", "redis")]);
    assert_eq!(tls(&web, &redis), (true, true));
    for stream in [&web, &redis] {
        life.accept(stream);
    }
    for revision in [life.revision - 1, life.revision] {
        let progress = life.engine.progress(revision).expect("it is remembered");
        assert!(matches!(progress, Progress::Live | Progress::Superseded), "{progress:?}");
    }
    assert_eq!(life.engine.audit(10), Vec::<String>::new());
}

/// After a restart with the memory store, a Mesh with mTLS that is written again is not treated as a switch: inbounds
/// do not accept plain text in between.
#[test]
fn a_mesh_that_is_written_again_is_no_switch() {
    let mut life = Mesh::new(false);
    let (web_stream, redis_stream) = (life.open("web-1", true), life.open("redis-1", true));
    for document in [redis(), web(), ca(), mesh(true)] {
        life.write(&[&document]);
    }
    assert!(redis_stream.is_held() || tls(&web_stream, &redis_stream).1, "an inbound in plain text");
    life.pass(Duration::from_secs(60));
    life.engine.wants_identity(redis_stream.id, life.now);
    assert_eq!(tls(&web_stream, &redis_stream), (true, true));
}
