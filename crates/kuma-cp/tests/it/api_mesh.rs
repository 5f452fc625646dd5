//! Meshes and their CAs.

use std::sync::Arc;
use std::time::SystemTime;

use kuma_ca::{MeshRoots, Root};
use kuma_cp::documents::Documents;
use kuma_cp::mesh_ca;
use kuma_model::{Ca, Key, SECRET_KIND};
use kuma_store::{Contents, MemoryStore, Store, Stored, Write};
use serde_json::json;

use crate::client::{delete, get, put};
use crate::test_api::{TestApi, config};

const PROVIDED: &str = r#"{"type":"Mesh","name":"demo","mtls":{"ca":{"provided":{}}}}"#;
const BUILTIN: &str = r#"{"type":"Mesh","name":"demo","mtls":{"ca":{"builtin":{}}}}"#;

#[tokio::test]
async fn a_mesh_is_born_with_its_ca() {
    let api = TestApi::with_mesh("demo").await;
    assert_eq!(
        get(&api.router, "/meshes/demo").await.json(),
        json!({"type": "Mesh", "name": "demo", "mtls": {"ca": {"builtin": {}}}})
    );
    let ca = api.store.get(&mesh_ca::key(Ca::Builtin, "demo")).await.expect("a store").expect("a CA");
    let bundle = |ca: &Stored| {
        let roots = mesh_ca::read(Ca::Builtin, &ca.spec()).expect("a usable CA");
        roots.expect("it has a root").bundle_pem()
    };
    let root = bundle(&ca);
    // Updates keep it.
    assert_eq!(
        put(&api.router, "/meshes/demo", r#"{"type":"Mesh","name":"demo","mtls":{"enabled":true}}"#).await.status,
        200
    );
    let ca = api.store.get(&mesh_ca::key(Ca::Builtin, "demo")).await.expect("a store").expect("a CA");
    assert_eq!(bundle(&ca), root);
    // One commit made both: the store has seen two.
    let Contents { revision, documents: all, .. } = api.store.read_all().await.expect("a store");
    assert_eq!((revision, all.len()), (2, 2));
}

#[tokio::test]
async fn a_provided_ca_must_be_there_first() {
    let api = TestApi::new();
    let message = "mtls.ca.provided: There is no signing certificate in provided CA for a given mesh. Add certificate \
        via 'kumactl manage ca provided certificates add' command.";
    let expected = |title: &str| (400, format!("{title} | Resource is not valid | {message}"));
    assert_eq!(put(&api.router, "/meshes/demo", PROVIDED).await.error(), expected("Could not create a resource"));
    assert_eq!(get(&api.router, "/meshes/demo").await.status, 404);
    assert_eq!(put(&api.router, "/meshes/demo", BUILTIN).await.status, 201);
    assert_eq!(put(&api.router, "/meshes/demo", PROVIDED).await.error(), expected("Could not update a resource"));
}

#[tokio::test]
async fn the_kind_of_ca_changes_only_while_mtls_is_off() {
    let api = TestApi::with_mesh("demo").await;
    let root = Root::generate("demo", SystemTime::now()).expect("a root");
    let provided = mesh_ca::document(Ca::Provided, "demo", Some(&MeshRoots::new(root)));
    api.store.commit(vec![Write::Create(provided)]).await.expect("a store");
    let enabled = |body: &str| body.replace("{\"ca\"", "{\"enabled\":true,\"ca\"");
    assert_eq!(put(&api.router, "/meshes/demo", enabled(BUILTIN)).await.status, 200);
    let expected = "Could not update a resource | Resource is not valid | mtls.ca: Changing CA when mTLS is enabled \
        is forbidden. Disable mTLS first and then change the CA";
    assert_eq!(put(&api.router, "/meshes/demo", enabled(PROVIDED)).await.error(), (400, expected.into()));
    assert_eq!(put(&api.router, "/meshes/demo", PROVIDED).await.status, 200);
    assert_eq!(put(&api.router, "/meshes/demo", enabled(PROVIDED)).await.status, 200);
    assert_eq!(put(&api.router, "/meshes/demo", BUILTIN).await.status, 200);
}

#[tokio::test]
async fn a_lost_ca_is_not_made_anew() {
    let api = TestApi::with_mesh("demo").await;
    api.store
        .commit(vec![Write::Delete { key: mesh_ca::key(Ca::Builtin, "demo"), version: None }])
        .await
        .expect("a store");
    let (status, error) =
        put(&api.router, "/meshes/demo", r#"{"type":"Mesh","name":"demo","mtls":{"enabled":true}}"#).await.error();
    assert_eq!(status, 500);
    assert!(error.contains("The builtin CA of mesh demo is missing in the store"), "{error}");
    assert!(api.store.get(&mesh_ca::key(Ca::Builtin, "demo")).await.expect("a store").is_none());
    // The way out that the message names.
    assert_eq!(delete(&api.router, "/meshes/demo").await.status, 200);
    assert_eq!(put(&api.router, "/meshes/demo", BUILTIN).await.status, 201);
}

#[tokio::test]
async fn deleting_a_mesh_takes_everything_along() {
    let api = TestApi::with_mesh("demo").await;
    let dataplane =
        r#"{"type":"Dataplane","mesh":"demo","name":"dp","networking":{"gateway":{"tags":{"service":"web"}}}}"#;
    let permission = concat!(
        r#"{"type":"TrafficPermission","mesh":"demo","name":"tp","sources":[{"match":{"service":"*"}}],"#,
        r#""destinations":[{"match":{"service":"*"}}]}"#,
    );
    assert_eq!(put(&api.router, "/meshes/demo/dataplanes/dp", dataplane).await.status, 201);
    assert_eq!(put(&api.router, "/meshes/demo/traffic-permissions/tp", permission).await.status, 201);
    assert_eq!(delete(&api.router, "/meshes/demo").await.status, 200);
    assert_eq!(api.store.read_all().await.expect("a store").documents, vec![]);
    assert_eq!(
        delete(&api.router, "/meshes/demo").await.error(),
        (404, "Could not delete a resource | Not found".into())
    );
}

#[tokio::test]
async fn the_default_mesh_is_made_once() {
    let config = config(&[]);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let documents = Documents::new(store.clone(), Arc::new(mesh_ca::FreshRoots));
    let mesh = config.defaults.mesh_document().expect("valid");
    assert!(documents.create_mesh_if_missing(mesh.clone()).await.expect("made"));
    assert!(!documents.create_mesh_if_missing(mesh).await.expect("found"));
    assert!(store.get(&Key::new(SECRET_KIND, "default", "builtinca.default")).await.expect("a store").is_some());
}

#[tokio::test]
async fn writers_at_the_same_time_all_get_an_answer() {
    let api = TestApi::with_mesh("demo").await;
    let writes = (0..16).map(|n| {
        let router = api.router.clone();
        let version = n % 4;
        tokio::spawn(async move {
            let tags = format!(r#"{{"service":"web","version":"{version}"}}"#);
            let networking = format!(r#"{{"gateway":{{"tags":{tags}}}}}"#);
            let body = format!(r#"{{"type":"Dataplane","mesh":"demo","name":"dp","networking":{networking}}}"#);
            put(&router, "/meshes/demo/dataplanes/dp", body).await.status.as_u16()
        })
    });
    let mut statuses = Vec::new();
    for write in writes.collect::<Vec<_>>() {
        statuses.push(write.await.expect("ends"));
    }
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 201 | 409)), "{statuses:?}");
}
