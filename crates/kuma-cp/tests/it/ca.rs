//! The CAs of meshes on the administrative port.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use kuma_ca::{LeafRequest, Root};
use kuma_cp::admin::{self, Admin};
use kuma_cp::api::{self, Api};
use kuma_cp::documents::Documents;
use kuma_cp::mesh_ca::KeptRoots;
use kuma_cp::mesh_ca::routes::CaAdmin;
use kuma_cp::state_folder::StateFolder;
use kuma_engine::{Engine, Settings, is_of_this_machine};
use kuma_store::{MemoryStore, Store};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::client::{delete, get, post, put};
use crate::test_api::{Live, config};

const CERTIFICATES: &str = "/meshes/demo/ca/provided/certificates";
const ROTATION: &str = "/meshes/demo/ca/provided/rotation";
const BUILTIN: &str = "/meshes/demo/ca/builtin";

/// The ports over a store in memory, and a state folder that outlives it.
struct World {
    api: Router,
    admin: Router,
    store: Arc<dyn Store>,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        World::in_folder(tempfile::tempdir().expect("a folder")).await
    }

    async fn in_folder(folder: tempfile::TempDir) -> World {
        let state = Arc::new(StateFolder::open(folder.path().join("state")).expect("opens"));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let documents = Arc::new(Documents::new(store.clone(), Arc::new(KeptRoots(state))));
        let api = Api::new(
            store.clone(),
            Arc::new(Live::default()),
            documents.clone(),
            crate::test_api::engine(),
            &config(&[]),
        );
        let api = Arc::new(api.expect("an API"));
        documents.cas().restore().await.expect("what is kept can be read");
        let settings = Settings {
            complete: false,
            leaf_validity: Duration::from_secs(3600),
            started: SystemTime::now(),
            is_of_this_machine,
        };
        let ca =
            CaAdmin { cas: documents.cas(), engine: Engine::new(settings, Arc::new(()), CancellationToken::new()) };
        let admin = admin::router(Arc::new(Admin { tokens: None, ca: Some(ca), api: None }));
        World { api: api::router(api), admin, store, folder }
    }

    /// The same after a restart.
    async fn restarted(self) -> World {
        World::in_folder(self.folder).await
    }

    async fn mesh(&self, ca: &str, enabled: bool) -> u16 {
        let body = json!({"type": "Mesh", "name": "demo", "mtls": {"enabled": enabled, "ca": {ca: {}}}});
        put(&self.api, "/meshes/demo", body.to_string()).await.status.as_u16()
    }

    async fn add(&self, root: &Root) -> String {
        let answer = post(&self.admin, CERTIFICATES, pair(root)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["cert"], root.cert_pem());
        assert_eq!(answer.json().as_object().expect("an object").len(), 2, "id and cert alone");
        answer.json()["id"].as_str().expect("a text").to_owned()
    }

    /// Id and state of each certificate.
    async fn list(&self, path: &str) -> Vec<(String, String)> {
        let answer = get(&self.admin, path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let text = |entry: &Value, field: &str| entry[field].as_str().expect("a text").to_owned();
        let list = answer.json();
        list.as_array().expect("a list").iter().map(|entry| (text(entry, "id"), text(entry, "state"))).collect()
    }
}

fn root() -> Root {
    Root::generate("demo", SystemTime::now()).expect("a root")
}

fn pair(root: &Root) -> String {
    json!({"cert": root.cert_pem(), "key": root.key_pem().expose()}).to_string()
}

fn states(list: &[(String, String)]) -> Vec<&str> {
    list.iter().map(|(_, state)| state.as_str()).collect()
}

#[tokio::test]
async fn the_documented_life_of_a_provided_ca() {
    let world = World::new().await;
    let none = (404, "Could not retrieve signing certs | Not found".to_owned());
    assert_eq!(get(&world.admin, CERTIFICATES).await.error(), none);
    assert_eq!(world.mesh("provided", false).await, 400, "the certificate comes first");
    // The Mesh need not exist.
    let first = root();
    let id = world.add(&first).await;
    assert_eq!(world.list(CERTIFICATES).await, [(id.clone(), "signing".to_owned())]);
    let second = post(&world.admin, CERTIFICATES, pair(&root())).await;
    let only_one = "Could not add signing cert | cannot add more than 1 CA root to provided CA";
    assert_eq!(second.error(), (409, only_one.to_owned()));
    let unknown = (404, "Could not delete signing cert | Not found".to_owned());
    assert_eq!(delete(&world.admin, &format!("{CERTIFICATES}/other")).await.error(), unknown);

    assert_eq!(world.mesh("provided", true).await, 201);
    let one = format!("{CERTIFICATES}/{id}");
    let in_use = "Could not delete signing cert | Cannot delete signing certificate when the mTLS in the mesh is \
        active and type of CA is Provided";
    assert_eq!(delete(&world.admin, &one).await.error(), (400, in_use.to_owned()));
    assert_eq!(delete(&world.admin, &format!("{one}?force=true")).await.error().0, 400, "there would be no CA");
    assert_eq!(world.mesh("builtin", true).await, 400, "not while mTLS is on");
    assert_eq!(world.mesh("provided", false).await, 200);
    assert_eq!(world.mesh("builtin", true).await, 200);
    assert_eq!(delete(&world.admin, &one).await.status, 200, "it is not in use any more");
    assert_eq!(get(&world.admin, CERTIFICATES).await.json(), json!([]));
    assert_eq!(delete(&world.admin, &one).await.error(), unknown);
    // And another.
    let other = world.add(&root()).await;
    assert_ne!(id, other);
}

