//! Secrets that are sealed in the store.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kuma_ca::sealing::SealingKeys;
use kuma_cp::sealed_journal::SealedJournal;
use kuma_model::SECRET_KIND;
use kuma_store::{Journal, JournaledStore, Options, Store, contract};
use kuma_store_postgres::PostgresJournal;
use kuma_store_postgres::testing::{PASSWORD, Server};
use kuma_store_sqlite::SqliteJournal;
use serde_json::{Value, json};

use crate::durable::Life;
use crate::running::{folder, start};

const FILE: (&str, &str) = ("KUMA_STORE_TYPE", "file");

fn line(id: &str, byte: u8) -> String {
    format!("{id} {}\n", BASE64.encode([byte; 32]))
}

fn keys() -> Arc<SealingKeys> {
    Arc::new(SealingKeys::parse(&line("one", 1)).expect("keys"))
}

async fn sealed<J: Journal>(journal: J) -> Arc<dyn Store> {
    let journal = SealedJournal::new(journal, keys());
    Arc::new(JournaledStore::open(journal, Options::default()).await.expect("opens"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_with_sealed_secrets_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let number = Cell::new(0);
    let next = || {
        number.set(number.get() + 1);
        folder.path().join(format!("{}.db", number.get()))
    };
    contract::run(|| async { sealed(SqliteJournal::open(&next()).expect("opens")).await }).await;
    contract::shared::run(|| async {
        let path = next();
        let open = || SqliteJournal::open_shared(&path).expect("opens");
        [sealed(open()).await, sealed(open()).await]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_handles_with_sealed_secrets_keep_the_contract_in_postgresql() {
    let server = Server::start(&[]);
    contract::shared::run(|| async {
        let config = server.database();
        let open = || async { sealed(PostgresJournal::connect(config.clone()).await.expect("connects")).await };
        [open().await, open().await]
    })
    .await;
}

/// The secrets as they are stored, by name.
async fn stored(journal: impl Journal) -> Vec<(String, Value)> {
    let documents = journal.load().await.expect("it is read").documents;
    let secrets = documents.iter().filter(|stored| stored.key.kind == SECRET_KIND);
    let found = secrets.map(|stored| (stored.key.name.to_string(), stored.spec())).collect();
    journal.close().await;
    found
}

async fn in_file(folder: &Path) -> Vec<(String, Value)> {
    stored(SqliteJournal::open(&folder.join("state/store.db")).expect("opens")).await
}

/// Whether all are sealed with this key.
fn are_sealed(secrets: &[(String, Value)], id: &str) -> bool {
    let is_sealed = |spec: &Value| spec["sealed"].as_str().is_some_and(|text| text.starts_with(&format!("{id}:")));
    secrets.len() >= 3 && secrets.iter().all(|(_, spec)| is_sealed(spec))
}

#[tokio::test]
async fn secrets_of_a_file_are_sealed_and_the_key_is_changed() {
    let (folder, _) = folder();
    let path = folder.path().join("keys");
    let shown = path.display().to_string();
    let write = |lines: &[String]| std::fs::write(&path, lines.concat()).expect("writes");
    let variables = [FILE, ("KUMA_STORE_SECRETS_KEY_FILE", &*shown)];

    // What was stored as it is gets sealed.
    let plain = Life::start(folder.path(), &[FILE]).await;
    plain.put("/meshes/demo", &json!({"type": "Mesh", "name": "demo"})).await;
    let signers = [plain.signer("builtin", "demo").await, plain.signer("builtin", "default").await];
    plain.running.stop().await;
    let before = in_file(folder.path()).await;
    assert!(before.iter().all(|(_, spec)| spec.get("sealed").is_none()), "{before:?}");

    write(&[line("one", 1)]);
    let first = Life::start(folder.path(), &variables).await;
    assert_eq!([first.signer("builtin", "demo").await, first.signer("builtin", "default").await], signers);
    // A mesh that is new.
    first.put("/meshes/later", &json!({"type": "Mesh", "name": "later"})).await;
    let later = first.signer("builtin", "later").await;
    let history = first.get("/history?type=Secret").await;
    let notes: Vec<_> = history["items"].as_array().expect("items").iter().map(|item| &item["note"]).collect();
    assert!(notes.contains(&&json!("seals secrets with the key one")), "{history}");
    first.running.stop().await;
    assert!(are_sealed(&in_file(folder.path()).await, "one"));

    // Another key.
    write(&[line("two", 2), line("one", 1)]);
    let second = Life::start(folder.path(), &variables).await;
    assert_eq!(second.signer("builtin", "demo").await, signers[0]);
    second.running.stop().await;
    assert!(are_sealed(&in_file(folder.path()).await, "two"));
    write(&[line("two", 2)]);
    let third = Life::start(folder.path(), &variables).await;
    assert_eq!(third.signer("builtin", "later").await, later);
    let revision = third.get("/store").await["revision"].clone();
    third.running.stop().await;
    let fourth = Life::start(folder.path(), &variables).await;
    assert_eq!(fourth.get("/store").await["revision"], revision, "nothing is sealed again");
    fourth.running.stop().await;
}

#[tokio::test]
async fn without_its_key_nothing_starts_and_nothing_is_made_anew() {
    let (folder, _) = folder();
    let path = folder.path().join("keys");
    let shown = path.display().to_string();
    let write = |text: &str| std::fs::write(&path, text).expect("writes");
    let variables = [FILE, ("KUMA_STORE_SECRETS_KEY_FILE", &*shown)];
    write(&line("one", 1));
    Life::start(folder.path(), &variables).await.running.stop().await;
    let before = in_file(folder.path()).await;
    assert!(are_sealed(&before, "one"), "{before:?}");

    let other = line("two", 2);
    let changed = line("one", 2);
    for (variables, text, reason) in [
        (&variables[..1], &*other, "is sealed with the key \"one\", which store.secretsKeyFile"),
        (&variables, &*other, "is sealed with the key \"one\", which store.secretsKeyFile"),
        (&variables, &*changed, "does not have, or has otherwise"),
        (&variables, "", "KUMA_STORE_SECRETS_KEY_FILE): "),
        (&variables, "one abc", "line 1: must be an id, a space and 32 random bytes in base64"),
    ] {
        write(text);
        let error = start(folder.path(), variables).await.err().expect("it does not start");
        let error = format!("{error:#}");
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains("AgICAg"), "the key is not shown: {error}");
    }
    std::fs::remove_file(&path).expect("it is there");
    let error = start(folder.path(), &variables).await.err().expect("it does not start");
    assert!(format!("{error:#}").contains(&shown), "{error:#}");
    assert_eq!(in_file(folder.path()).await, before);
}

#[tokio::test]
async fn the_ca_of_one_mesh_that_cannot_be_opened_concerns_that_mesh_alone() {
    let (folder, _) = folder();
    let path = folder.path().join("keys");
    let shown = path.display().to_string();
    std::fs::write(&path, line("one", 1)).expect("writes");
    let variables = [FILE, ("KUMA_STORE_SECRETS_KEY_FILE", &*shown)];
    let first = Life::start(folder.path(), &variables).await;
    first.put("/meshes/demo", &json!({"type": "Mesh", "name": "demo"})).await;
    let signer = first.signer("builtin", "default").await;
    first.running.stop().await;

    // Somebody else's key has sealed it.
    let foreign = Arc::new(SealingKeys::parse(&line("lost", 9)).expect("keys"));
    let database = folder.path().join("state/store.db");
    let open = |keys| async {
        let journal = SealedJournal::new(SqliteJournal::open(&database).expect("opens"), keys);
        JournaledStore::open(journal, Options::default()).await.expect("opens")
    };
    let key = kuma_cp::mesh_ca::key(kuma_model::Ca::Builtin, "demo");
    let store = open(foreign).await;
    let spec = json!({"roots": []});
    store.commit(vec![kuma_store::Write::Put(kuma_model::Document { key, spec })]).await.expect("it is written");
    store.close().await;

    let second = Life::start(folder.path(), &variables).await;
    assert_eq!(second.signer("builtin", "default").await, signer);
    let admin = second.running.addresses.admin.port();
    let url = format!("http://127.0.0.1:{admin}/meshes/demo/ca/builtin/certificates");
    let answer = second.http.get(url).send().await.expect("it answers");
    assert_eq!(answer.status(), 500);
    // What the operator writes to the mesh does not make it a new CA.
    second.put("/meshes/demo", &json!({"type": "Mesh", "name": "demo", "mtls": {"enabled": false}})).await;
    second.running.stop().await;
    let ca = in_file(folder.path()).await.into_iter().find(|(name, _)| name == "builtinca.demo").expect("it is there");
    assert!(ca.1["sealed"].as_str().is_some_and(|text| text.starts_with("lost:")), "{ca:?}");
}

#[tokio::test]
async fn two_control_planes_share_sealed_secrets_in_postgresql() {
    let server = Server::start(&[]);
    let config = server.database();
    let (port, database) = (server.port().to_string(), config.db_name.clone());
    let (folder, other) = (folder().0, self::folder().0);
    let path = folder.path().join("keys").display().to_string();
    std::fs::write(&path, line("one", 1)).expect("writes");
    let variables = [
        ("KUMA_STORE_TYPE", "postgres"),
        ("KUMA_STORE_POSTGRES_PORT", &port),
        ("KUMA_STORE_POSTGRES_DB_NAME", &database),
        ("KUMA_STORE_POSTGRES_USER", &config.user),
        ("KUMA_STORE_POSTGRES_PASSWORD", PASSWORD),
        ("KUMA_STORE_SECRETS_KEY_FILE", &path),
    ];
    let first = Life::start(folder.path(), &variables).await;
    let second = Life::start(other.path(), &variables).await;
    first.put("/meshes/demo", &json!({"type": "Mesh", "name": "demo"})).await;
    assert_eq!(first.signer("builtin", "demo").await, second.signer("builtin", "demo").await);
    let journal = PostgresJournal::connect(config).await.expect("connects");
    assert!(are_sealed(&stored(journal).await, "one"));
    first.running.stop().await;
    second.running.stop().await;
}
