//! Documents and streams for tests of the mesh engine.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use kuma_ca::{MeshRoots, Root, mesh_secret};
use kuma_engine::{Caller, DueStep, MeshEngine, OpenStream, Settings, Settled};
use kuma_model::{Ca, Document, Key, text};
use kuma_store::{Contents, DocumentChange, Stored};
use kuma_xds::{Snapshot, StreamState};
use tokio::sync::watch;

/// A document from YAML, as a store has it.
pub(crate) fn stored(yaml: &str) -> Arc<Stored> {
    let documents = text::parse_documents(yaml).expect("YAML");
    store(Document::parse(&documents[0]).unwrap_or_else(|violations| panic!("{violations}: {yaml}")))
}

pub(crate) fn store(document: Document) -> Arc<Stored> {
    Arc::new(Stored::new(document, Timestamp::UNIX_EPOCH))
}

pub(crate) fn mesh(mtls: bool) -> Arc<Stored> {
    stored(&format!("type: Mesh\nname: default\nmtls: {{enabled: {mtls}, ca: {{builtin: {{}}}}}}"))
}

/// A root for the mesh.
pub(crate) fn root() -> Root {
    Root::generate("default", SystemTime::now()).expect("a root")
}

/// The CA document of the mesh, with a new root.
pub(crate) fn ca() -> Arc<Stored> {
    builtin(&MeshRoots::new(root()))
}

pub(crate) fn builtin(roots: &MeshRoots) -> Arc<Stored> {
    store(mesh_secret::document(Ca::Builtin, "default", Some(roots)))
}

pub(crate) fn redis() -> Arc<Stored> {
    stored(
        "type: Dataplane\nmesh: default\nname: redis-1\nnetworking:\n  inbound:\n  - interface: \
         10.0.0.2:9000:6379\n    tags: {service: redis}",
    )
}

pub(crate) fn web() -> Arc<Stored> {
    stored(
        "type: Dataplane\nmesh: default\nname: web-1\nnetworking:\n  inbound:\n  - interface: 10.0.0.1:8000:80\n    \
         tags: {service: web}\n  outbound:\n  - {interface: ':9000', service: redis}",
    )
}

pub(crate) fn permission(name: &str, source: &str, destination: &str) -> Arc<Stored> {
    stored(&format!(
        "type: TrafficPermission\nmesh: default\nname: {name}\nsources: [{{match: {{service: '{source}'}}}}]\n\
         destinations: [{{match: {{service: '{destination}'}}}}]"
    ))
}

/// A mesh engine with a simulated clock.
pub(crate) struct Mesh {
    pub(crate) engine: MeshEngine,
    pub(crate) now: SystemTime,
    /// The revision of the last commit.
    pub(crate) revision: u64,
    /// Whether what the store lacks does not exist.
    complete: bool,
    /// The rotation steps that were due so far.
    pub(crate) steps: Vec<DueStep>,
    /// The current warnings of each stream.
    warnings: HashMap<u64, Vec<String>>,
    next_stream: u64,
}

/// The test's side of an open stream.
pub(crate) struct Stream {
    pub(crate) id: u64,
    pub(crate) state: watch::Receiver<StreamState>,
}

impl Mesh {
    pub(crate) fn new(complete: bool) -> Mesh {
        // The CAs of the tests are valid from the real time on.
        let now = SystemTime::now();
        let settings = Settings {
            complete,
            leaf_validity: Duration::from_secs(24 * 3600),
            started: now,
            is_of_this_machine: |_| false,
        };
        Mesh {
            engine: MeshEngine::new("default", settings, 1),
            now,
            revision: 0,
            complete,
            steps: Vec::new(),
            warnings: HashMap::new(),
            next_stream: 1,
        }
    }

    pub(crate) fn write(&mut self, documents: &[&Arc<Stored>]) {
        let changes: Vec<_> = documents.iter().map(|stored| (stored.key.clone(), Some((*stored).clone()))).collect();
        self.commit(&changes);
    }

    pub(crate) fn delete(&mut self, key: &Key) {
        self.commit(&[(key.clone(), None)]);
    }

