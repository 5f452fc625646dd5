//! Control planes that start at the same time on an empty database are one control plane: they have the same keys.

use std::collections::BTreeSet;

use kuma_test::ControlPlane;

use crate::database::{Database, setting};

const CONTROL_PLANES: usize = 8;

/// `KUMA_TEST_ROUNDS` repeats it.
#[tokio::test(flavor = "multi_thread")]
async fn eight_that_start_at_once_make_each_key_once() {
    let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let database = Database::new();
    for round in 0..setting("KUMA_TEST_ROUNDS", 2) {
        let name = format!("round {round}");
        database.make(&name, None);
        let mut cps = tokio::task::JoinSet::new();
        for _ in 0..CONTROL_PLANES {
            let env = database.env_of(&name).map(|(variable, value)| (variable.to_owned(), value.to_owned()));
            cps.spawn(async move {
                let env: Vec<_> = env.iter().map(|(variable, value)| (&**variable, &**value)).collect();
                ControlPlane::start_with(&env).await
            });
        }
        let cps = cps.join_all().await;
        let mut answers: [BTreeSet<String>; 5] = Default::default();
        for cp in &cps {
            let key = |name: &str| std::fs::read_to_string(cp.folder().join("state").join(name)).expect("it is there");
            let ca = format!("{}/meshes/default/ca/builtin/certificates", cp.admin_url());
            let ca = http.get(ca).send().await.expect("it answers").text().await.expect("text");
            assert!(ca.contains("signing"), "round {round}: {ca}");
            let meshes = cp.get("/meshes").await.to_string().replace(&cp.api_url(), "");
            let store = cp.get("/store").await["store"].to_string();
            let all = [key("dataplane-token-signing-key.pem"), key("xds-ca.pem"), ca, meshes, store];
            for (answers, answer) in answers.iter_mut().zip(all) {
                answers.insert(answer);
            }
        }
        let kinds = ["token key", "xDS CA", "mesh CA", "meshes", "store"];
        for (kind, answers) in kinds.iter().zip(&answers) {
            assert_eq!(answers.len(), 1, "round {round}: {kind}: {answers:?}");
        }
        // Nothing was made twice, and none replaced another.
        let changes = "SELECT count(*), max(version) FROM kuma_changes WHERE kind IN ('Mesh', 'Secret')";
        let documents = "SELECT count(*), max(version) FROM kuma_documents WHERE kind IN ('Mesh', 'Secret')";
        assert_eq!(database.server.sql(&name, changes), database.server.sql(&name, documents), "round {round}");
        drop(cps);
        database.server.sql("postgres", &format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
    }
}