#[tokio::test]
async fn what_is_wrong_changes_nothing() {
    let world = World::new().await;
    let invalid = |causes: &str| (400, format!("Could not add signing cert | Resource is not valid | {causes}"));
    for (body, expected) in [
        ("{}".to_owned(), invalid("cert: must not be empty | key: must not be empty")),
        (r#"{"cert": "", "key": 1}"#.into(), invalid("cert: must not be empty | key: must be a text")),
        (
            r#"{"cert": "x", "key": "y"}"#.into(),
            invalid(".: not a valid TLS key pair: there is no PEM block CERTIFICATE in the certificate"),
        ),
        (
            "nonsense".into(),
            (400, "Could not process the key pair | Body is not valid JSON: line 1, column 2: expected ident".into()),
        ),
    ] {
        assert_eq!(post(&world.admin, CERTIFICATES, body.clone()).await.error(), expected, "{body}");
    }
    assert_eq!(post(&world.admin, CERTIFICATES, " ".repeat(64 * 1024 + 1)).await.status, 413);
    // One that a CA has signed.
    let services = std::collections::BTreeSet::from(["web"]);
    let (validity, now) = (Duration::from_secs(3600), SystemTime::now());
    let leaf = root().issue(&LeafRequest { mesh: "demo", services: &services, validity, now }).expect("issues");
    let intermediate = json!({"cert": leaf.chain_pem, "key": leaf.key_pem.expose()}).to_string();
    let answer = post(&world.admin, CERTIFICATES, intermediate.clone()).await;
    let (status, error) = answer.error();
    assert!(error.contains("cert: certificate must be self-signed (intermediate CAs are not allowed)"), "{error}");
    assert!(status == 400 && !error.contains("PRIVATE"), "{error}");
    assert_eq!(get(&world.admin, CERTIFICATES).await.error().0, 404, "nothing was added");
    assert_eq!(post(&world.admin, ROTATION, pair(&root())).await.error().0, 404, "there is nothing to rotate");

    let id = world.add(&root()).await;
    let (status, error) = post(&world.admin, ROTATION, intermediate).await.error();
    assert!(status == 400 && error.starts_with("Could not rotate the CA | Resource is not valid | cert: "), "{error}");
    let waits = |wait: Value| {
        let root = root();
        json!({"cert": root.cert_pem(), "key": root.key_pem().expose(), "wait": wait}).to_string()
    };
    for wait in [json!("soon"), json!(10), json!("-1s")] {
        let (status, error) = post(&world.admin, ROTATION, waits(wait)).await.error();
        assert!(status == 400 && error.contains("| wait: must "), "{error}");
    }
    assert_eq!(world.list(CERTIFICATES).await, [(id, "signing".to_owned())]);

    for path in ["/meshes/Demo/ca/provided/certificates", "/meshes/a%2Fb/ca/provided/certificates"] {
        assert_eq!(get(&world.admin, path).await.error().0, 400, "{path}");
    }
    for path in ["/meshes/demo/ca", "/meshes/demo/ca/other/certificates", "/meshes/demo/ca/provided/certificates/a/b"] {
        assert_eq!(get(&world.admin, path).await.error().0, 404, "{path}");
    }
    assert_eq!(put(&world.admin, CERTIFICATES, "{}").await.header("allow"), "GET, HEAD, POST");
    assert_eq!(post(&world.admin, &format!("{BUILTIN}/certificates"), "{}").await.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn a_rotation_begins_and_is_given_up() {
    let world = World::new().await;
    let (first, second) = (root(), root());
    let id = world.add(&first).await;
    assert_eq!(world.mesh("provided", true).await, 201);
    let answer = post(&world.admin, ROTATION, pair(&second)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let next = answer.json()["id"].as_str().expect("a text").to_owned();
    let list = world.list(CERTIFICATES).await;
    assert_eq!(list, [(id.clone(), "signing".to_owned()), (next.clone(), "next".to_owned())]);
    let again = post(&world.admin, ROTATION, pair(&root())).await;
    assert_eq!(again.error(), (409, "Could not rotate the CA | a rotation is under way".to_owned()));
    assert_eq!(post(&world.admin, CERTIFICATES, pair(&root())).await.status, 409, "one at a time");
    // The one that signs is needed; the next one is not yet.
    assert_eq!(delete(&world.admin, &format!("{CERTIFICATES}/{id}")).await.status, 400);
    assert_eq!(delete(&world.admin, &format!("{CERTIFICATES}/{next}")).await.status, 200);
    assert_eq!(world.list(CERTIFICATES).await, [(id.clone(), "signing".to_owned())]);
    let same = post(&world.admin, ROTATION, pair(&first)).await;
    assert_eq!(same.error(), (409, "Could not rotate the CA | the certificate is the one that signs".to_owned()));

    // In an emergency the old one goes at once.
    assert_eq!(post(&world.admin, ROTATION, pair(&second)).await.status, 200);
    assert_eq!(delete(&world.admin, &format!("{CERTIFICATES}/{id}?force=true")).await.status, 200);
    assert_eq!(world.list(CERTIFICATES).await, [(next, "signing".to_owned())]);
}

#[tokio::test]
async fn a_builtin_ca_rotates_and_loses_no_certificate_unasked() {
    let world = World::new().await;
    assert_eq!(get(&world.admin, &format!("{BUILTIN}/certificates")).await.error().0, 404);
    assert_eq!(post(&world.admin, &format!("{BUILTIN}/rotation"), "").await.error().0, 404);
    assert_eq!(world.mesh("builtin", true).await, 201);
    let list = world.list(&format!("{BUILTIN}/certificates")).await;
    assert_eq!(states(&list), ["signing"]);
    let one = format!("{BUILTIN}/certificates/{}", list[0].0);
    assert_eq!(delete(&world.admin, &format!("{one}?force=true")).await.error().0, 409);
    assert_eq!(post(&world.admin, &format!("{BUILTIN}/rotation"), r#"{"wait": "10m"}"#).await.status, 200);
    assert_eq!(states(&world.list(&format!("{BUILTIN}/certificates")).await), ["signing", "next"]);
    let (status, error) = delete(&world.admin, &one).await.error();
    assert!(status == 409 && error.contains("proxies may still show what the certificate has signed"), "{error}");
    assert_eq!(delete(&world.admin, &format!("{one}?force=true")).await.status, 200);
    assert_eq!(states(&world.list(&format!("{BUILTIN}/certificates")).await), ["signing"]);
}

#[tokio::test]
async fn cas_outlive_the_control_plane_and_go_with_their_mesh() {
    let world = World::new().await;
    let id = world.add(&root()).await;
    assert_eq!(world.mesh("builtin", true).await, 201);
    for rotation in [ROTATION, &format!("{BUILTIN}/rotation")] {
        assert_eq!(post(&world.admin, rotation, pair(&root())).await.status, 200);
    }
    let provided = world.list(CERTIFICATES).await;
    let builtin = world.list(&format!("{BUILTIN}/certificates")).await;
    assert_eq!((&provided[0].0, states(&provided)), (&id, vec!["signing", "next"]));

    let world = world.restarted().await;
    assert_eq!(world.list(CERTIFICATES).await, provided, "before its Mesh is written again");
    assert_eq!(world.mesh("provided", true).await, 201);
    assert_eq!(world.mesh("builtin", false).await, 200);
    assert_eq!(world.list(&format!("{BUILTIN}/certificates")).await, builtin);

    assert_eq!(delete(&world.api, "/meshes/demo").await.status, 200);
    assert_eq!(get(&world.admin, CERTIFICATES).await.status, 404);
    assert_eq!(world.store.read_all().await.expect("a store").documents, []);
    let world = world.restarted().await;
    assert_eq!(get(&world.admin, CERTIFICATES).await.status, 404);
    assert_eq!(world.mesh("provided", true).await, 400);
}

#[tokio::test]
async fn a_damaged_ca_is_left_to_the_operator() {
    let world = World::new().await;
    world.add(&root()).await;
    std::fs::write(world.folder.path().join("state/providedca.demo"), "{}").expect("writes");
    let world = world.restarted().await;
    assert_eq!(get(&world.admin, CERTIFICATES).await.error().0, 500);
    assert_eq!(post(&world.admin, CERTIFICATES, pair(&root())).await.error().0, 500, "nothing takes its place unasked");
    assert_eq!(world.mesh("provided", true).await, 400);
    assert_eq!(world.mesh("builtin", true).await, 201, "it hurts nobody else");
}
