//! A control plane whose documents outlive it: what a restart, a move from memory and a store that was replaced leave.

use std::path::{Path, PathBuf};

use kuma_cp::run::Running;
use kuma_store_postgres::testing::{PASSWORD, Server};
use kuma_test::eventually;
use reqwest::Client;
use serde_json::{Value, json};

use crate::running::{folder, start};

const FILE: (&str, &str) = ("KUMA_STORE_TYPE", "file");

/// A control plane in a folder, and how it is talked to.
pub(crate) struct Life {
    pub(crate) running: Running,
    pub(crate) http: Client,
}

impl Life {
    pub(crate) async fn start(folder: &Path, variables: &[(&str, &str)]) -> Life {
        let running = eventually("it starts", || async {
            match start(folder, variables).await {
                Ok(running) => Some(running),
                // A program that another test starts at this moment has our locks until it runs.
                Err(error) if format!("{error:#}").contains("another kuma-cp") => None,
                Err(error) => panic!("{error:#}"),
            }
        })
        .await;
        Life { running, http: Client::builder().no_proxy().build().expect("a client") }
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.at(self.running.addresses.api.port(), path).await
    }

    async fn at(&self, port: u16, path: &str) -> Value {
        let answer = self.http.get(format!("http://127.0.0.1:{port}{path}")).send().await.expect("it answers");
        assert_eq!(answer.status(), 200, "{path}");
        serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON")
    }

    pub(crate) async fn put(&self, path: &str, document: &Value) {
        let url = format!("http://127.0.0.1:{}{path}", self.running.addresses.api.port());
        let request = self.http.put(url).header("content-type", "application/json").body(document.to_string());
        let status = request.send().await.expect("it answers").status();
        assert!(status.is_success(), "{path}: {status}");
    }

    async fn accept(&self) {
        let url = format!("http://127.0.0.1:{}/store/accept", self.running.addresses.api.port());
        assert_eq!(self.http.post(url).send().await.expect("it answers").status(), 200);
    }

    /// The value of a metric.
    async fn metric(&self, name: &str) -> f64 {
        let url = format!("http://127.0.0.1:{}/metrics", self.running.addresses.diagnostics.port());
        let text = self.http.get(url).send().await.expect("it answers").text().await.expect("a body");
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
        line.trim().parse().expect("a number")
    }

    /// The id of the certificate that signs in a mesh.
    pub(crate) async fn signer(&self, ca: &str, mesh: &str) -> String {
        let path = format!("/meshes/{mesh}/ca/{ca}/certificates");
        let certificates = self.at(self.running.addresses.admin.port(), &path).await;
        certificates[0]["id"].as_str().expect("an id").to_owned()
    }
}

/// Keys in the state folder.
fn keys(folder: &Path) -> [String; 2] {
    ["dataplane-token-signing-key.pem", "xds-ca.pem"]
        .map(|name| std::fs::read_to_string(folder.join("state").join(name)).expect("it is there"))
}

fn remove(folder: &Path, name: &str) {
    std::fs::remove_file(folder.join("state").join(name)).expect("it was there");
}

fn database(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("state")).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_of_store = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        name.starts_with("store.db") && !name.ends_with(".lock")
    };
    paths.filter(is_of_store).collect()
}

fn dataplane(name: &str) -> Value {
    let inbound = json!({"interface": "127.0.0.1:10000:20000", "tags": {"service": "web"}});
    json!({"type": "Dataplane", "mesh": "demo", "name": name, "networking": {"inbound": [inbound]}})
}

#[tokio::test]
async fn a_restart_on_a_file_changes_nothing() {
    let (folder, _) = folder();
    let first = Life::start(folder.path(), &[FILE]).await;
    first.put("/meshes/demo", &json!({"type": "Mesh", "name": "demo"})).await;
    first.put("/meshes/demo/dataplanes/web-1", &dataplane("web-1")).await;
    let (meshes, store) = (first.get("/meshes").await, first.get("/store").await);
    let signers = [first.signer("builtin", "demo").await, first.signer("builtin", "default").await];
    let kept = keys(folder.path());
    // Somebody else on the same file.
    let elsewhere = folder.path().join("elsewhere").display().to_string();
    let file = folder.path().join("state/store.db").display().to_string();
    let variables = [FILE, ("KUMA_GENERAL_WORK_DIR", &*elsewhere), ("KUMA_STORE_FILE_PATH", &*file)];
    let refused = start(folder.path(), &variables).await.err().expect("it is taken");
    assert!(format!("{refused:#}").contains("another kuma-cp"), "{refused:#}");
    first.running.stop().await;

    // The store has the only copy that counts.
    remove(folder.path(), "dataplane-token-signing-key.pem");
    remove(folder.path(), "xds-ca.pem");
    let second = Life::start(folder.path(), &[FILE]).await;
    assert_eq!(second.get("/meshes").await, meshes);
    assert_eq!(second.get("/meshes/demo/dataplanes/web-1").await, dataplane("web-1"));
    let again = second.get("/store").await;
    assert_eq!((&again["store"], &again["revision"]), (&store["store"], &store["revision"]), "it writes nothing");
    assert_eq!([second.signer("builtin", "demo").await, second.signer("builtin", "default").await], signers);
    assert_eq!(keys(folder.path()), kept);
    second.running.stop().await;
}

