//! TrafficLog: each connection gives one record, in a file or at a collector.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kuma_test::apps::Client;
use kuma_test::eventually;
use kuma_test::ports::free_port;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::scene::Scene;

/// A collector that receives lines.
pub(crate) struct Collector {
    pub(crate) port: u16,
    lines: Arc<Mutex<Vec<String>>>,
    /// Whether a connection ended within a record.
    torn: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

impl Collector {
    /// A collector that does not listen yet.
    pub(crate) fn new() -> Collector {
        Collector { port: free_port(), lines: Arc::default(), torn: Arc::default(), task: None }
    }

    pub(crate) async fn listen(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("the port is free");
        let (lines, torn) = (self.lines.clone(), self.torn.clone());
        self.task = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (lines, torn) = (lines.clone(), torn.clone());
                connections.spawn(async move {
                    let mut reader = BufReader::new(stream);
                    loop {
                        let mut line = String::new();
                        match reader.read_line(&mut line).await {
                            Ok(0) | Err(_) => return,
                            Ok(_) if line.ends_with('\n') => lines.lock().expect("no panic").push(line),
                            Ok(_) => torn.store(true, Ordering::Relaxed),
                        }
                    }
                });
            }
        }));
    }

    async fn leave(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    fn count(&self) -> usize {
        self.lines.lock().expect("no panic").len()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panic").clone()
    }

    /// Waits for this number of records, and checks that no more come.
    pub(crate) async fn has(&self, count: usize) {
        eventually(&format!("{count} records have arrived"), || async { (self.count() >= count).then_some(()) }).await;
        // Envoy flushes its entries within a second.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(self.count(), count, "records were sent twice");
        assert!(!self.torn.load(Ordering::Relaxed), "a record came without its end");
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn mesh(backends: &Value, default: &str) -> Value {
    json!({
        "type": "Mesh", "name": "default", "mtls": {"enabled": false, "ca": {"builtin": {}}},
        "logging": {"defaultBackend": default, "backends": backends},
    })
}

fn traffic_log(backend: Option<&str>) -> Value {
    let mut log = json!({
        "type": "TrafficLog", "mesh": "default", "name": "web-to-redis",
        "sources": [{"match": {"service": "web"}}], "destinations": [{"match": {"service": "redis"}}],
    });
    if let Some(backend) = backend {
        log["conf"] = json!({"backend": backend});
    }
    log
}

/// Makes this number of connections with an echo each, from 20 tasks.
async fn connections(outbound: u16, count: usize) {
    const TASKS: usize = 20;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(async move {
            for _ in 0..count / TASKS {
                let mut client = Client::connect(outbound).await.expect("a connection");
                assert!(client.echoes().await);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("every connection works");
    }
}

async fn logged(scene: &Scene, what: &str) {
    eventually("the log has arrived", || async { scene.web_proxy.config_dump().await.contains(what).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_gets_one_line_for_each_connection() {
    let scene = Scene::start().await;
    let path = scene.cp.folder().join("access.log");
    let path = path.to_str().expect("UTF-8");
    let format = "%KUMA_SOURCE_SERVICE% %KUMA_DOWNSTREAM_CLUSTER% %KUMA_DESTINATION_SERVICE% %KUMA_SOURCE_ADDRESS% \
        %KUMA_SOURCE_ADDRESS_WITHOUT_PORT% %UPSTREAM_HOST% sent %BYTES_SENT% 100%%";
    let backends = json!([{"name": "file", "format": format, "file": {"path": path}}]);
    scene.cp.apply(&mesh(&backends, "file")).await;
    let mut open = scene.open().await;
    scene.cp.apply(&traffic_log(None)).await;
    logged(&scene, path).await;
    connections(scene.outbound, 40).await;
    let expected = format!("web web redis 127.0.0.1:0 127.0.0.1 127.0.0.1:{} sent 15 100%", scene.inbound);
    eventually("40 lines are in the file", || async {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        (text.lines().filter(|line| **line == expected).count() >= 40).then_some(())
    })
    .await;
    assert!(open.echoes().await, "an edit of the log reset a connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_one_record_for_each_connection() {
    let scene = Scene::start().await;
    let mut collector = Collector::new();
    collector.listen().await;
    let address = format!("127.0.0.1:{}", collector.port);
    let backends = json!([
        {"name": "file", "file": {"path": "/dev/null"}},
        {"name": "tcp", "format": "{\"from\": \"%KUMA_SOURCE_SERVICE%\", \"to\": \"%UPSTREAM_CLUSTER%\", \"sent\": \
            %BYTES_SENT%, \"received\": %BYTES_RECEIVED%, \"id\": %CONNECTION_ID%, \"flags\": \"%RESPONSE_FLAGS%\"}",
                "tcp": {"address": address}},
    ]);
    scene.cp.apply(&mesh(&backends, "file")).await;
    scene.cp.apply(&traffic_log(Some("tcp"))).await;
    logged(&scene, &address).await;
    connections(scene.outbound, 10_000).await;
    collector.has(10_000).await;
    let mut ids = std::collections::BTreeSet::new();
    for line in collector.lines() {
        let record: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(
            (&record["from"], &record["to"], &record["sent"], &record["received"], &record["flags"]),
            (&json!("web"), &json!("redis"), &json!(15), &json!(5), &json!("-")),
            "{line}"
        );
        ids.insert(record["id"].as_u64().expect("a number"));
    }
    assert_eq!(ids.len(), 10_000, "each connection has a record of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_wait_for_a_collector_that_is_away() {
    let mut scene = Scene::start().await;
    let mut collector = Collector::new();
    let address = format!("127.0.0.1:{}", collector.port);
    scene
        .cp
        .apply(&mesh(&json!([{"name": "tcp", "format": "%UPSTREAM_HOST%", "tcp": {"address": address}}]), "tcp"))
        .await;
    scene.cp.apply(&traffic_log(None)).await;
    logged(&scene, &address).await;
    // The collector does not listen yet, which must not affect traffic.
    connections(scene.outbound, 400).await;
    collector.listen().await;
    collector.has(400).await;
    // The collector goes away and comes back.
    collector.leave().await;
    connections(scene.outbound, 400).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(collector.count(), 400);
    collector.listen().await;
    collector.has(800).await;
    let said = scene.web_proxy.process().output();
    assert!(said.contains("is away") && said.contains("is back"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_format_that_envoy_would_refuse_is_refused_at_once() {
    let scene = Scene::start().await;
    for (format, message) in [
        ("took %DURATIONS%", "unknown command operator \"DURATIONS\" at position 6; did you mean \"DURATION\"?"),
        ("100% of it", "expected a command operator to start at position 4, instead got: \"% of it\""),
        ("%KUMA_SOURCE_SERVIC%", "did you mean \"KUMA_SOURCE_SERVICE\"?"),
    ] {
        let backends = json!([{"name": "a", "format": "%START_TIME%", "file": {"path": "/dev/null"}},
            {"name": "b", "format": format, "file": {"path": "/dev/null"}}]);
        let response = scene.cp.put(&mesh(&backends, "a")).await;
        assert_eq!(response.status().as_u16(), 400);
        let body: Value = response.json().await.expect("JSON");
        let cause = &body["causes"][0];
        assert_eq!(cause["field"], "logging.backends[1].format", "{body}");
        let text = cause["message"].as_str().unwrap_or_default();
        assert!(text.starts_with("format string is not valid: ") && text.contains(message), "{body}");
    }
}

/// The buffer overflows: it holds 4 MB, and 1,500 records of 4 kB are sent. Each is either received or counted as
/// dropped.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_dropped_and_counted() {
    let mut scene = Scene::start().await;
    let mut collector = Collector::new();
    let address = format!("127.0.0.1:{}", collector.port);
    let format = "x".repeat(4000);
    scene.cp.apply(&mesh(&json!([{"name": "tcp", "format": format, "tcp": {"address": address}}]), "tcp")).await;
    scene.cp.apply(&traffic_log(None)).await;
    logged(&scene, &address).await;
    connections(scene.outbound, 1500).await;
    eventually("the loss is said", || {
        let dropped = dropped(&scene.web_proxy.process().output());
        async move { (dropped > 0).then_some(()) }
    })
    .await;
    collector.listen().await;
    eventually("the rest arrives", || {
        let dropped = dropped(&scene.web_proxy.process().output());
        let arrived = collector.count();
        async move { (arrived > 0 && arrived + dropped >= 1500).then_some(()) }
    })
    .await;
    assert_eq!(collector.count() + dropped(&scene.web_proxy.process().output()), 1500);
}

/// How many records kuma-dp has reported as dropped, while the collector was away and when it was back.
fn dropped(output: &str) -> usize {
    let before = |line: &str, words: &str| -> usize {
        let number = line.split_once(words).and_then(|(start, _)| start.rsplit(' ').next()?.parse().ok());
        number.unwrap_or(0)
    };
    output.lines().map(|line| before(line, " records for ") + before(line, " more were dropped")).sum()
}

/// Envoy refuses a log file that it cannot open, keeps the previous configuration, and reports the error.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_opened_stops_no_traffic() {
    let scene = Scene::start().await;
    let mut open = scene.open().await;
    let backends = json!([{"name": "file", "file": {"path": "/nowhere/access.log"}}]);
    scene.cp.apply(&mesh(&backends, "file")).await;
    scene.cp.apply(&traffic_log(None)).await;
    eventually("the insight says that something was refused", || async {
        let overview = scene.cp.get("/meshes/default/dataplanes+insights/web-1").await;
        let subscriptions = overview["dataplaneInsight"]["subscriptions"].as_array().cloned().unwrap_or_default();
        let rejected = |total: &Value| total["responsesRejected"].as_str().is_some_and(|count| count != "0");
        subscriptions.iter().any(|one| rejected(&one["status"]["total"])).then_some(())
    })
    .await;
    connections(scene.outbound, 40).await;
    assert!(open.echoes().await);
    scene.cp.delete("/meshes/default/traffic-logs/web-to-redis").await;
    connections(scene.outbound, 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_records_are_sent_before_a_proxy_ends() {
    let mut scene = Scene::start().await;
    let mut collector = Collector::new();
    collector.listen().await;
    let address = format!("127.0.0.1:{}", collector.port);
    let backends = json!([{"name": "tcp", "format": "%UPSTREAM_HOST%", "tcp": {"address": address}}]);
    scene.cp.apply(&mesh(&backends, "tcp")).await;
    scene.cp.apply(&traffic_log(None)).await;
    logged(&scene, &address).await;
    connections(scene.outbound, 200).await;
    scene.web_proxy.process().signal(rustix::process::Signal::TERM);
    assert!(scene.web_proxy.process().wait(Duration::from_secs(30)).success());
    collector.has(200).await;
}
