//! What it costs to plan the resources of a proxy and to encode them. Run by `make microbench`.

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

/// The whole plan of a proxy with this number of outbounds.
#[divan::bench(args = [5, 20, 100])]
fn plan_whole(bencher: Bencher<'_, '_>, outbounds: usize) {
    let snapshot = Shape { outbounds, ..BASE }.snapshot();
    let (proxy, roots) = (dataplane(&snapshot, 7), roots());
    bencher.bench_local(|| plan(&snapshot, &proxy, Some(&roots)));
}

/// The part of a plan that depends on the endpoints of one service.
#[divan::bench]
fn plan_one_service(bencher: Bencher<'_, '_>) {
    let snapshot = BASE.snapshot();
    let proxy = dataplane(&snapshot, 7);
    let services = BTreeSet::from([proxy.outbounds[0].service.clone()]);
    bencher.bench_local(|| plan_endpoints(&snapshot, &proxy, &services));
}

/// The part of a plan that depends on a permission with the proxy as a destination.
#[divan::bench]
fn plan_who_is_admitted(bencher: Bencher<'_, '_>) {
    let snapshot = BASE.snapshot();
    let (proxy, roots) = (dataplane(&snapshot, 7), roots());
    bencher.bench_local(|| plan_admission(&snapshot, &proxy, Some(&roots)));
}

/// The part of a plan that depends on a permission with the proxy as a source.
#[divan::bench]
fn plan_which_flows(bencher: Bencher<'_, '_>) {
    let snapshot = BASE.snapshot();
    let (proxy, mut callers) = (dataplane(&snapshot, 7), KnownCallers::default());
    bencher.bench_local(|| plan_flows(&snapshot, &proxy, &mut callers));
}

/// Encodes all resources of a proxy. Most are shared, so many proxies need this only once.
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

/// Encodes the endpoints of one service.
#[divan::bench(args = [1, 5, 50])]
fn encode_endpoints(bencher: Bencher<'_, '_>, instances: usize) {
    let snapshot = Shape { instances, outbounds: 20.min(BASE.dataplanes / instances), ..BASE }.snapshot();
    let keys = plan(&snapshot, &dataplane(&snapshot, 7), Some(&roots()));
    let key = keys.iter().find(|key| matches!(key, ResourceKey::Endpoints { .. })).expect("it dials some service");
    bencher.bench_local(|| encode(key));
}

/// Encodes one resource of each kind.
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