#[tokio::test]
async fn a_move_from_memory_to_a_file_keeps_keys_and_cas() {
    let (folder, _) = folder();
    let memory = Life::start(folder.path(), &[]).await;
    memory.put("/meshes/demo", &json!({"type": "Mesh", "name": "demo"})).await;
    let signers = [memory.signer("builtin", "demo").await, memory.signer("builtin", "default").await];
    let kept = keys(folder.path());
    memory.running.stop().await;

    let file = Life::start(folder.path(), &[FILE]).await;
    assert_eq!(keys(folder.path()), kept);
    // Until documents are there again, what is missing is not taken for deleted: not after another start either.
    assert_eq!(file.get("/store").await["complete"], false);
    assert_eq!(file.metric("kuma_cp_store_rewound").await, 0.0);
    file.running.stop().await;
    let file = Life::start(folder.path(), &[FILE]).await;
    assert_eq!(file.get("/store").await["complete"], false);
    file.put("/meshes/demo", &json!({"type": "Mesh", "name": "demo"})).await;
    assert_eq!([file.signer("builtin", "demo").await, file.signer("builtin", "default").await], signers);
    file.accept().await;
    file.running.stop().await;
    let file = Life::start(folder.path(), &[FILE]).await;
    assert_eq!(file.get("/store").await["complete"], true);
    file.running.stop().await;
}

#[tokio::test]
async fn a_store_that_was_replaced_is_incomplete_until_it_is_accepted() {
    let (folder, _) = folder();
    let first = Life::start(folder.path(), &[FILE]).await;
    first.put("/meshes/demo", &json!({"type": "Mesh", "name": "demo"})).await;
    first.accept().await;
    first.running.stop().await;
    let backup: Vec<_> =
        database(folder.path()).into_iter().map(|path| (std::fs::read(&path).expect("a file"), path)).collect();
    let kept = keys(folder.path());
    let second = Life::start(folder.path(), &[FILE]).await;
    assert_eq!(second.get("/store").await["complete"], true);
    second.put("/meshes/demo/dataplanes/web-1", &dataplane("web-1")).await;
    second.running.stop().await;

    // An older one, and then an empty one; neither is taken for whole at a second start.
    for restored in [backup, Vec::new()] {
        for path in database(folder.path()) {
            std::fs::remove_file(path).expect("a file");
        }
        for (content, path) in restored {
            std::fs::write(path, content).expect("writes");
        }
        for _ in 0..2 {
            let life = Life::start(folder.path(), &[FILE]).await;
            assert_eq!(life.get("/store").await["complete"], false);
            assert_eq!(life.metric("kuma_cp_store_rewound").await, 1.0);
            assert_eq!(keys(folder.path()), kept, "proxies can come back");
            life.running.stop().await;
        }
    }
    let life = Life::start(folder.path(), &[FILE]).await;
    life.accept().await;
    assert_eq!(life.metric("kuma_cp_store_rewound").await, 0.0);
    life.running.stop().await;
    let last = Life::start(folder.path(), &[FILE]).await;
    assert_eq!(last.get("/store").await["complete"], true);
    assert_eq!(last.metric("kuma_cp_store_rewound").await, 0.0);
    last.running.stop().await;
}

/// A database of a server, and the settings for it.
struct Database {
    server: Server,
    name: String,
    password_file: String,
    port: String,
}

impl Database {
    fn new(folder: &Path) -> Database {
        let server = Server::start(&[]);
        let password_file = folder.join("password");
        std::fs::write(&password_file, PASSWORD).expect("writes");
        let (name, port) = (server.database().db_name, server.port().to_string());
        Database { server, name, password_file: password_file.display().to_string(), port }
    }

    fn variables(&self) -> [(&str, &str); 5] {
        [
            ("KUMA_STORE_TYPE", "postgres"),
            ("KUMA_STORE_POSTGRES_PORT", &self.port),
            ("KUMA_STORE_POSTGRES_DB_NAME", &self.name),
            ("KUMA_STORE_POSTGRES_PASSWORD", ""),
            ("KUMA_STORE_POSTGRES_PASSWORD_FILE", &self.password_file),
        ]
    }
}

