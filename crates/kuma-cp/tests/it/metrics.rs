//! What the control plane counts about itself.

use std::collections::BTreeMap;

use kuma_xds::ResourceType;
use kuma_xds::server::Service;
use serde_json::json;

use crate::grpc::{Grpc, patiently};
use crate::running::TestControlPlane;

struct Scraper {
    http: reqwest::Client,
    url: String,
}

impl Scraper {
    /// All samples, after a look at the form of the text.
    async fn scrape(&self) -> BTreeMap<String, f64> {
        let answer = self.http.get(&self.url).send().await.expect("an answer");
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        let text = answer.text().await.expect("a text");
        let mut samples = BTreeMap::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().expect("a name").to_owned();
            } else if !line.starts_with("# HELP ") {
                let (name, value) = line.rsplit_once(' ').expect("a name and a value");
                assert!(name.starts_with(&family), "{line} is not of {family}");
                let known = samples.insert(name.to_owned(), value.parse().expect("a number"));
                assert_eq!(known, None, "{name} is there twice");
            }
        }
        samples
    }

    async fn until(&self, name: &str, reached: impl Fn(f64) -> bool) -> BTreeMap<String, f64> {
        patiently(async {
            loop {
                let samples = self.scrape().await;
                if reached(samples[name]) {
                    return samples;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_answers_and_the_time_from_change_to_ack_are_counted() {
    let cp = TestControlPlane::start(&[]).await;
    let addresses = cp.running.addresses;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let scraper =
        Scraper { http: http.clone(), url: format!("http://127.0.0.1:{}/metrics", addresses.diagnostics.port()) };
    let put = async |port: u16| {
        let inbound = json!([{"interface": format!("127.0.0.1:{port}:80"), "tags": {"service": "web"}}]);
        let document =
            json!({"type": "Dataplane", "mesh": "default", "name": "web-1", "networking": {"inbound": inbound}});
        let url = format!("http://127.0.0.1:{}/meshes/default/dataplanes/web-1", addresses.api.port());
        assert!(http.put(url).json(&document).send().await.expect("an answer").status().is_success());
    };
    put(10080).await;
    let state = cp.folder.path().join("state");
    let mut grpc = Grpc::connect(addresses.xds.port(), Some(&state)).await;
    let mut call = grpc.call(Service::ADS.delta, None).await;
    call.ask("default.web-1", ResourceType::Listener, &["*"]).await;
    let response = call.receive().await.expect("listeners");
    call.acknowledge(&response).await;
    let before = scraper.until("kuma_cp_xds_acks_total{type=\"listener\"}", |count| count == 1.0).await;
    assert_eq!(before["kuma_cp_xds_streams{service=\"xds\"}"], 1.0);
    assert_eq!(before["kuma_cp_change_to_ack_seconds_count"], 0.0, "that it came is no change");
    assert!(before["kuma_cp_store_seconds_count{operation=\"commit\"}"] >= 2.0);
    assert!(before["kuma_cp_http_requests_total{server=\"api\",code=\"2xx\"}"] >= 1.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    for certificate in ["xds_server", "xds_ca", "admin_server"] {
        assert!(before[&format!("kuma_cp_certificate_not_after_seconds{{certificate=\"{certificate}\"}}")] > now);
    }

    put(10081).await;
    let response = call.receive().await.expect("another listener");
    call.acknowledge(&response).await;
    scraper.until("kuma_cp_change_to_ack_seconds_count", |count| count >= 1.0).await;
    put(10082).await;
    let response = call.receive().await.expect("a third listener");
    call.refuse(&response, "not today").await;
    let after = scraper.until("kuma_cp_xds_nacks_total{type=\"listener\"}", |count| count == 1.0).await;
    assert_eq!(after["kuma_cp_xds_pushes_total{type=\"listener\"}"], 3.0);
    assert_eq!(after["kuma_cp_change_to_ack_seconds_count"], 1.0, "one change was accepted, by one proxy");
    assert!(after["kuma_cp_change_to_ack_seconds_sum"] < 600.0, "a time, not a moment");
    drop((call, grpc));
    scraper.until("kuma_cp_xds_streams{service=\"xds\"}", |count| count == 0.0).await;
    cp.running.stop().await;
}
