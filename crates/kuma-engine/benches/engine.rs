//! The engine of a mesh with 1,000 connected proxies: from a commit to the state of each stream. `make microbench`

#[path = "../../kuma-mesh/benches/support/mesh.rs"]
mod mesh;
// The receipts are private to the crate: this measures them without the rest.
#[allow(dead_code, unreachable_pub, reason = "it is a file of the crate, of which the bench needs a part")]
#[path = "../src/receipts.rs"]
mod receipts;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use divan::{AllocProfiler, Bencher, black_box};
use jiff::Timestamp;
use kuma_ca::{MeshRoots, Root, mesh_secret};
use kuma_engine::{Caller, MeshEngine, OpenStream, Settings, Settled, is_of_this_machine};
use kuma_mesh::Affected;
use kuma_model::{Ca, Document, Key};
use kuma_store::{Contents, Stored};
use kuma_xds::StreamState;
use tokio::sync::watch;

use mesh::{BASE, parsed, permission, spec};
use receipts::{Answered, Receipts};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

type Change = (Key, Option<Arc<Stored>>);

fn stored(document: Document) -> Arc<Stored> {
    Arc::new(Stored::new(document, Timestamp::UNIX_EPOCH))
}

fn written(document: Document) -> Vec<Change> {
    vec![(document.key.clone(), Some(stored(document)))]
}

fn documents(now: SystemTime) -> Vec<Arc<Stored>> {
    let roots = MeshRoots::new(Root::generate("default", now).expect("a CA"));
    let ca = mesh_secret::document(Ca::Builtin, "default", Some(&roots));
    BASE.documents().iter().map(parsed).chain([ca]).map(stored).collect()
}

/// A mesh with its documents and nobody connected.
fn empty(now: SystemTime) -> MeshEngine {
    let mut engine = MeshEngine::new(
        "default",
        Settings {
            complete: true,
            leaf_validity: Duration::from_secs(86_400),
            started: SystemTime::UNIX_EPOCH,
            is_of_this_machine,
        },
        1,
    );
    let documents = documents(now);
    engine.load(&Contents { revision: 1, documents, complete: true, generation: 0 }, now);
    engine
}

fn open(engine: &mut MeshEngine, number: usize, now: SystemTime) -> watch::Receiver<StreamState> {
    let (state, receiver) = watch::channel(StreamState::Hold);
    let stream = OpenStream {
        id: number as u64 + 1,
        proxy: Arc::from(format!("dp-{number}")),
        caller: Caller { authenticated: true, encrypted: true, address: [127, 0, 0, 1].into() },
        on_standing: None,
        admin: None,
        returning: false,
        only_secrets: false,
        state,
    };
    assert!(engine.open(stream, now).is_ok());
    engine.wants_identity(number as u64 + 1, now);
    receiver
}

/// One with all proxies connected.
fn full(now: SystemTime) -> (MeshEngine, Vec<watch::Receiver<StreamState>>) {
    let mut engine = empty(now);
    let streams = (0..BASE.dataplanes).map(|number| open(&mut engine, number, now)).collect();
    (engine, streams)
}

/// Applies these in turn; those who are given something else have answered it.
fn in_turn(bencher: Bencher<'_, '_>, changes: [Vec<Change>; 2]) {
    let now = SystemTime::now();
    let (mut engine, mut streams) = full(now);
    answer(&mut engine, &mut streams, now);
    let mut revision = 1;
    bencher.bench_local(|| {
        revision += 1;
        engine.commit(&changes[usize::from(revision % 2 == 0)], revision, now);
        answer(&mut engine, &mut streams, now);
    });
}

fn answer(engine: &mut MeshEngine, streams: &mut [watch::Receiver<StreamState>], now: SystemTime) {
    for (number, state) in streams.iter_mut().enumerate() {
        if state.has_changed().is_ok_and(|changed| changed)
            && let StreamState::Serve(snapshot) = &*state.borrow_and_update()
        {
            let (revision, generation) = (snapshot.revision(), snapshot.generation());
            engine.settled(number as u64 + 1, Settled { revision, generation, ..Settled::default() }, now);
        }
    }
    drop(engine.take_news());
}

/// A Dataplane moves to another address: 100 proxies dial it.
#[divan::bench(sample_count = 50)]
fn an_endpoint_changes(bencher: Bencher<'_, '_>) {
    in_turn(bencher, ["10.99.0.1", "10.99.0.2"].map(|address| written(parsed(&BASE.dataplane(7, Some(address))))));
}

/// A permission on one service, of which there are 5 instances, comes and goes.
#[divan::bench(sample_count = 50)]
fn a_permission_of_one_service_changes(bencher: Bencher<'_, '_>) {
    let document = parsed(&permission("another", "svc-1", "svc-7"));
    in_turn(bencher, [vec![(document.key.clone(), None)], written(document)]);
}

