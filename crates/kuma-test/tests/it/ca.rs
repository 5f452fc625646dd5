//! The CA of a mesh: a provided CA as documented, and rotations that interrupt no connection.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use kuma_test::apps::Client;
use kuma_test::documents::{dataplane, mesh, permission};
use kuma_test::ports::free_port;
use kuma_test::wire::Wire;
use kuma_test::{ControlPlane, Dataplane, Load, eventually};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::scene::Scene;

/// How long a rotation may take. It begins half a minute after the start of a control plane at the earliest, and each
/// step waits for connections from before it.
const ROTATION: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_walk_with_a_ca_of_ones_own() {
    let mut scene = Scene::start().await;
    let manage = "manage ca provided certificates";
    let pair = openssl(scene.cp.folder(), "root", &["-newkey", "rsa:2048"], ROOT);
    let provided = "type: Mesh\nname: default\nmtls:\n  enabled: true\n  ca:\n    provided: {}\n";

    let refused = scene.cp.kumactl(&["apply", "-f", "-"], provided);
    assert!(error(&refused).contains("There is no signing certificate in provided CA for a given mesh"), "{refused:?}");
    // A certificate that is no root is refused.
    let usage = "keyUsage=critical,keyCertSign,digitalSignature";
    let bad = openssl(scene.cp.folder(), "bad", &["-newkey", "rsa:2048"], &[ROOT[0], ROOT[1], "-addext", usage]);
    let refused = kumactl(&scene.cp, &format!("{manage} add {bad}"));
    let expected = "Error: Could not add signing cert (Resource is not valid)\n* cert: key usage extension \
        'digitalSignature' must NOT be set (see X509-SVID: Appendix A. X.509 Field Reference)\n";
    assert_eq!(error(&refused), expected);
    assert_eq!(
        error(&kumactl(&scene.cp, &format!("{manage} list"))),
        "Error: Could not retrieve signing certs (Not found)\n"
    );

    let added = text(&kumactl(&scene.cp, &format!("{manage} add {pair}")));
    let id = added.strip_prefix("added certificate \"").and_then(|rest| rest.strip_suffix("\"\n")).expect("its id");
    let list = text(&kumactl(&scene.cp, &format!("{manage} list")));
    assert!(list.lines().nth(1).is_some_and(|row| row.starts_with(&format!("{id}   root   "))), "{list}");

    text(&scene.cp.kumactl(&["apply", "-f", "-"], provided));
    scene.cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    scene.closed_to_plain_text().await;
    scene.open().await.echoes().await;
    assert_eq!(issuer(&scene).await, "root");
    assert_eq!(scene.certificate_uris().await, ["spiffe://default/redis"]);

    let refused = kumactl(&scene.cp, &format!("{manage} delete --id={id}"));
    let in_use = "Error: Could not delete signing cert (Cannot delete signing certificate when the mTLS in the mesh \
        is active and type of CA is Provided)\n";
    assert_eq!(error(&refused), in_use);
    let refused = scene.cp.kumactl(&["apply", "-f", "-"], &provided.replace("provided", "builtin"));
    assert!(error(&refused).contains(
        "* mtls.ca: Changing CA when mTLS is enabled is forbidden. Disable mTLS first and then change the CA"
    ));
    key_shows_nowhere(&mut scene, "root.key").await;

    // mTLS is turned off, and on again with another type of CA.
    scene.cp.apply(&mesh("default", false)).await;
    eventually("redis is open to plain text", || Client::connect(scene.inbound)).await;
    text(&kumactl(&scene.cp, &format!("{manage} delete --id={id}")));
    scene.cp.apply(&mesh("default", true)).await;
    scene.closed_to_plain_text().await;
    scene.open().await.echoes().await;
    assert_eq!(issuer(&scene).await, "default");
    for proxy in [&scene.web_proxy, &scene.redis_proxy] {
        eventually("the old root is trusted no more", async || (trusted(proxy).await == 1).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provided_ca_is_rotated_under_load() {
    let scene = Scene::start().await;
    let first = openssl(scene.cp.folder(), "first", &["-newkey", "rsa:2048"], ROOT);
    let second = openssl(scene.cp.folder(), "second", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], ROOT);
    text(&kumactl(&scene.cp, &format!("manage ca provided certificates add {first}")));
    scene
        .cp
        .apply(&json!({"type": "Mesh", "name": "default", "mtls": {"enabled": true, "ca": {"provided": {}}}}))
        .await;
    begin(&scene).await;
    assert_eq!(issuer(&scene).await, "first");
    rotated_under_load(&scene, "provided", &second).await;
    assert_eq!(issuer(&scene).await, "second");
}

/// Two rotations: both roots have the same name, and the second rotation starts in the state that the first has left.
#[tokio::test(flavor = "multi_thread")]
async fn a_builtin_ca_is_rotated_under_load() {
    let scene = Scene::start().await;
    scene.cp.apply(&mesh("default", true)).await;
    begin(&scene).await;
    for _ in 0..2 {
        rotated_under_load(&scene, "builtin", "").await;
    }
}

/// Rotates under load, and checks the steps.
async fn rotated_under_load(scene: &Scene, ca: &str, pair: &str) {
    let mut long_lived = scene.open().await;
    let listeners = scene.redis_proxy.stat("listener_manager.lds.update_success").await;
    let before = scene.certificate().await;
    let load = Load::start(scene.outbound);
    text(&kumactl(&scene.cp, &format!("manage ca {ca} certificates rotate {pair}")));
    phase(&scene.cp, ca, "replacing").await;
    assert_eq!(states(&scene.cp, ca), ["old", "signing"]);
    eventually("redis shows a certificate of the new root", async || {
        (scene.certificate().await != before).then_some(())
    })
    .await;
    phase(&scene.cp, ca, "none").await;
    for proxy in [&scene.web_proxy, &scene.redis_proxy] {
        eventually("the old root is trusted no more", async || (trusted(proxy).await == 1).then_some(())).await;
    }
    let requests = load.end().await;
    assert!(requests > 500, "{requests} requests are too few to see anything");
    assert!(long_lived.echoes().await, "a connection from before was cut");
    assert_eq!(states(&scene.cp, ca), ["signing"]);
    assert_eq!(
        scene.redis_proxy.stat("listener_manager.lds.update_success").await,
        listeners,
        "no listener was touched"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_goes_on_after_a_kill() {
    let mut scene = Scene::start().await;
    scene.cp.apply(&mesh("default", true)).await;
    // A Dataplane that has never connected delays the rotation.
    let absent = dataplane("default", "absent", "absent", (free_port(), free_port()), &[]);
    scene.cp.apply(&absent).await;
    begin(&scene).await;
    let load = Load::start(scene.outbound);
    text(&kumactl(&scene.cp, "manage ca builtin certificates rotate"));
    for proxy in [&scene.web_proxy, &scene.redis_proxy] {
        eventually("both roots are trusted", async || (trusted(proxy).await == 2).then_some(())).await;
    }
    let status = eventually("the absent one alone is waited for", async || {
        let status = rotation(&scene.cp, "builtin").await;
        (status["proxies"]["waiting"] == 0).then_some(status)
    })
    .await;
    assert_eq!(status["proxies"]["awayNames"], json!(["absent"]), "{status}");
    let list = kumactl(&scene.cp, "manage ca builtin certificates list");
    assert!(error_of_success(&list).contains("1 away, such as absent"), "{list:?}");
    let before = scene.certificate().await;

    scene.cp.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.cp.restart().await;
    assert_eq!(states(&scene.cp, "builtin"), ["signing", "next"], "before any document is written");
    let [redis, web] = scene.documents();
    for document in [redis, web, permission("default", "web-to-redis", "web", "redis"), mesh("default", true), absent] {
        scene.cp.apply(&document).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(rotation(&scene.cp, "builtin").await["phase"], "introducing");
    assert_eq!(scene.certificate().await, before, "it is still the one of the old root");
    scene.cp.delete("/meshes/default/dataplanes/absent").await;
    phase(&scene.cp, "builtin", "replacing").await;
    // The control plane is also killed during the second step.
    scene.cp.kill();
    scene.cp.restart().await;
    let [redis, web] = scene.documents();
    for document in [mesh("default", true), web, redis, permission("default", "web-to-redis", "web", "redis")] {
        scene.cp.apply(&document).await;
    }
    phase(&scene.cp, "builtin", "none").await;
    let requests = load.end().await;
    assert!(requests > 1000, "{requests} requests are too few to see anything");
    assert_ne!(scene.certificate().await, before);
    for proxy in [&scene.web_proxy, &scene.redis_proxy] {
        eventually("the old root is trusted no more", async || (trusted(proxy).await == 1).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_that_were_away_during_a_rotation_come_back() {
    let xds = free_port();
    let wire = Wire::start(xds).await;
    let (own, given) = (xds.to_string(), wire.port.to_string());
    let env = [("KUMA_XDS_SERVER_GRPC_PORT", own.as_str()), ("KUMA_BOOTSTRAP_SERVER_PARAMS_XDS_PORT", &given)];
    let scene = Scene::start_with(&env).await;
    scene.cp.apply(&mesh("default", true)).await;
    begin(&scene).await;
    let before = scene.certificate().await;
    wire.cut();
    eventually("nobody is connected", async || {
        (rotation(&scene.cp, "builtin").await["proxies"]["connected"] == 0).then_some(())
    })
    .await;
    text(&kumactl(&scene.cp, "manage ca builtin certificates rotate"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(states(&scene.cp, "builtin"), ["signing", "next"], "they are waited for");
    let next = certificates(&scene.cp, "builtin").remove(1);
    text(&kumactl(
        &scene.cp,
        &format!("manage ca builtin certificates delete --id={}", next["id"].as_str().expect("an id")),
    ));
    text(&kumactl(&scene.cp, "manage ca builtin certificates rotate --wait=0s"));
    phase(&scene.cp, "builtin", "none").await;
    assert!(Client::connect(scene.outbound).await.is_some(), "they trust each other as before");
    assert_eq!(scene.certificate().await, before);
    wire.mend();
    eventually("redis shows a certificate of the new root", async || {
        (scene.certificate().await != before).then_some(())
    })
    .await;
    scene.open().await.echoes().await;
    for proxy in [&scene.web_proxy, &scene.redis_proxy] {
        eventually("the old root is trusted no more", async || (trusted(proxy).await == 1).then_some(())).await;
    }
    assert!(Client::connect(scene.outbound).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_root_goes_at_once_where_it_must() {
    let scene = Scene::start().await;
    scene.cp.apply(&mesh("default", true)).await;
    begin(&scene).await;
    let before = scene.certificate().await;
    text(&kumactl(&scene.cp, "manage ca builtin certificates rotate"));
    let old = certificates(&scene.cp, "builtin").remove(0);
    let delete = format!("manage ca builtin certificates delete --id={}", old["id"].as_str().expect("an id"));
    let refused = kumactl(&scene.cp, &delete);
    assert!(error(&refused).contains("proxies may still show what the certificate has signed"), "{refused:?}");
    text(&kumactl(&scene.cp, &format!("{delete} --force")));
    for proxy in [&scene.web_proxy, &scene.redis_proxy] {
        eventually("the old root is trusted no more", async || {
            (trusted(proxy).await == 1 && scene.certificate().await != before).then_some(())
        })
        .await;
    }
    scene.open().await.echoes().await;
}

/// Enables mTLS, with a permission for web to call redis.
async fn begin(scene: &Scene) {
    scene.cp.apply(&permission("default", "web-to-redis", "web", "redis")).await;
    scene.closed_to_plain_text().await;
    scene.open().await;
}

/// Arguments of openssl for a root certificate as documented.
const ROOT: &[&str] =
    &["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"];

/// A key and a self-signed certificate, as flags of kumactl.
fn openssl(folder: &Path, name: &str, key: &[&str], extensions: &[&str]) -> String {
    let path = |suffix: &str| -> PathBuf { folder.join(format!("{name}.{suffix}")) };
    let made = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "30", "-subj", &format!("/CN={name}")])
        .args(key)
        .args(extensions)
        .arg("-keyout")
        .arg(path("key"))
        .arg("-out")
        .arg(path("pem"))
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    format!("--key-file={} --cert-file={}", path("key").display(), path("pem").display())
}

pub(crate) fn kumactl(cp: &ControlPlane, line: &str) -> Output {
    cp.kumactl(&line.split_whitespace().collect::<Vec<_>>(), "")
}

/// The output of a command, which must succeed.
pub(crate) fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The error message of a command, which must fail.
fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    error_of_success(output)
}

fn error_of_success(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn certificates(cp: &ControlPlane, ca: &str) -> Vec<Value> {
    let list = text(&kumactl(cp, &format!("manage ca {ca} certificates list -o json")));
    serde_json::from_str(&list).expect("JSON")
}

fn states(cp: &ControlPlane, ca: &str) -> Vec<String> {
    certificates(cp, ca).iter().map(|entry| entry["state"].as_str().expect("a state").to_owned()).collect()
}

/// The state of a rotation, from the admin API.
pub(crate) async fn rotation(cp: &ControlPlane, ca: &str) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.get(format!("{}/meshes/default/ca/{ca}/rotation", cp.admin_url())).send().await;
    answer.expect("the admin API answers").json().await.expect("JSON")
}

async fn phase(cp: &ControlPlane, ca: &str, phase: &str) {
    let reached = async {
        while rotation(cp, ca).await["phase"] != phase {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(ROTATION, reached).await.is_err() {
        panic!("the rotation is not {phase}: {}", rotation(cp, ca).await);
    }
}

/// Common name of the issuer of redis's certificate.
async fn issuer(scene: &Scene) -> String {
    let der = scene.certificate().await;
    let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
    let name = certificate.issuer().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.expect("an issuer").to_owned()
}

/// How many roots a proxy trusts, counted over all validation secrets.
pub(crate) async fn trusted(proxy: &Dataplane) -> usize {
    let dump: Value = serde_json::from_str(&proxy.config_dump().await).expect("JSON");
    let mut counts = Vec::new();
    note_roots(&dump, &mut counts);
    assert!(!counts.is_empty(), "it trusts nobody");
    assert!(counts.iter().all(|count| *count > 0));
    counts.into_iter().max().unwrap_or(0)
}

fn note_roots(value: &Value, counts: &mut Vec<usize>) {
    use base64::Engine as _;
    match value {
        Value::Object(fields) => {
            // The CA of the control plane is not counted.
            if let Some(bytes) =
                fields.get("validation_context").and_then(|context| context["trusted_ca"]["inline_bytes"].as_str())
                && fields.contains_key("name")
            {
                let pem = base64::engine::general_purpose::STANDARD.decode(bytes).expect("base64");
                counts.push(String::from_utf8_lossy(&pem).matches("BEGIN CERTIFICATE").count());
            }
            fields.values().for_each(|value| note_roots(value, counts));
        }
        Value::Array(items) => items.iter().for_each(|value| note_roots(value, counts)),
        _ => {}
    }
}

/// Checks that the key in this file of the control plane's folder is in no response, log or configuration.
async fn key_shows_nowhere(scene: &mut Scene, file: &str) {
    let key = std::fs::read_to_string(scene.cp.folder().join(file)).expect("a key");
    let canary = key.lines().nth(3).expect("a key has more lines").to_owned();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut places = vec![
        ("kuma-cp's log".to_owned(), scene.cp.output()),
        ("redis's configuration".to_owned(), scene.redis_proxy.config_dump().await),
    ];
    let paths = ["/config", "/meshes", "/meshes/default", "/catalog", "/openapi.json"];
    let api = paths.map(|path| format!("{}{path}", scene.cp.api_url()));
    let admin =
        ["certificates", "rotation"].map(|what| format!("{}/meshes/default/ca/provided/{what}", scene.cp.admin_url()));
    for url in api.into_iter().chain(admin) {
        let answer = client.get(&url).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{url}");
        places.push((url, answer.text().await.expect("text")));
    }
    for (place, text) in places {
        assert!(!text.contains(&canary) && !text.contains("PRIVATE KEY"), "the key is in {place}");
    }
    // Only the owner can read the file.
    use std::os::unix::fs::PermissionsExt as _;
    let kept = scene.cp.folder().join("state/providedca.default");
    assert_eq!(kept.metadata().expect("it is kept").permissions().mode() & 0o777, 0o600);
}
