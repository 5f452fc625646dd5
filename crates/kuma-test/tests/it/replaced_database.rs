//! A database in whose place another one is put: an older backup, an empty one, one of somebody else. Proxies keep what
//! they have, whether the control plane runs meanwhile or starts afterwards, until somebody accepts it.

use std::collections::BTreeMap;
use std::time::Duration;

use kuma_test::documents::{dataplane, mesh};
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, Load, eventually};

use crate::database::Database;
use crate::fleet::Fleet;
use crate::restart::connected;
use crate::stores::secured;

/// Instances of redis. With web's there is one proxy more.
const INSTANCES: u64 = 4;

/// Longer than proxies are held without a new document, and than a departure takes.
const LONG_ENOUGH: Duration = Duration::from_secs(8);

/// The version of each resource that a proxy has.
type Versions = BTreeMap<String, String>;

fn proxies(fleet: &Fleet) -> Vec<&Dataplane> {
    let scene = [&fleet.scene.web_proxy, &fleet.scene.redis_proxy];
    scene.into_iter().chain(fleet.others.iter().map(|one| &one.proxy)).collect()
}

async fn versions(fleet: &Fleet) -> Vec<Versions> {
    let mut all = Vec::new();
    for proxy in proxies(fleet) {
        all.push(proxy.versions().await);
    }
    all
}

/// Waits until the store is found to be another one, or one without our tables, which is away until a start makes them.
async fn rewound(cp: &ControlPlane) {
    let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    eventually("the store is not complete", async || {
        let answer = http.get(format!("{}/store", cp.api_url())).send().await.expect("it answers");
        let is_away = answer.headers().contains_key("kuma-store");
        let store: serde_json::Value = answer.json().await.expect("JSON");
        (is_away || store["complete"] == false).then_some(())
    })
    .await;
}

/// Replaces the database of a running mesh, and starts its control plane again on what there is. The fleet is the mesh
/// as it was, with all that the store lacks.
async fn replaced(prepare: impl AsyncFnOnce(&Database, &str)) -> (Database, Fleet) {
    let (database, fleet, before) = replaced_with(prepare).await;
    for proxy in proxies(&fleet) {
        connected(proxy).await;
    }
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(versions(&fleet).await, before, "after they have come back");
    (database, fleet)
}

/// The same, whether proxies come back to the control plane or not. Returns what they had as well.
async fn replaced_with(prepare: impl AsyncFnOnce(&Database, &str)) -> (Database, Fleet, Vec<Versions>) {
    let database = Database::new();
    let scene = secured(&database.env()).await;
    accept(&scene.cp);
    prepare(&database, "other").await;
    let mut fleet = Fleet::start_in(scene, INSTANCES).await;
    let (before, changes) = (versions(&fleet).await, fleet.changes().await);

    let load = Load::start(fleet.scene.outbound);
    database.replace_by("other");
    rewound(&fleet.scene.cp).await;
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(versions(&fleet).await, before, "while the control plane runs");
    fleet.scene.cp.kill();
    fleet.scene.cp.restart().await;
    rewound(&fleet.scene.cp).await;
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(versions(&fleet).await, before, "after a start");
    assert_eq!(fleet.changes().await, changes, "an endpoint left or came");
    let requests = load.end().await;
    assert!(requests > 500, "{requests} requests are too few to see anything");
    (database, fleet, before)
}

fn accept(cp: &ControlPlane) -> String {
    let accepted = cp.kumactl(&["store", "accept", "--yes"], "");
    assert!(accepted.status.success(), "{accepted:?}");
    String::from_utf8_lossy(&accepted.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_backup_takes_nothing_from_proxies_until_it_is_accepted() {
    let older = async |database: &Database, name: &str| database.make(name, Some(&database.name));
    let (_database, fleet) = replaced(older).await;
    let said = accept(&fleet.scene.cp);
    assert!(said.contains("redis-2") && said.contains("redis-4") && !said.contains("web-1"), "{said}");
    // What the backup has goes on, and the others are gone.
    fleet.instances(1).await;
    fleet.scene.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_takes_nothing_from_proxies_until_it_is_accepted() {
    let empty = async |database: &Database, name: &str| database.make(name, None);
    let (_database, fleet) = replaced(empty).await;
    let said = accept(&fleet.scene.cp);
    assert!(said.contains("redis-1") && said.contains("web-1"), "{said}");
    fleet.scene.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_of_another_mesh_takes_nothing_from_proxies() {
    let others = async |database: &Database, name: &str| {
        database.make(name, None);
        let mut cp = ControlPlane::start_with(&database.env_of(name)).await;
        cp.apply(&mesh("others", true)).await;
        cp.apply(&dataplane("others", "other-1", "other", (free_port(), free_port()), &[])).await;
        cp.kill();
    };
    let (database, mut fleet, before) = replaced_with(others).await;
    // It has other keys: proxies do not take the control plane for theirs, until it has its database again.
    let log = fleet.scene.cp.output();
    assert!(log.contains("does not trust this control plane's certificate"), "{log}");
    fleet.scene.cp.kill();
    database.replace_by("before other");
    fleet.scene.cp.restart().await;
    for proxy in proxies(&fleet) {
        connected(proxy).await;
    }
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(versions(&fleet).await, before);
    assert!(accept(&fleet.scene.cp).contains("nothing is taken away"));
    fleet.scene.cp.delete("/meshes/default/traffic-permissions/web-to-redis").await;
    fleet.scene.closed().await;
}
