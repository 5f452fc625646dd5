//! Bad input at every API: the right status and message, nothing stored, no panic.

use kuma_test::ControlPlane;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn bad_documents_are_refused_and_change_nothing() {
    let mut cp = ControlPlane::start().await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let before = cp.get("/meshes/default/dataplanes").await;
    let url = |path: &str| format!("{}{path}", cp.api_url());

    let good = json!({"type": "Dataplane", "mesh": "default", "name": "web-1", "networking": {
        "inbound": [{"interface": "127.0.0.1:8080:80", "tags": {"service": "web"}}]}});
    let mut unknown_field = good.clone();
    unknown_field["networking"]["inbound"][0]["servicport"] = json!(3);
    let mut no_networking = good.clone();
    no_networking.as_object_mut().expect("an object").remove("networking");
    let mut other_mesh = good.clone();
    other_mesh["mesh"] = json!("nowhere");

    let cases: &[(&str, String, u16, &str)] = &[
        ("/meshes/default/dataplanes/web-1", "{\"type\": \"Dataplane\",\n  oops".to_owned(), 400, "line 2"),
        ("/meshes/default/dataplanes/web-1", unknown_field.to_string(), 400, "servicePort"),
        ("/meshes/default/dataplanes/web-1", no_networking.to_string(), 400, "networking"),
        ("/meshes/default/dataplanes/web-2", good.to_string(), 400, "name from the URL"),
        ("/meshes/default/dataplanes/web-1", other_mesh.to_string(), 400, "mesh from the URL"),
        ("/meshes/nowhere/dataplanes/web-1", other_mesh.to_string(), 400, "mesh of name nowhere is not found"),
        ("/meshes/default/dataplanes/Web.1", good.to_string(), 400, "invalid characters"),
        ("/meshes/default/dataplanes/web-1", "[".repeat(100_000), 400, ""),
        ("/meshes/default/dataplanes/web-1", format!("{{\"type\": \"{}\"}}", "x".repeat(5 << 20)), 413, ""),
        ("/meshes/default/nonsense/web-1", good.to_string(), 404, ""),
    ];
    for (path, body, status, text) in cases {
        let request = http.put(url(path)).header("content-type", "application/json").body(body.clone());
        let response = request.send().await.expect("an answer");
        let got = response.status().as_u16();
        let answer = response.text().await.unwrap_or_default();
        assert_eq!(got, *status, "{path}: {answer}");
        assert!(answer.contains(text), "{path}: {answer:?} does not say {text:?}");
    }
    assert_eq!(cp.get("/meshes/default/dataplanes").await, before, "something was stored");
    assert!(cp.process().is_running());
    assert!(!cp.process().output().contains("panicked"), "{}", cp.process().output());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_token_and_bootstrap_requests_are_refused() {
    let cp = ControlPlane::start().await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let tokens = format!("{}/tokens", cp.admin_url());
    let bootstrap = format!("{}/bootstrap", cp.bootstrap_url());
    let cases = [
        (&tokens, r#"{"name:" "dp-echo-1", "mesh": "default"}"#, 400),
        (&tokens, "{}", 400),
        (&tokens, r#"{"name": "a", "mesh": 3}"#, 400),
        (&bootstrap, "{}", 400),
        (&bootstrap, "not json", 400),
        (&bootstrap, r#"{"name": "nobody", "mesh": "default"}"#, 404),
        (&bootstrap, r#"{"name": "nobody", "mesh": "nowhere"}"#, 404),
    ];
    for (url, body, status) in cases {
        let response = http.post(url).body(body).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), status, "{url} {body}");
    }
    let rebound = http.post(&tokens).header("host", "evil.example").body(r#"{"name": "a", "mesh": "default"}"#);
    assert_eq!(rebound.send().await.expect("an answer").status().as_u16(), 403, "DNS rebinding gets a token");
}

#[test]
fn kumactl_names_the_place_of_a_mistake() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cp = runtime.block_on(ControlPlane::start());
    let bomb = {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let previous = level - 1;
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{previous}"); 10].join(", ")));
        }
        text
    };
    let cases = [
        ("type: Mesh\nname: [\n", "line"),
        ("type: Mesh\nname: default\nmtlss: {}\n", "mtls"),
        ("type: Nonsense\nname: a\nmesh: default\n", "Nonsense"),
        ("type: Dataplane\nname: a\nmesh: default\n", "networking"),
        (bomb.as_str(), ""),
    ];
    for (text, says) in cases {
        let output = cp.kumactl(&["apply", "-f", "-"], text);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(says), "{errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
}
