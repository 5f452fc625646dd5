//! The admin server for other machines, on real sockets.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::running::{CLIENTS, TestControlPlane, certificate, folder, root, start};

#[tokio::test]
async fn one_port_takes_tls_with_known_certificates_and_plain_text_from_here() {
    let cp = TestControlPlane::start(&[]).await;
    let addresses = cp.running.addresses;
    assert_eq!(addresses.admin.port(), addresses.public_admin.expect("it is on").port());
    let root = root();
    let alice = certificate(&root, "alice", Duration::ZERO);
    let with_alice = cp.client(Some(&alice));
    let token = json!({"name": "web-1", "mesh": "default"});
    let post = |client: reqwest::Client, url: String| {
        let request = client.post(url).json(&token);
        async move { request.send().await }
    };

    post(with_alice.clone(), cp.admin("/tokens")).await.expect_err("nobody is let in yet");
    cp.admit("ignored.crt", &alice.chain_pem);
    post(with_alice.clone(), cp.admin("/tokens")).await.expect_err("that is no *.pem");
    cp.admit("alice.pem", &alice.chain_pem);
    let answer = post(with_alice.clone(), cp.admin("/tokens")).await.expect("alice is let in");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.expect("a text").split('.').count(), 3);

    // Alice has the whole API, writes included; there is no word for pages of browsers.
    let mesh = json!({"type": "Mesh", "name": "demo"});
    let answer = with_alice.put(cp.admin("/meshes/demo")).json(&mesh).header("host", "10.0.0.1").send().await;
    assert_eq!(answer.expect("an answer").status(), 201);
    let changes = json!({"apply": [{"type": "Mesh", "name": "two"}], "delete": [{"type": "Mesh", "name": "two-not"}]});
    let answer = with_alice.post(cp.admin("/changes")).json(&changes).send().await.expect("an answer");
    assert_eq!(answer.status(), 404, "one of them is not there");
    let changes = json!({"apply": [{"type": "Mesh", "name": "two"}]});
    let answer = with_alice.post(cp.admin("/changes")).json(&changes).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("kuma-revision") && answer.headers().contains_key("kuma-epoch"));
    let answer = with_alice.get(cp.admin("/meshes/two")).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let answer = with_alice.get(cp.admin("/meshes/demo")).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("via", "1.1 proxy")] {
        let answer = with_alice.get(cp.admin("/meshes")).header(name, value).send().await.expect("an answer");
        assert_eq!(answer.status(), 403, "{name}");
        assert_eq!(answer.headers().get("access-control-allow-origin"), None);
    }

    // Plain text on the same port: tokens for this machine, and nothing else.
    let plain = format!("http://127.0.0.1:{}", addresses.admin.port());
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    assert_eq!(post(client.clone(), format!("{plain}/tokens")).await.expect("an answer").status(), 200);
    let answer = client.put(format!("{plain}/meshes/other")).json(&json!({"type": "Mesh", "name": "other"}));
    assert_eq!(answer.send().await.expect("an answer").status(), 404);
    let answer = client.post(format!("{plain}/changes")).json(&json!({})).send().await.expect("an answer");
    assert_eq!(answer.status(), 404);

    // A connection that is open says nothing any more once the file is gone.
    std::fs::remove_file(cp.folder.path().join(CLIENTS).join("alice.pem")).expect("removes");
    let refused = post(with_alice.clone(), cp.admin("/tokens")).await;
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status() == 403));
    cp.running.stop().await;
}

#[tokio::test]
async fn only_these_very_certificates_are_let_in() {
    let cp = TestControlPlane::start(&[]).await;
    let root = root();
    let expired = certificate(&root, "expired", Duration::from_secs(2 * 24 * 3600));
    let known = certificate(&root, "known", Duration::ZERO);
    let sibling = certificate(&root, "known", Duration::ZERO);
    // The CA itself may be in the folder: what it signs is still not.
    cp.admit("root.pem", root.cert_pem());
    cp.admit("expired.pem", &expired.chain_pem);
    cp.admit("broken.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    cp.admit("known.pem", &known.chain_pem);
    for (who, identity) in [("nobody", None), ("expired", Some(&expired)), ("a child of a known CA", Some(&sibling))] {
        let answer = cp.client(identity).get(cp.admin("/meshes")).send().await;
        assert!(answer.is_err(), "{who} is let in");
    }
    let answer = cp.client(Some(&known)).get(cp.admin("/meshes")).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    // TLS 1.1 is not spoken: a hello that offers nothing later gets an alert, not a handshake.
    let mut stream = tokio::net::TcpStream::connect(cp.running.addresses.admin).await.expect("connects");
    let hello = [&[0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2][..], &[7; 32], &[0, 0, 2, 0x00, 0x2f, 1, 0]].concat();
    stream.write_all(&hello).await.expect("writes");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer[0] == 21, "an alert, not {answer:?}");
    cp.running.stop().await;
}

#[tokio::test]
async fn an_own_port_takes_tls_alone() {
    let cp = TestControlPlane::start(&[("KUMA_ADMIN_SERVER_PUBLIC_INTERFACE", "127.0.0.2")]).await;
    let public = cp.running.addresses.public_admin.expect("it is on");
    assert_eq!(public.ip().to_string(), "127.0.0.2");
    assert_eq!(public.port(), cp.running.addresses.admin.port(), "the port of the local one, on an address of its own");
    let plain = reqwest::Client::builder().no_proxy().build().expect("a client");
    assert!(plain.get(format!("http://{public}/tokens")).send().await.is_err());
    let catalog = plain.get(format!("http://127.0.0.1:{}/catalog", cp.running.addresses.api.port())).send().await;
    let catalog: serde_json::Value = catalog.expect("an answer").json().await.expect("JSON");
    assert_eq!(catalog["apis"]["admin"]["publicUrl"], format!("https://localhost:{}", public.port()));
    cp.running.stop().await;
}

#[tokio::test]
async fn files_that_cannot_be_used_stop_the_start() {
    let (folder, _) = folder();
    for (variable, value) in [
        ("KUMA_ADMIN_SERVER_PUBLIC_CLIENT_CERTS_DIR", "/nowhere"),
        ("KUMA_ADMIN_SERVER_PUBLIC_CLIENT_CERTS_DIR", ""),
        ("KUMA_ADMIN_SERVER_PUBLIC_TLS_CERT_FILE", "/nowhere"),
        ("KUMA_ADMIN_SERVER_PUBLIC_TLS_KEY_FILE", "/dev/null"),
    ] {
        let error = start(folder.path(), &[(variable, value)]).await.err().expect(variable);
        let error = format!("{error:#}");
        assert!(error.contains(variable) && error.contains(value), "{variable}={value}: {error}");
    }
}
