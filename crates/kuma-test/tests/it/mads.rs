//! A real Prometheus finds the proxies of all meshes and scrapes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kuma_test::documents::dataplane;
use kuma_test::ports::free_port;
use kuma_test::{ControlPlane, Dataplane, Process, Prometheus, eventually, program};
use rustix::process::Signal;
use serde_json::{Value, json};

fn mesh(name: &str, prometheus: Option<Value>) -> Value {
    let metrics = prometheus.map_or(json!({}), |prometheus| json!({ "prometheus": prometheus }));
    json!({"type": "Mesh", "name": name, "metrics": metrics})
}

/// A Dataplane of the service `web` with this port for metrics, which has to be unique on the machine.
fn web(mesh: &str, name: &str, metrics: u16) -> Value {
    let mut document = dataplane(mesh, name, "web", (free_port(), free_port()), &[]);
    document["networking"]["inbound"][0]["tags"]["version"] = json!("v1");
    document["metrics"] = json!({"prometheus": {"port": metrics}});
    document
}

/// A running kuma-prometheus-sd.
struct Adapter {
    process: Process,
    file: PathBuf,
}

impl Adapter {
    async fn start(cp: &ControlPlane) -> Adapter {
        let file = cp.folder().join("sd/kuma.file_sd.json");
        let mut command = Command::new(program("kuma-prometheus-sd"));
        command.args(["run", "--log-level=debug", "--cp-address", &cp.api_url(), "--output-file"]).arg(&file);
        let process = Process::start("kuma-prometheus-sd", &mut command, cp.folder());
        eventually("the file is there", async || file.exists().then_some(())).await;
        Adapter { process, file }
    }

    fn targets(&self) -> Vec<String> {
        targets(&self.file)
    }

    async fn lists(&self, ports: &[u16]) {
        let mut expected: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        expected.sort();
        eventually("the file lists the targets", async || {
            let mut targets = self.targets();
            targets.sort();
            (targets == expected).then_some(())
        })
        .await;
    }
}

fn targets(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).expect("it is always there");
    let entries: Vec<Value> = serde_json::from_str(&text).expect("never half a file");
    entries.iter().map(|entry| entry["targets"][0].as_str().expect("an address").to_owned()).collect()
}

