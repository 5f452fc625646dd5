//! Taking over what the original Kuma has left in its database. `data/kuma-0.3.2.sql` was written by Kuma 0.3.2.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kuma_ca::{ImportedKey, mesh_secret};
use kuma_cp::import::{Left, import, names};
use kuma_model::{Ca, SECRET_KIND};
use kuma_store::{MemoryStore, Store as _, Write};
use kuma_store_postgres::OriginalRow as Row;

/// The rows of an SQL file with one `INSERT` in a line, as `pg_dump --inserts` writes them.
fn rows(sql: &str) -> Vec<Row> {
    let inserts =
        sql.lines().filter_map(|line| line.strip_prefix("INSERT INTO public.resources VALUES (")?.strip_suffix(");"));
    inserts.map(|values| row(values).expect("six values")).collect()
}

fn row(values: &str) -> Option<Row> {
    let (name, rest) = text(values)?;
    let (_namespace, rest) = text(rest.strip_prefix(", ")?)?;
    let (mesh, rest) = text(rest.strip_prefix(", ")?)?;
    let (kind, rest) = text(rest.strip_prefix(", ")?)?;
    let (_version, rest) = rest.strip_prefix(", ")?.split_once(", ")?;
    let (spec, rest) = text(rest)?;
    rest.is_empty().then_some(Row { kind, mesh, name, spec: Some(spec) })
}

/// An SQL literal at the start of `sql`, and what follows it.
fn text(sql: &str) -> Option<(String, &str)> {
    let sql = sql.strip_prefix('\'')?;
    let mut end = 0;
    loop {
        end += sql[end..].find('\'')?;
        match sql[end + 1..].strip_prefix('\'') {
            Some(_) => end += 2,
            None => return Some((sql[..end].replace("''", "'"), &sql[end + 1..])),
        }
    }
}

fn of_original() -> Vec<Row> {
    rows(include_str!("data/kuma-0.3.2.sql"))
}

fn made(kind: &str, mesh: &str, name: &str, spec: &str) -> Row {
    Row { kind: kind.into(), mesh: mesh.into(), name: name.into(), spec: Some(spec.into()) }
}

#[tokio::test]
async fn everything_that_the_original_wrote_is_taken_over() {
    let rows = of_original();
    assert_eq!(rows.len(), 9);
    let imported = import(&rows);
    assert_eq!(imported.left, []);
    let mut taken = names(&imported.documents);
    taken.sort();
    assert_eq!(
        taken,
        [
            "Dataplane \"redis-1\" of mesh \"default\"",
            "Dataplane \"web-1\" of mesh \"default\"",
            "HealthCheck \"hc\" of mesh \"default\"",
            "Mesh \"default\"",
            "ProxyTemplate \"pt\" of mesh \"default\"",
            "TrafficPermission \"all\" of mesh \"default\"",
            "TrafficRoute \"r\" of mesh \"default\"",
            "builtin CA of mesh \"default\"",
            "the key that signs dataplane tokens",
        ]
    );
    // In one commit, and with a CA that a control plane uses.
    let store = MemoryStore::new();
    store.commit(imported.documents.into_iter().map(Write::Create).collect()).await.expect("a store");
    let ca = store.get(&mesh_secret::key(Ca::Builtin, "default")).await.expect("a store").expect("the CA");
    let roots = mesh_secret::read(Ca::Builtin, &ca.spec()).expect("a CA").expect("a root");
    let kept: serde_json::Value = serde_json::from_slice(&secret_of(&rows, "builtinca.default")).expect("JSON");
    let cert = BASE64.decode(kept["roots"][0]["cert"].as_str().expect("a certificate")).expect("base64");
    assert_eq!(roots.signing().cert_pem().as_bytes(), cert, "the CA goes on");
    assert!(store.get(&ImportedKey::key()).await.expect("a store").is_some());
}

fn secret_of(rows: &[Row], name: &str) -> Vec<u8> {
    let row = rows.iter().find(|row| row.name == name).expect("the secret");
    let text: String = serde_json::from_str(row.spec.as_deref().expect("a spec")).expect("a string");
    BASE64.decode(text).expect("base64")
}