/// A permission of all services comes and goes: all 1,000 proxies are concerned.
#[divan::bench(sample_count = 20)]
fn a_permission_of_all_changes(bencher: Bencher<'_, '_>) {
    let document = parsed(&permission("another", "*", "*"));
    in_turn(bencher, [vec![(document.key.clone(), None)], written(document)]);
}

/// The answers of all proxies to such a change, which is the second half of the above.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn answers_to_a_permission_of_all(bencher: Bencher<'_, '_>) {
    let document = parsed(&permission("another", "*", "*"));
    let changes = [vec![(document.key.clone(), None)], written(document)];
    let now = SystemTime::now();
    let (mut engine, mut streams) = full(now);
    answer(&mut engine, &mut streams, now);
    let mesh = RefCell::new((engine, streams, 1));
    let commit = || {
        let (engine, _, revision) = &mut *mesh.borrow_mut();
        *revision += 1;
        engine.commit(&changes[usize::from(*revision % 2 == 0)], *revision, now);
    };
    bencher.with_inputs(commit).bench_local_values(|()| {
        let (engine, streams, _) = &mut *mesh.borrow_mut();
        answer(engine, streams, now);
    });
}

/// The names of this number of proxies.
fn names(proxies: usize) -> Vec<Arc<str>> {
    (0..proxies).map(|number| Arc::from(format!("dp-{number}"))).collect()
}

/// What receipts have to do for one commit that concerns all proxies, which all are connected and accept it.
fn tracked(
    receipts: &mut Receipts,
    revision: u64,
    (names, document): (&[Arc<str>], &Key),
    end: impl FnOnce(&mut Receipts),
) {
    let now = SystemTime::UNIX_EPOCH;
    receipts.begin(revision, vec![document.clone()], now);
    names.iter().for_each(|name| receipts.given(name));
    end(receipts);
    let mut accepted_after = Vec::with_capacity(names.len());
    for name in names {
        let answered = Answered { up_to: revision, revision, ..Answered::default() };
        receipts.answered(name, &answered, now, &mut accepted_after);
    }
    assert_eq!(black_box(accepted_after).len(), names.len());
}

/// The part of `a_permission_of_all_changes` that receipts take, once as many commits are remembered as may be.
#[divan::bench(sample_count = 20)]
fn receipts_of_a_permission_of_all(bencher: Bencher<'_, '_>) {
    let (names, document) = (names(BASE.dataplanes), parsed(&permission("another", "*", "*")));
    let mut snapshot = BASE.snapshot();
    let affected = snapshot.set_permission(&document.key.name, Some(Arc::new(spec(&document))));
    // As in the engine.
    let connected: BTreeMap<&str, ()> = names.iter().map(|name| (&**name, ())).collect();
    let (mut receipts, mut revision) = (Receipts::default(), 0);
    let mut change = || {
        revision += 1;
        tracked(&mut receipts, revision, (&names, &document.key), |receipts| {
            receipts.end(&affected, &snapshot, |name| connected.contains_key(name));
        });
    };
    (0..2_000).for_each(|_| change());
    bencher.bench_local(change);
}

/// The memory of the receipts of 15,000 proxies and as many commits as are remembered: see `max alloc`. `accepted`: by
/// all proxies, or by none, which is the most that they can take.
#[divan::bench(args = [true, false], sample_count = 1, sample_size = 1)]
fn memory_of_receipts(bencher: Bencher<'_, '_>, accepted: bool) {
    let (names, document) = (names(15_000), parsed(&permission("another", "*", "*")));
    let snapshot = BASE.snapshot();
    bencher.bench_local(|| {
        let (now, mut receipts) = (SystemTime::UNIX_EPOCH, Receipts::default());
        for revision in 1..=1_024 {
            if accepted {
                tracked(&mut receipts, revision, (&names, &document.key), |receipts| {
                    receipts.end(&Affected::All, &snapshot, |_| true);
                });
            } else {
                receipts.begin(revision, vec![document.key.clone()], now);
                names.iter().for_each(|name| receipts.given(name));
                receipts.end(&Affected::All, &snapshot, |_| true);
            }
        }
        receipts
    });
}

/// All proxies connect, each gets a certificate.
#[divan::bench(sample_count = 5)]
fn all_connect(bencher: Bencher<'_, '_>) {
    let now = SystemTime::now();
    bencher.with_inputs(|| empty(now)).bench_local_values(|mut engine| {
        let streams: Vec<_> = (0..BASE.dataplanes).map(|number| open(&mut engine, number, now)).collect();
        (engine, streams)
    });
}

/// 1,002 documents are read at the start.
#[divan::bench(sample_count = 20)]
fn load(bencher: Bencher<'_, '_>) {
    let now = SystemTime::now();
    let contents = Contents { revision: 1, documents: documents(now), complete: true, generation: 0 };
    bencher.bench_local(|| {
        let settings = Settings {
            complete: true,
            leaf_validity: Duration::from_secs(86_400),
            started: SystemTime::UNIX_EPOCH,
            is_of_this_machine,
        };
        let mut engine = MeshEngine::new("default", settings, 1);
        engine.load(&contents, now);
        engine
    });
}