/// The configuration of Prometheus in docs/metrics.md, for this file and with a shorter interval.
fn documented_configuration(file: &Path) -> String {
    let docs = include_str!("../../../../docs/metrics.md");
    let (_, rest) = docs.split_once("```yaml\n").expect("an example");
    let (yaml, _) = rest.split_once("```").expect("its end");
    let there = "/var/run/kuma/kuma.file_sd.json";
    assert!(yaml.contains(there) && yaml.contains("scrape_interval: 15s"), "{yaml}");
    yaml.replace(there, file.to_str().expect("a path")).replace("15s", "1s")
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_finds_and_scrapes_the_proxies_of_all_meshes() {
    let cp = ControlPlane::start().await;
    let mut adapter = Adapter::start(&cp).await;
    adapter.lists(&[]).await;
    let prometheus = Prometheus::start(&documented_configuration(&adapter.file), cp.folder());

    cp.apply(&mesh("default", Some(json!({})))).await;
    cp.apply(&mesh("other", Some(json!({"path": "/own"})))).await;
    cp.apply(&mesh("silent", None)).await;
    let [first, second, absent] = [free_port(), free_port(), free_port()];
    cp.apply(&web("default", "web-1", first)).await;
    cp.apply(&web("other", "web-1", second)).await;
    cp.apply(&web("silent", "web-1", free_port())).await;
    cp.apply(&web("default", "nobody", absent)).await;
    adapter.lists(&[first, second, absent]).await;
    let proxies = [Dataplane::start(&cp, "default", "web-1"), Dataplane::start(&cp, "other", "web-1")];
    proxies[0].live().await;
    proxies[1].live().await;

    for (mesh, url) in
        [("default", format!("http://127.0.0.1:{first}/metrics")), ("other", format!("http://127.0.0.1:{second}/own"))]
    {
        // A metric of Envoy, with the labels from the mesh's documents.
        let query = format!(
            "envoy_server_live{{mesh={mesh:?},dataplane=\"web-1\",instance=\"web-1\",job=\"web\",\
             service=\"web\",services=\",web,\",version=\"v1\"}} == 1"
        );
        eventually(&format!("Prometheus has metrics of {mesh}.web-1"), async || {
            (prometheus.query(&query).await.len() == 1).then_some(())
        })
        .await;
        let up = prometheus.query(&format!("up{{mesh={mesh:?},dataplane=\"web-1\"}}")).await;
        assert!(matches!(&up[..], [(_, value)] if value == "1"), "{up:?}");
        assert!(prometheus.targets().await.contains(&url), "{url} is not among the targets");
    }
    // A proxy that does not run is shown as down, and a mesh without metrics is not shown.
    eventually("the absent proxy is down", async || {
        let up = prometheus.query("up{dataplane=\"nobody\"}").await;
        matches!(&up[..], [(_, value)] if value == "0").then_some(())
    })
    .await;
    assert_eq!(prometheus.targets().await.len(), 3);

    cp.delete("/meshes/default/dataplanes/nobody").await;
    cp.apply(&mesh("other", None)).await;
    adapter.lists(&[first]).await;
    let left = vec![format!("http://127.0.0.1:{first}/metrics")];
    eventually("Prometheus scrapes what is left", async || (prometheus.targets().await == left).then_some(())).await;
    assert!(!prometheus.output().contains("level=error"), "{}", prometheus.output());

    adapter.process.signal(Signal::TERM);
    assert_eq!(adapter.process.wait(Duration::from_secs(40)).code(), Some(0));
    adapter.lists(&[first]).await;
}

/// A client that long-polls, as Prometheus itself does.
struct Poller {
    http: reqwest::Client,
    url: String,
    version: String,
    nonce: String,
}

impl Poller {
    fn new(cp: &ControlPlane) -> Poller {
        let url = format!("http://127.0.0.1:{}/v3/discovery:monitoringassignments", cp.mads_port());
        let http = reqwest::Client::builder().no_proxy().http1_only().build().expect("a client");
        Poller { http, url, version: String::new(), nonce: String::new() }
    }

    /// The addresses in the response, or `None` if nothing has changed.
    async fn poll(&mut self, wait: &str) -> Option<Vec<String>> {
        let type_url = "type.googleapis.com/kuma.observability.v1.MonitoringAssignment";
        let mut body = json!({"node": {"id": "prometheus"}, "type_url": type_url});
        if !self.version.is_empty() {
            body["version_info"] = json!(self.version);
            body["response_nonce"] = json!(self.nonce);
        }
        let request = self.http.post(format!("{}?fetch-timeout={wait}", self.url)).json(&body);
        let answer = request.send().await.expect("an answer");
        if answer.status().as_u16() == 304 {
            return None;
        }
        assert_eq!(answer.status().as_u16(), 200);
        let answer: Value = answer.json().await.expect("JSON");
        assert_eq!(answer["type_url"], type_url);
        (self.version, self.nonce) = (text(&answer["version_info"]), text(&answer["nonce"]));
        let resources = answer["resources"].as_array().expect("a list");
        Some(resources.iter().map(|one| text(&one["targets"][0]["address"])).collect())
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_comes_back_takes_no_target_away() {
    let mut cp = ControlPlane::start().await;
    let metrics = mesh("default", Some(json!({})));
    let [one, two] = [free_port(), free_port()];
    let documents = [web("default", "web-1", one), web("default", "web-2", two)];
    cp.apply(&metrics).await;
    for document in &documents {
        cp.apply(document).await;
    }
    let adapter = Adapter::start(&cp).await;
    adapter.lists(&[one, two]).await;
    let written = || std::fs::metadata(&adapter.file).and_then(|file| file.modified()).expect("it is there");
    let before = written();
    let mut poller = Poller::new(&cp);
    assert_eq!(poller.poll("1m").await.map(|list| list.len()), Some(2));

    cp.kill();
    adapter.process.prints("Trying again in").await;
    cp.restart().await;
    eventually("the adapter is back", async || {
        (cp.output().matches("a monitoring client connected").count() == 2).then_some(())
    })
    .await;
    // The control plane has lost its documents, and does not report the proxies as removed.
    assert_eq!(poller.poll("1s").await, None);
    // The documents are written again, Dataplanes first: the list stays the same.
    for document in documents.iter().chain([&metrics]) {
        cp.apply(document).await;
    }
    assert_eq!(poller.poll("1s").await, None);
    assert_eq!((adapter.targets().len(), written()), (2, before), "the file was not touched");

    // A Dataplane that is not written again is removed from the list when no document has been written for a while.
    cp.kill();
    cp.restart().await;
    cp.apply(&metrics).await;
    cp.apply(&documents[0]).await;
    adapter.lists(&[one]).await;
    assert_eq!(poller.poll("1m").await, Some(vec![format!("127.0.0.1:{one}")]));
    // From then on changes are reported at once again.
    let (told, ()) = tokio::join!(poller.poll("1m"), cp.apply(&documents[1]));
    assert_eq!(told.map(|list| list.len()), Some(2));
    adapter.lists(&[one, two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_adapter_may_start_first() {
    let mut cp = ControlPlane::start().await;
    cp.kill();
    let mut adapter = Adapter::start(&cp).await;
    adapter.lists(&[]).await;
    adapter.process.prints("unable to retrieve Catalog of Kuma APIs").await;
    cp.restart().await;
    let port = free_port();
    cp.apply(&mesh("default", Some(json!({"port": port})))).await;
    cp.apply(&dataplane("default", "web-1", "web", (free_port(), free_port()), &[])).await;
    adapter.lists(&[port]).await;
    assert!(adapter.process.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_the_file_while_it_changes_reads_all_of_it() {
    let cp = ControlPlane::start().await;
    let adapter = Adapter::start(&cp).await;
    let (file, stop) = (adapter.file.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let reader = std::thread::spawn(move || {
        let mut seen = BTreeSet::new();
        while !stopped.load(Ordering::Relaxed) {
            seen.insert(targets(&file).len());
        }
        seen
    });
    cp.apply(&mesh("default", Some(json!({})))).await;
    for at in 0..60 {
        cp.apply(&web("default", &format!("web-{at}"), 5670 + at)).await;
    }
    adapter.lists(&(5670..5730).collect::<Vec<u16>>()).await;
    stop.store(true, Ordering::Relaxed);
    let seen = reader.join().expect("it was always there, and whole");
    assert!(seen.len() > 2, "it has read while it changed: {seen:?}");
    let folder = adapter.file.parent().expect("a folder");
    assert_eq!(std::fs::read_dir(folder).expect("a folder").count(), 1, "nothing is left beside it");
}
