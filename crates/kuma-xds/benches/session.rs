//! One stream of the protocol: what a client costs that connects, is changed, answers or comes back. `make microbench`

use std::collections::BTreeMap;
use std::sync::Arc;

use divan::{AllocProfiler, Bencher, black_box};
use kuma_xds::{
    DeltaDiscoveryRequest, Node, Request, Resource, ResourceType, Response, Session, Snapshot, StreamState, Variant,
};
use prost::Message as _;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Services that the client dials.
const SERVICES: usize = 20;

/// As large as what kuma-envoy makes.
fn resource(resource_type: ResourceType, name: &str, size: usize, edition: u8) -> Arc<Resource> {
    let resource = Resource::new(resource_type, name, &vec![edition; size]);
    Arc::new(match resource_type {
        ResourceType::Cluster => resource.requiring([(ResourceType::Endpoint, Arc::from(name))]),
        _ => resource,
    })
}

/// A proxy with 20 outbounds; the endpoints of the first service are of this edition.
fn snapshot(edition: u8) -> Snapshot {
    let mut builder = Snapshot::builder().revision(u64::from(edition));
    for service in 0..SERVICES {
        let name = format!("svc-{service}");
        let edition = if service == 0 { edition } else { 0 };
        builder.insert(resource(ResourceType::Cluster, &name, 550, 0));
        builder.insert(resource(ResourceType::Endpoint, &name, 600, edition));
        builder.insert(resource(ResourceType::Listener, &format!("outbound-{service}"), 500, 0));
        builder.insert(resource(ResourceType::ExtensionConfig, &format!("split-{service}"), 150, 0));
    }
    builder.build()
}

fn names(resource_type: ResourceType) -> Vec<String> {
    let name = |service| match resource_type {
        ResourceType::Endpoint => format!("svc-{service}"),
        _ => format!("split-{service}"),
    };
    match resource_type {
        ResourceType::Cluster | ResourceType::Listener => Vec::new(),
        _ => (0..SERVICES).map(name).collect(),
    }
}

const ASKED: [ResourceType; 4] =
    [ResourceType::Cluster, ResourceType::Endpoint, ResourceType::Listener, ResourceType::ExtensionConfig];

fn ask(resource_type: ResourceType, held: BTreeMap<String, String>) -> Request {
    Request::Delta(DeltaDiscoveryRequest {
        node: Some(Node { id: "default.web-1".into(), ..Default::default() }),
        type_url: resource_type.type_url().into(),
        resource_names_subscribe: names(resource_type),
        initial_resource_versions: held,
        ..Default::default()
    })
}

fn ack(response: &Response) -> Request {
    Request::Delta(DeltaDiscoveryRequest {
        type_url: response.resource_type().type_url().into(),
        response_nonce: response.nonce(),
        ..Default::default()
    })
}

/// Sends all there is, each answered at once; how many responses it took.
fn settle(session: &mut Session) -> usize {
    let mut events = Vec::new();
    let mut responses = 0;
    while let Some(response) = session.poll(&mut events) {
        session.on_request(ack(&response), &mut events).expect("an ACK is fine");
        black_box(response.into_message());
        responses += 1;
    }
    responses
}

/// A client that has everything.
fn settled(state: &StreamState) -> Session {
    let mut session = Session::new(Variant::Delta);
    session.on_state(state.clone());
    for resource_type in ASKED {
        session.on_request(ask(resource_type, BTreeMap::new()), &mut Vec::new()).expect("fine");
        settle(&mut session);
    }
    session
}

/// A client connects and gets 80 resources.
#[divan::bench]
fn a_cold_client(bencher: Bencher<'_, '_>) {
    let state = StreamState::Serve(Arc::new(snapshot(0)));
    bencher.bench_local(|| settled(&state));
}

/// A client comes back with all that it should have.
#[divan::bench]
fn a_client_that_comes_back(bencher: Bencher<'_, '_>) {
    let snapshot = Arc::new(snapshot(0));
    let held =
        |kind| snapshot.list(kind).iter().map(|one| (one.name().to_string(), one.version().to_owned())).collect();
    let requests = ASKED.map(|kind| ask(kind, held(kind)));
    bencher.with_inputs(|| requests.clone()).bench_local_values(|requests| {
        let mut session = Session::new(Variant::Delta);
        session.on_state(StreamState::Serve(snapshot.clone()));
        for request in requests {
            session.on_request(request, &mut Vec::new()).expect("fine");
        }
        assert_eq!(settle(&mut session), 0);
        session
    });
}

/// The endpoints of one service change.
#[divan::bench]
fn one_change(bencher: Bencher<'_, '_>) {
    let first = Arc::new(snapshot(1));
    let changed = {
        let mut builder = first.to_builder().revision(2);
        builder.insert(resource(ResourceType::Endpoint, "svc-0", 600, 2));
        Arc::new(builder.build_after(&first))
    };
    let states = [first, changed].map(StreamState::Serve);
    let mut session = settled(&states[0]);
    let mut turn = 0;
    bencher.bench_local(|| {
        turn = 1 - turn;
        session.on_state(states[turn].clone());
        assert_eq!(settle(&mut session), 1);
    });
}

/// A state comes that changes nothing for the client.
#[divan::bench]
fn no_change(bencher: Bencher<'_, '_>) {
    let state = StreamState::Serve(Arc::new(snapshot(0)));
    let mut session = settled(&state);
    bencher.bench_local(|| {
        session.on_state(state.clone());
        assert_eq!(settle(&mut session), 0);
    });
}

/// An ACK as it comes over the wire.
#[divan::bench]
fn decode_an_ack(bencher: Bencher<'_, '_>) {
    let message = DeltaDiscoveryRequest {
        type_url: ResourceType::Cluster.type_url().into(),
        response_nonce: "17".into(),
        ..Default::default()
    };
    let message = message.encode_to_vec();
    bencher.bench_local(|| Request::decode(Variant::Delta, &message));
}

/// The first request of an Envoy, most of which is a list of extensions that nobody reads: 61 KB.
#[divan::bench]
fn decode_a_first_request(bencher: Bencher<'_, '_>) {
    let node = Node { id: "default.web-1".into(), ..Default::default() };
    let mut node = node.encode_to_vec();
    for index in 0..516 {
        let name = format!("envoy.filters.of.some.kind.{index:06}.{}", "x".repeat(80));
        // Field 9, the extensions, each with a name in field 1.
        let lengths = [name.len() as u8 + 2, 0x0a, name.len() as u8];
        node.extend([0x4a].into_iter().chain(lengths).chain(name.bytes()));
    }
    let mut message = vec![0x0a];
    prost::encoding::encode_varint(node.len() as u64, &mut message);
    message.extend(node);
    let rest = DeltaDiscoveryRequest { type_url: ResourceType::Cluster.type_url().into(), ..Default::default() };
    message.extend(rest.encode_to_vec());
    bencher.bench_local(|| Request::decode(Variant::Delta, &message).expect("a request"));
}
