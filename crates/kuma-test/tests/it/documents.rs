//! Documents do what they say and are shown as they were written; one that would have no effect is refused or causes a
//! warning.

use std::process::Output;

use kuma_test::ControlPlane;
use serde_json::{Value, json};

/// Documents of all kinds with values that are easily lost: zeros, empty parts, strings that look like other types.
const ALL: &str = "
type: Mesh
name: demo
tracing:
  defaultBackend: zipkin
  backends:
  - {name: zipkin, sampling: 0, zipkin: {url: 'http://127.0.0.1:9411/api/v2/spans', traceId128bit: true}}
logging:
  defaultBackend: \"yes\"
  backends:
  - {name: \"yes\", format: \"100%% %START_TIME%: \\\"%DURATION%\\\"\\n\", file: {path: /tmp/a log}}
  - {name: \"1.0\", tcp: {address: '[::1]:9000'}}
metrics: {prometheus: {}}
---
type: Mesh
name: off
mtls: {enabled: false, ca: {builtin: {}}}
tracing: {}
logging: {backends: []}
---
type: Dataplane
mesh: demo
name: web-1
networking:
  address: 192.168.0.1
  inbound:
  - {port: 10000, servicePort: 9000, tags: {service: web, version: \"2.0\", \"true\": \"null\", protocol: http}}
  outbound:
  - {port: 20000, service: redis, servicePort: 6379}
  transparentProxying: {redirectPort: 15001}
metrics: {prometheus: {port: 1234, path: /m}}
---
type: Dataplane
mesh: demo
name: kong-1
networking:
  gateway: {tags: {service: kong}}
  outbound:
  - {interface: ':20000', service: web}
---
type: HealthCheck
mesh: demo
name: both
sources: [{match: {service: '*'}}]
destinations: [{match: {service: web}}]
conf:
  activeChecks: {interval: 0.5s, timeout: 1h1m, unhealthyThreshold: 1, healthyThreshold: 1, http: {path: /h, \
  expectedStatuses: [200, 204]}}
  passiveChecks: {unhealthyThreshold: 3, penaltyInterval: 10s}
---
type: ProxyTemplate
mesh: demo
name: raw
selectors: [{match: {service: nobody}}]
conf:
  imports: [default-proxy]
  resources:
  - name: raw
    version: \"1\"
    resource: |
      \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster
      name: raw
      connect_timeout: 5s
---
type: TrafficLog
mesh: demo
name: all
sources: [{match: {service: '*', region: '*'}}]
destinations: [{match: {service: '*'}}]
conf: {}
---
type: TrafficPermission
mesh: demo
name: all
sources: [{match: {service: '*'}}]
destinations: [{match: {service: web, version: \"2.0\"}}]
---
type: TrafficRoute
mesh: demo
name: canary
sources: [{match: {service: '*'}}]
destinations: [{match: {service: web}}]
conf:
- {weight: 100, destination: {service: web, version: \"1.0\"}}
- {weight: 0, destination: {service: web, version: \"2.0\"}}
---
type: TrafficTrace
mesh: demo
name: all
selectors: [{match: {service: '*'}}]
";

#[tokio::test(flavor = "multi_thread")]
async fn what_get_prints_can_be_applied_and_changes_nothing() {
    let cp = ControlPlane::start().await;
    succeeds(&cp.kumactl(&["apply", "-f", "-"], ALL));
    let lists = [
        "meshes",
        "dataplanes",
        "healthchecks",
        "proxytemplates",
        "traffic-logs",
        "traffic-permissions",
        "traffic-routes",
        "traffic-traces",
    ];
    for list in lists {
        for format in ["yaml", "json"] {
            let printed = succeeds(&cp.kumactl(&["get", list, "--mesh", "demo", "-o", format], ""));
            let names = succeeds(&cp.kumactl(&["get", list, "--mesh", "demo", "-o", "name"], ""));
            assert!(!names.is_empty(), "there is one of {list}");
            let preview = succeeds(&cp.kumactl(&["apply", "--dry-run", "-f", "-"], &printed));
            let stay = preview.lines().filter(|line| line.ends_with(" would stay as it is")).count();
            assert_eq!((stay, preview.lines().count()), (names.lines().count(), names.lines().count()), "{preview}");
            succeeds(&cp.kumactl(&["apply", "-f", "-"], &printed));
            let again = succeeds(&cp.kumactl(&["get", list, "--mesh", "demo", "-o", format], ""));
            assert_eq!(again, printed);
        }
    }
    let route = cp.get("/meshes/demo/traffic-routes/canary").await;
    assert_eq!(route["conf"][1]["weight"], 0, "a weight of 0 is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_without_a_weight_is_refused_with_its_place() {
    let cp = ControlPlane::start().await;
    let route = json!({
        "type": "TrafficRoute", "mesh": "default", "name": "canary",
        "sources": [{"match": {"service": "*"}}], "destinations": [{"match": {"service": "web"}}],
        "conf": [{"destination": {"service": "web"}}],
    });
    let refusal = cp.put(&route).await;
    assert_eq!(refusal.status().as_u16(), 400);
    let refusal: Value = refusal.json().await.expect("JSON");
    let cause = json!([{"field": "conf[0].weight", "message": "has to be set; 0 sends nothing this way"}]);
    assert_eq!(refusal["causes"], cause);
    let yaml = "type: TrafficRoute\nmesh: default\nname: canary\nsources: [{match: {service: '*'}}]\n\
                destinations: [{match: {service: web}}]\nconf:\n- destination: {service: web}\n";
    let output = cp.kumactl(&["apply", "-f", "-"], yaml);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("conf[0].weight: has to be set") && errors.contains("line 7"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_whose_backend_is_not_there_are_told_to_whoever_writes() {
    let cp = ControlPlane::start().await;
    let mesh = |backends: &str| {
        format!("type: Mesh\nname: default\nlogging: {{backends: [{backends}]}}\ntracing: {{backends: []}}\n")
    };
    let file = "{name: file, file: {path: /tmp/log}}";
    succeeds(&cp.kumactl(&["apply", "-f", "-"], &mesh(file)));
    let log = "type: TrafficLog\nmesh: default\nname: all\nsources: [{match: {service: '*'}}]\n\
               destinations: [{match: {service: '*'}}]\nconf: {backend: file}\n";
    let output = cp.kumactl(&["apply", "-f", "-"], log);
    succeeds(&output);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "there is nothing to tell");

    let trace = "type: TrafficTrace\nmesh: default\nname: all\nselectors: [{match: {service: '*'}}]\n";
    let told = "TrafficTrace \"all\" traces nothing: it names no backend and the Mesh has no tracing.defaultBackend";
    let output = cp.kumactl(&["apply", "-f", "-"], trace);
    succeeds(&output);
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("Warning: {told}\n"));

    let output = cp.kumactl(&["apply", "-f", "-"], &mesh("{name: other, tcp: {address: 'a:1'}}"));
    succeeds(&output);
    let lost = "TrafficLog \"all\" logs nothing: the Mesh has no log backend \"file\"";
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("Warning: {lost}\nWarning: {told}\n"));
    assert!(cp.output().contains(lost), "kuma-cp logs it as well");

    let output = cp.kumactl(&["apply", "-f", "-"], &mesh("{name: file}"));
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains(r#"logging.backends[0]: has to have one of "file" and "tcp""#), "{errors}");
}

/// The output of a command, which must succeed.
#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