    fn commit(&mut self, changes: &[DocumentChange]) {
        self.revision += 1;
        self.engine.commit(changes, self.revision, self.now);
    }

    /// Replaces all documents, as after reading the whole store.
    pub(crate) fn load(&mut self, documents: &[Arc<Stored>]) {
        self.revision += 1;
        let complete = self.complete;
        let documents = documents.to_vec();
        self.engine.load(&Contents { revision: self.revision, documents, complete, generation: 0 }, self.now);
    }

    /// The current warnings of a stream.
    pub(crate) fn warnings(&mut self, stream: &Stream) -> Vec<String> {
        for warning in self.engine.take_news().warnings {
            self.warnings.insert(warning.stream, warning.messages);
        }
        self.warnings.get(&stream.id).cloned().unwrap_or_default()
    }

    pub(crate) fn open(&mut self, proxy: &str, returning: bool) -> Stream {
        self.open_as(proxy, returning, true)
    }

    /// Opens a stream of a proxy that requests a certificate.
    pub(crate) fn open_with_identity(&mut self, proxy: &str) -> Stream {
        let stream = self.open(proxy, false);
        self.engine.wants_identity(stream.id, self.now);
        stream
    }

    /// The client of the stream accepts everything that it is served.
    pub(crate) fn accept(&mut self, stream: &Stream) {
        let served = stream.served().expect("it is served");
        let (revision, generation) = (served.revision(), served.generation());
        self.settle(stream, Settled { revision, generation, ..Settled::default() });
    }

    /// The client of the stream answers everything that it was sent.
    pub(crate) fn settle(&mut self, stream: &Stream, settled: Settled) {
        self.engine.settled(stream.id, settled, self.now);
        self.steps.extend(self.engine.rotation_step(self.now));
    }

    pub(crate) fn open_as(&mut self, proxy: &str, returning: bool, authenticated: bool) -> Stream {
        self.open_stream(proxy, returning, authenticated, false)
    }

    /// Opens a stream of the secret discovery service.
    pub(crate) fn open_for_secrets(&mut self, proxy: &str) -> Stream {
        self.open_stream(proxy, false, true, true)
    }

    fn open_stream(&mut self, proxy: &str, returning: bool, authenticated: bool, only_secrets: bool) -> Stream {
        let (state, receiver) = watch::channel(StreamState::Hold);
        let id = self.next_stream;
        self.next_stream += 1;
        let stream = OpenStream {
            id,
            proxy: Arc::from(proxy),
            caller: Caller { authenticated, encrypted: true, address: [127, 0, 0, 1].into() },
            on_standing: None,
            admin: Some((std::net::Ipv4Addr::LOCALHOST, 30001).into()),
            returning,
            only_secrets,
            state,
        };
        if let Err(refused) = self.engine.open(stream, self.now) {
            refused.state.send_replace(StreamState::Close(refused.status));
        }
        Stream { id, state: receiver }
    }

    /// Ends a stream. `by_far_end`: the client has closed the connection.
    pub(crate) fn close(&mut self, stream: &Stream, by_far_end: bool) {
        self.engine.close(stream.id, by_far_end, self.now);
    }

    /// Advances the clock, and handles all deadlines on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.steps.extend(self.engine.rotation_step(self.now));
        while let Some(deadline) = self.engine.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.engine.on_deadline(self.now);
            self.steps.extend(self.engine.rotation_step(self.now));
        }
        self.now = end;
    }
}

impl Stream {
    /// The snapshot that the stream is served, if any.
    pub(crate) fn served(&self) -> Option<Arc<Snapshot>> {
        match &*self.state.borrow() {
            StreamState::Serve(snapshot) => Some(snapshot.clone()),
            StreamState::Hold | StreamState::Close(_) => None,
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        matches!(*self.state.borrow(), StreamState::Hold)
    }

    pub(crate) fn closed(&self) -> Option<String> {
        match &*self.state.borrow() {
            StreamState::Close(status) => Some(status.to_string()),
            _ => None,
        }
    }
}