impl Life {
    async fn try_put(&self, path: &str, document: &Value) -> (u16, reqwest::header::HeaderMap) {
        let url = format!("http://127.0.0.1:{}{path}", self.running.addresses.api.port());
        let request = self.http.put(&url).header("content-type", "application/json").body(document.to_string());
        let answer = request.send().await.expect("it answers");
        (answer.status().as_u16(), answer.headers().clone())
    }

    async fn put_eventually(&self, path: &str, document: &Value) {
        eventually("the write is made", || async { (self.try_put(path, document).await.0 < 300).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_control_planes_on_one_database_are_as_one() {
    let ((here, _), (there, _)) = (folder(), folder());
    let mut database = Database::new(here.path());
    let (one, two) = {
        let variables = database.variables();
        tokio::join!(Life::start(here.path(), &variables), Life::start(there.path(), &variables))
    };
    assert_eq!(keys(here.path()), keys(there.path()));
    assert_eq!(one.signer("builtin", "default").await, two.signer("builtin", "default").await);
    one.put("/meshes/demo", &json!({"type": "Mesh", "name": "demo"})).await;
    two.put("/meshes/demo/dataplanes/web-1", &dataplane("web-1")).await;
    assert_eq!(one.get("/meshes/demo/dataplanes/web-1").await, dataplane("web-1"));

    // Away: reads go on, writes are refused, and nobody restarts it.
    database.server.stop();
    let (status, headers) = one.try_put("/meshes/demo/dataplanes/web-2", &dataplane("web-2")).await;
    assert_eq!((status, headers.contains_key("retry-after")), (503, true));
    let url = |port: u16, path: &str| format!("http://127.0.0.1:{port}{path}");
    let read = one.http.get(url(one.running.addresses.api.port(), "/meshes/demo/dataplanes/web-1"));
    let read = read.send().await.expect("it answers");
    let shown = read.headers().get("kuma-store").map(|shown| shown.to_str().expect("text").to_owned());
    assert!(
        read.status() == 200 && shown.as_ref().is_some_and(|shown| shown.starts_with("away, revision ")),
        "{shown:?}"
    );
    let ready = one.http.get(url(one.running.addresses.diagnostics.port(), "/ready")).send().await.expect("it answers");
    assert_eq!(ready.status(), 200);
    let token = one.http.post(url(one.running.addresses.admin.port(), "/tokens"));
    let token = token.body(r#"{"name": "web-1", "mesh": "demo"}"#).send().await.expect("it answers");
    assert_eq!(token.status(), 200);
    database.server.start_again();
    one.put_eventually("/meshes/demo/dataplanes/web-2", &dataplane("web-2")).await;
    one.running.stop().await;
    two.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_back_while_it_is_used_is_noticed() {
    let (here, _) = folder();
    let database = Database::new(here.path());
    let life = Life::start(here.path(), &database.variables()).await;
    life.put("/meshes/demo", &json!({"type": "Mesh", "name": "demo"})).await;
    life.accept().await;
    let name = &database.name;
    database.server.alone(&database.name, &[format!("CREATE DATABASE backup TEMPLATE \"{name}\" OWNER kuma")]);
    life.put_eventually("/meshes/demo/dataplanes/web-1", &dataplane("web-1")).await;
    assert_eq!(life.metric("kuma_cp_store_rewound").await, 0.0);

    database.server.alone(
        &database.name,
        &[format!("ALTER DATABASE \"{name}\" RENAME TO gone"), format!("ALTER DATABASE backup RENAME TO \"{name}\"")],
    );
    eventually("it is noticed", || async { (life.metric("kuma_cp_store_rewound").await == 1.0).then_some(()) }).await;
    let state = std::fs::read_dir(here.path().join("state")).expect("a folder");
    let lost: Vec<PathBuf> = state
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lost-")))
        .collect();
    let text = std::fs::read_to_string(&lost[0]).expect("a file");
    assert!(lost.len() == 1 && text.contains("web-1") && !text.contains("type: Secret"), "{lost:?}: {text}");
    let missing = json!([{"type": "Dataplane", "mesh": "demo", "name": "web-1"}]);
    let store = eventually("what is missing is known", || async {
        let store = life.get("/store").await;
        (store["missing"]["documentCount"] != 0).then_some(store)
    })
    .await;
    assert_eq!((&store["complete"], &store["missing"]["documents"]), (&json!(false), &missing));
    life.accept().await;
    assert_eq!(life.get("/store").await["complete"], true);
    assert_eq!(life.metric("kuma_cp_store_rewound").await, 0.0);
    life.running.stop().await;
}
