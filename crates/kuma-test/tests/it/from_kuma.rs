//! A control plane on the database of an original Kuma.

use kuma_store_postgres::testing::{PASSWORD, Server};
use kuma_test::ControlPlane;
use serde_json::{Value, json};

/// Written by Kuma 0.3.2.
const TABLE: &str = include_str!("../../../kuma-cp/tests/it/data/kuma-0.3.2.sql");

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().expect("a list").iter().map(|item| item["name"].as_str().expect("a name")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn its_documents_and_its_ca_are_taken_over_once() {
    let server = Server::start(&[]);
    let database = server.database();
    let port = server.port().to_string();
    server.sql(&database.db_name, TABLE);
    server.sql(&database.db_name, "ALTER TABLE resources OWNER TO kuma");
    server.sql(
        &database.db_name,
        "INSERT INTO resources VALUES ('f', '', 'default', 'FaultInjection', 0, '{}'),
         ('web-1', '', 'default', 'DataplaneInsight', 0, '{}')",
    );
    let rows =
        || server.sql(&database.db_name, "SELECT md5(string_agg(r::text, '' ORDER BY r::text)) FROM resources r");
    let before = rows();
    let env = [
        ("KUMA_STORE_TYPE", "postgres"),
        ("KUMA_STORE_POSTGRES_PORT", port.as_str()),
        ("KUMA_STORE_POSTGRES_PASSWORD", PASSWORD),
        ("KUMA_STORE_POSTGRES_DB_NAME", &database.db_name),
    ];
    let mut cp = ControlPlane::start_with(&env).await;
    assert_eq!(names(&cp.get("/meshes").await), ["default"]);
    assert_eq!(names(&cp.get("/meshes/default/dataplanes").await), ["redis-1", "web-1"]);
    let route = cp.get("/meshes/default/traffic-routes/r").await;
    assert_eq!(route["conf"][0]["weight"], 90, "{route}");
    assert_eq!(cp.get("/meshes/default").await["mtls"]["enabled"], json!(true));
    let log = cp.output();
    assert!(log.contains("builtin CA of mesh \"default\""), "what was taken is told: {log}");
    assert!(log.contains("FaultInjection \"f\" of mesh \"default\": type: "), "and what was not: {log}");
    assert_eq!(rows(), before, "the table stays as it is");

    // What is changed afterwards is not taken over again.
    cp.delete("/meshes/default/dataplanes/web-1").await;
    cp.kill();
    cp.restart().await;
    assert_eq!(names(&cp.get("/meshes/default/dataplanes").await), ["redis-1"]);
}
