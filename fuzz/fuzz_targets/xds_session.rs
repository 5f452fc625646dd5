//! A stream of xDS: requests as they come, between changes of what is to be served. The first byte chooses the variant
//! of the protocol; then each step is a byte with what it is, one with its length, and that many bytes.
#![no_main]

use std::sync::{Arc, LazyLock};

use bytes::Buf as _;
use kuma_xds::grpc::{FrameDecoder, PREFIX_LENGTH};
use kuma_xds::{Request, Resource, ResourceType, Session, Snapshot, StreamState, Variant};
use libfuzzer_sys::fuzz_target;

/// Three states of the world, with every type in them; the last is empty.
static WORLDS: LazyLock<[Arc<Snapshot>; 3]> = LazyLock::new(|| {
    let world = |version: &[u8]| {
        let types = ResourceType::ALL.into_iter();
        let resources = types.flat_map(|of| ["a", "b"].map(|name| Resource::new(of, name, version)));
        let cluster =
            Resource::new(ResourceType::Cluster, "c", version).requiring([(ResourceType::Endpoint, "a".into())]);
        Arc::new(resources.chain([cluster]).fold(Snapshot::builder(), |world, resource| world.with(resource)).build())
    };
    [world(b"1"), world(b"22"), Arc::new(Snapshot::default())]
});

fuzz_target!(|input: &[u8]| {
    let Some((first, mut steps)) = input.split_first() else { return };
    let variant = if first & 1 == 0 { Variant::Delta } else { Variant::Sotw };
    let mut session = match first >> 1 & 7 {
        0..=5 => Session::new(variant),
        of => Session::of_type(variant, ResourceType::ALL[usize::from(of) - 6]),
    };
    let mut events = Vec::new();
    while let [kind, length, rest @ ..] = steps {
        let (step, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        steps = rest;
        match kind {
            0..=2 => session.on_state(StreamState::Serve(WORLDS[usize::from(*kind)].clone())),
            3 => session.on_state(StreamState::Hold),
            _ => {
                let Ok(request) = Request::decode(variant, step) else { return };
                if session.on_request(request, &mut events).is_err() {
                    return;
                }
            }
        }
        let mut sent = 0;
        while let Some(response) = session.poll(&mut events) {
            for resource in response.resources() {
                let known = |world: &Arc<Snapshot>| world.get(resource.resource_type(), resource.name()).is_some();
                assert!(WORLDS.iter().any(known), "{resource:?} is of no world");
            }
            let mut names: Vec<&str> = response.resources().iter().map(|resource| &**resource.name()).collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|two| two[0] != two[1]), "C10: {names:?}");
            let mut message = response.into_message();
            let length = message.remaining();
            let mut decoder = FrameDecoder::new(length);
            decoder.push(message.copy_to_bytes(length));
            let read = decoder.next_message().expect("a good message").expect("a whole message");
            assert_eq!(read.len() + PREFIX_LENGTH, length);
            sent += 1;
            assert!(sent < 64, "it has always more to say");
        }
    }
});
