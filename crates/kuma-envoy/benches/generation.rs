//! From a mesh to the resources of a proxy, and from each of them to bytes. `make microbench`

#[path = "../../kuma-mesh/benches/support/mesh.rs"]
mod mesh;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use divan::{AllocProfiler, Bencher, black_box};
use kuma_envoy::{ResourceKey, encode, plan, plan_admission, plan_endpoints, plan_flows};

use kuma_mesh::KnownCallers;
use mesh::{BASE, Shape, dataplane};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn roots() -> Arc<str> {
    Arc::from("-----BEGIN CERTIFICATE-----\n".to_owned() + &"A".repeat(600) + "\n-----END CERTIFICATE-----\n")
}

/// Everything of a proxy with so many outbounds.
#[divan::bench(args = [5, 20, 100])]
fn plan_whole(bencher: Bencher<'_, '_>, outbounds: usize) {
    let snapshot = Shape { outbounds, ..BASE }.snapshot();
    let (proxy, roots) = (dataplane(&snapshot, 7), roots());
    bencher.bench_local(|| plan(&snapshot, &proxy, Some(&roots)));
}

/// What changes of a proxy when the endpoints of one service do.
#[divan::bench]
fn plan_one_service(bencher: Bencher<'_, '_>) {
    let snapshot = BASE.snapshot();
    let proxy = dataplane(&snapshot, 7);
    let services = BTreeSet::from([proxy.outbounds[0].service.clone()]);
    bencher.bench_local(|| plan_endpoints(&snapshot, &proxy, &services));
}

/// What changes of a proxy when a permission does that has it as a destination.
#[divan::bench]
fn plan_who_is_admitted(bencher: Bencher<'_, '_>) {
    let snapshot = BASE.snapshot();
    let (proxy, roots) = (dataplane(&snapshot, 7), roots());
    bencher.bench_local(|| plan_admission(&snapshot, &proxy, Some(&roots)));
}

/// What changes of a proxy when a permission does that has it as a source.
#[divan::bench]
fn plan_which_flows(bencher: Bencher<'_, '_>) {
    let snapshot = BASE.snapshot();
    let (proxy, mut callers) = (dataplane(&snapshot, 7), KnownCallers::default());
    bencher.bench_local(|| plan_flows(&snapshot, &proxy, &mut callers));
}

/// All resources of a proxy into bytes; most are shared, so this is paid once for many proxies.
#[divan::bench]
fn encode_whole(bencher: Bencher<'_, '_>) {
    let snapshot = BASE.snapshot();
    let roots = roots();
    let keys = plan(&snapshot, &dataplane(&snapshot, 7), Some(&roots));
    bencher.bench_local(|| {
        for key in &keys {
            black_box(encode(key));
        }
    });
}

/// The endpoints of one service into bytes.
#[divan::bench(args = [1, 5, 50])]
fn encode_endpoints(bencher: Bencher<'_, '_>, instances: usize) {
    let snapshot = Shape { instances, outbounds: 20.min(BASE.dataplanes / instances), ..BASE }.snapshot();
    let keys = plan(&snapshot, &dataplane(&snapshot, 7), Some(&roots()));
    let key = keys.iter().find(|key| matches!(key, ResourceKey::Endpoints { .. })).expect("it dials some service");
    bencher.bench_local(|| encode(key));
}

/// One resource of each kind into bytes.
#[divan::bench(args = kinds().into_keys())]
fn encode_one(bencher: Bencher<'_, '_>, kind: &str) {
    let key = kinds().remove(kind).expect("it is one of them");
    bencher.bench_local(|| encode(&key));
}

/// The first resource of each kind that a proxy has, by the name of the kind.
fn kinds() -> BTreeMap<String, ResourceKey> {
    let snapshot = BASE.snapshot();
    let mut kinds = BTreeMap::new();
    for key in plan(&snapshot, &dataplane(&snapshot, 7), Some(&roots())) {
        let text = format!("{key:?}");
        let kind = text.split([' ', '{', '(']).next().unwrap_or_default().to_owned();
        kinds.entry(kind).or_insert(key);
    }
    kinds
}
