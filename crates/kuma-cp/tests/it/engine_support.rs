//! Documents and streams for tests of the mesh engine.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use kuma_ca::{MeshRoots, Root};
use kuma_cp::engine::{DueStep, MeshEngine, OpenStream, Settings};
use kuma_cp::mesh_ca;
use kuma_model::{Ca, Document, Key, text};
use kuma_store::Stored;
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

/// The CA of the mesh: the same one in every test process is not needed, the same within a test is.
pub(crate) fn ca() -> Arc<Stored> {
    builtin(&MeshRoots::new(root()))
}

pub(crate) fn builtin(roots: &MeshRoots) -> Arc<Stored> {
    store(mesh_ca::document(Ca::Builtin, "default", Some(roots)))
}

pub(crate) fn redis() -> Arc<Stored> {
    stored(
        "type: Dataplane\nmesh: default\nname: redis-1\nnetworking:\n  inbound:\n  - interface: 10.0.0.2:9000:6379\n    tags: {service: redis}",
    )
}

pub(crate) fn web() -> Arc<Stored> {
    stored(
        "type: Dataplane\nmesh: default\nname: web-1\nnetworking:\n  inbound:\n  - interface: 10.0.0.1:8000:80\n    tags: {service: web}\n  outbound:\n  - {interface: ':9000', service: redis}",
    )
}

pub(crate) fn permission(name: &str, source: &str, destination: &str) -> Arc<Stored> {
    stored(&format!(
        "type: TrafficPermission\nmesh: default\nname: {name}\nsources: [{{match: {{service: '{source}'}}}}]\ndestinations: [{{match: {{service: '{destination}'}}}}]"
    ))
}

/// A mesh engine and the clock that it is told.
pub(crate) struct Mesh {
    pub(crate) engine: MeshEngine,
    pub(crate) now: SystemTime,
    /// Steps of rotations that were found to be due.
    pub(crate) steps: Vec<DueStep>,
    next_stream: u64,
}

/// One end of a stream.
pub(crate) struct Stream {
    pub(crate) id: u64,
    pub(crate) state: watch::Receiver<StreamState>,
    warnings: Arc<Mutex<Vec<String>>>,
}

impl Mesh {
    pub(crate) fn new(durable: bool) -> Mesh {
        // The CAs of tests are made now.
        let now = SystemTime::now();
        let settings = Settings { durable, leaf_validity: Duration::from_secs(24 * 3600), started: now };
        Mesh { engine: MeshEngine::new("default", settings), now, steps: Vec::new(), next_stream: 1 }
    }

    pub(crate) fn write(&mut self, documents: &[&Arc<Stored>]) {
        let changes: Vec<_> = documents.iter().map(|stored| (stored.key.clone(), Some((*stored).clone()))).collect();
        self.engine.commit(&changes, self.now);
    }

    pub(crate) fn delete(&mut self, key: &Key) {
        self.engine.commit(&[(key.clone(), None)], self.now);
    }

    pub(crate) fn open(&mut self, proxy: &str, returning: bool) -> Stream {
        self.open_as(proxy, returning, true)
    }

    /// A stream of a proxy that has asked for its certificate.
    pub(crate) fn open_with_identity(&mut self, proxy: &str) -> Stream {
        let stream = self.open(proxy, false);
        self.engine.wants_identity(stream.id, self.now);
        stream
    }

    /// The stream's client accepts all that it is served.
    pub(crate) fn accept(&mut self, stream: &Stream) {
        let mark = stream.served().expect("it is served").mark();
        self.engine.holds(stream.id, mark);
        self.steps.extend(self.engine.rotation_step(self.now));
    }

    pub(crate) fn open_as(&mut self, proxy: &str, returning: bool, authenticated: bool) -> Stream {
        self.open_stream(proxy, returning, authenticated, false)
    }

    /// A stream of the secret discovery service.
    pub(crate) fn open_for_secrets(&mut self, proxy: &str) -> Stream {
        self.open_stream(proxy, false, true, true)
    }

    fn open_stream(&mut self, proxy: &str, returning: bool, authenticated: bool, only_secrets: bool) -> Stream {
        let (state, receiver) = watch::channel(StreamState::Hold);
        let id = self.next_stream;
        self.next_stream += 1;
        let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = warnings.clone();
        let stream = OpenStream {
            id,
            proxy: Arc::from(proxy),
            authenticated,
            encrypted: true,
            address: [127, 0, 0, 1].into(),
            admin_port: Some(30001),
            returning,
            only_secrets,
            state,
            warnings: Box::new(move |warnings| *noted.lock().expect("nothing panics while it is held") = warnings),
        };
        self.engine.open(stream, self.now);
        Stream { id, state: receiver, warnings }
    }

    /// Lets time pass, with all deadlines in it.
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
    /// What the stream is served now, if it is.
    pub(crate) fn served(&self) -> Option<Arc<Snapshot>> {
        match &*self.state.borrow() {
            StreamState::Serve(snapshot) => Some(snapshot.clone()),
            StreamState::Hold | StreamState::Close(_) => None,
        }
    }

    /// What is said to keep the proxy from working.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().expect("nothing panics while it is held").clone()
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
