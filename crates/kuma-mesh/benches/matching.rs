//! What a mesh answers: which policy applies, who is permitted, what a change concerns. `make microbench`

#[path = "support/mesh.rs"]
mod mesh;

use std::sync::Arc;

use divan::{AllocProfiler, Bencher, black_box};
use kuma_mesh::MeshSnapshot;
use kuma_model::TrafficPermission;

use mesh::{BASE, dataplane, parsed, permission, route, spec};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Policies beside the one for all.
const POLICIES: [usize; 3] = [0, 100, 2000];

fn with_permissions(count: usize) -> MeshSnapshot {
    let mut snapshot = BASE.snapshot();
    for number in 0..count {
        let (from, to) = (format!("svc-{}", number % 200), format!("svc-{}", (number * 7) % 200));
        let document = parsed(&permission(&format!("policy-{number}"), &from, &to));
        snapshot.set_permission(&document.key.name, Some(Arc::new(spec(&document))));
    }
    snapshot
}

fn with_routes(count: usize) -> MeshSnapshot {
    let mut snapshot = BASE.snapshot();
    for number in 0..count {
        let (from, to) = (format!("svc-{}", number % 200), format!("svc-{}", (number * 7) % 200));
        let document = parsed(&route(&format!("route-{number}"), &from, &to));
        snapshot.set_route(&document.key.name, Some(Arc::new(spec(&document))));
    }
    snapshot
}

/// Where the 20 outbounds of a proxy go.
#[divan::bench(args = POLICIES)]
fn routes_of_a_proxy(bencher: Bencher<'_, '_>, policies: usize) {
    let snapshot = with_routes(policies);
    let proxy = dataplane(&snapshot, 7);
    bencher.bench_local(|| {
        for outbound in &proxy.outbounds {
            black_box(snapshot.destinations(&proxy, &outbound.service));
        }
    });
}

/// Who may come in, and which of the 20 outbounds may go out.
#[divan::bench(args = POLICIES)]
fn permissions_of_a_proxy(bencher: Bencher<'_, '_>, policies: usize) {
    let snapshot = with_permissions(policies);
    let proxy = dataplane(&snapshot, 7);
    bencher.bench_local(|| {
        for inbound in &proxy.inbounds {
            black_box(snapshot.admitted(inbound));
        }
        for outbound in &proxy.outbounds {
            let destinations = snapshot.destinations(&proxy, &outbound.service);
            black_box(snapshot.flow(&proxy, &outbound.service, &destinations));
        }
    });
}

/// A Dataplane moves to another address.
#[divan::bench]
fn an_endpoint_changes(bencher: Bencher<'_, '_>) {
    let mut snapshot = BASE.snapshot();
    let versions = ["10.99.0.1", "10.99.0.2"].map(|address| parsed(&BASE.dataplane(7, Some(address))));
    let mut turn = 0;
    bencher.bench_local(|| {
        turn = 1 - turn;
        snapshot.set_dataplane(&versions[turn].key.name, Some(spec(&versions[turn])))
    });
}

/// A permission of all services comes and goes.
#[divan::bench(args = POLICIES)]
fn a_permission_of_all_changes(bencher: Bencher<'_, '_>, policies: usize) {
    let mut snapshot = with_permissions(policies);
    let document = parsed(&permission("another", "*", "*"));
    let policy: Arc<TrafficPermission> = Arc::new(spec(&document));
    let mut there = false;
    bencher.bench_local(|| {
        there = !there;
        snapshot.set_permission(&document.key.name, there.then(|| policy.clone()))
    });
}