#[test]
fn a_provided_ca_is_taken_over() {
    let rows = of_original();
    let root: serde_json::Value = serde_json::from_slice(&secret_of(&rows, "builtinca.default")).expect("JSON");
    let provided = serde_json::json!({"signingKeyCerts": [{"id": "1", "cert": root["roots"][0]["cert"],
        "key": root["roots"][0]["key"]}]});
    let text = serde_json::json!(BASE64.encode(provided.to_string())).to_string();
    let mesh = made("Mesh", "default", "default", "{}");
    let imported = import(&[mesh.clone(), made(SECRET_KIND, "default", "providedca.default", &text)]);
    assert_eq!(imported.left, []);
    let document = &imported.documents[1];
    assert_eq!(document.key, mesh_secret::key(Ca::Provided, "default"));
    assert!(mesh_secret::read(Ca::Provided, &document.spec).expect("a CA").is_some());
    let empty = serde_json::json!(BASE64.encode(r#"{"signingKeyCerts":[]}"#)).to_string();
    let imported = import(&[mesh, made(SECRET_KIND, "default", "providedca.default", &empty)]);
    assert_eq!((imported.left, imported.documents.len()), (vec![], 2));
}

#[test]
fn what_cannot_be_taken_over_is_told_by_name_and_reason() {
    let mesh = made("Mesh", "default", "default", "{}");
    let reason = |row: Row| {
        let imported = import(&[mesh.clone(), row]);
        assert_eq!(imported.documents.len(), 1, "{imported:?}");
        let [Left { row, reason }] = imported.left.as_slice() else { panic!("{imported:?}") };
        format!("{row}: {reason}")
    };
    for (row, expected) in [
        (made("FaultInjection", "default", "f", "{}"), "FaultInjection \"f\" of mesh \"default\": type: "),
        (made("Dataplane", "default", "a.b", "{}"), "Dataplane \"a.b\" of mesh \"default\": name: invalid characters"),
        (made("Dataplane", "default", "a", "{}"), "Dataplane \"a\" of mesh \"default\": networking: "),
        (made("Dataplane", "default", "a", "{"), "Dataplane \"a\" of mesh \"default\": its spec is not JSON: "),
        (made("Dataplane", "default", "a", "[]"), "Dataplane \"a\" of mesh \"default\": its spec is not an object"),
        (Row { spec: None, ..made("Mesh", "m", "m", "") }, "Mesh \"m\" of mesh \"m\": it has no spec"),
        (
            made(
                "TrafficRoute",
                "gone",
                "r",
                r#"{"sources":[{"match":{"service":"*"}}],
                "destinations":[{"match":{"service":"*"}}],"conf":[{"weight":1,"destination":{"service":"a"}}]}"#,
            ),
            "TrafficRoute \"r\" of mesh \"gone\": there is no Mesh \"gone\", or it cannot be taken over",
        ),
        (
            made(
                "ProxyTemplate",
                "default",
                "p",
                r#"{"selectors":[{"match":{"service":"*"}}],"conf":{"resources":
                [{"name":"a","version":"1","resource":"'@type': type.googleapis.com/envoy.api.v2.Nothing"}]}}"#,
            ),
            "ProxyTemplate \"p\" of mesh \"default\": conf.resources[0].resource",
        ),
        (made(SECRET_KIND, "default", "x", "\"YQ==\""), "Secret \"x\" of mesh \"default\": no part of Kuma"),
        (made(SECRET_KIND, "default", "x", "{}"), "Secret \"x\" of mesh \"default\": it is not a string in base64"),
        (made(SECRET_KIND, "default", "x", "\"%\""), "Secret \"x\" of mesh \"default\": it is not in base64"),
        (
            made(SECRET_KIND, "default", "builtinca.default", "\"e30=\""),
            "Secret \"builtinca.default\" of mesh \"default\": the stored CA of a mesh cannot be read",
        ),
        (
            made(SECRET_KIND, "default", "dataplane-token-signing-key", "\"YQ==\""),
            "Secret \"dataplane-token-signing-key\" of mesh \"default\": the key is too short to be safe",
        ),
    ] {
        let reason = reason(row);
        assert!(reason.starts_with(expected), "{reason}");
        assert!(!reason.contains("YQ=="), "nothing of a secret is told: {reason}");
    }
    // Proxies report anew.
    let imported = import(&[mesh.clone(), made("DataplaneInsight", "default", "a", "{}")]);
    assert_eq!((imported.documents.len(), imported.left.len()), (1, 0));
}
