//! One document of each kind, as users write them.

/// Kind, document, and its row in kumactl's table.
pub(crate) const EXAMPLES: &[(&str, &str, &[&str])] = &[
    (
        "Mesh",
        r#"{
          "name": "mesh-1",
          "type": "Mesh",
          "mtls": {"ca": {"builtin": {}}, "enabled": true},
          "tracing": {},
          "logging": {
            "backends": [
              {
                "name": "file-tmp",
                "format": "{ \"destination\": \"%KUMA_DESTINATION_SERVICE%\", \"source\": \"%KUMA_SOURCE_SERVICE%\"}",
                "file": {"path": "/tmp/access.log"}
              },
              {"name": "logstash", "tcp": {"address": "logstash.internal:9000"}}
            ]
          },
          "metrics": {"prometheus": {"port": 1234, "path": "/metrics"}}
        }"#,
        &["mesh-1", "on", "builtin", "prometheus"],
    ),
    (
        "Dataplane",
        r#"{
          "type": "Dataplane",
          "name": "backend-1",
          "mesh": "mesh-1",
          "networking": {
            "inbound": [
              {
                "interface": "127.0.0.1:11011:11012",
                "tags": {"service": "backend", "version": "2.0", "env": "production"}
              }
            ],
            "outbound": [
              {"interface": ":33033", "service": "database"},
              {"interface": ":44044", "service": "user"}
            ]
          }
        }"#,
        &["mesh-1", "backend-1", "env=production service=backend version=2.0"],
    ),
    (
        "DataplaneInsight",
        r#"{
          "type": "DataplaneInsight",
          "mesh": "default",
          "name": "example",
          "subscriptions": [
            {
              "id": "426fe0d8-f667-11e9-b081-acde48001122",
              "controlPlaneInstanceId": "06070748-f667-11e9-b081-acde48001122",
              "connectTime": "2019-10-24T14:04:56.820350Z",
              "status": {
                "lastUpdateTime": "2019-10-24T14:04:57.832482Z",
                "total": {"responsesSent": "3", "responsesAcknowledged": "3"},
                "cds": {"responsesSent": "1", "responsesAcknowledged": "1"},
                "eds": {"responsesSent": "1", "responsesAcknowledged": "1"},
                "lds": {"responsesSent": "1", "responsesAcknowledged": "1"},
                "rds": {}
              }
            }
          ]
        }"#,
        &["default", "example"],
    ),
    (
        "HealthCheck",
        r#"{
          "type": "HealthCheck",
          "mesh": "mesh-1",
          "name": "web-to-backend",
          "sources": [{"match": {"service": "web"}}],
          "destinations": [{"match": {"service": "backend"}}],
          "conf": {
            "activeChecks": {
              "interval": "10s",
              "timeout": "2s",
              "unhealthyThreshold": 3,
              "healthyThreshold": 1
            }
          }
        }"#,
        &["mesh-1", "web-to-backend"],
    ),
    (
        "ProxyTemplate",
        r#"{
          "type": "ProxyTemplate",
          "name": "pt-1",
          "mesh": "mesh-1",
          "selectors": [{"match": {"service": "backend"}}],
          "conf": {
            "imports": ["default-proxy"],
            "resources": [
              {
                "name": "raw-name",
                "version": "raw-version",
                "resource": "'@type': type.googleapis.com/envoy.api.v2.Cluster\nconnectTimeout: 5s\ntype: STATIC\n"
              }
            ]
          }
        }"#,
        &["mesh-1", "pt-1"],
    ),
    (
        "TrafficLog",
        r#"{
          "type": "TrafficLog",
          "mesh": "mesh-1",
          "name": "tl-1",
          "sources": [{"match": {"service": "web", "version": "1.0"}}],
          "destinations": [{"match": {"service": "backend"}}],
          "conf": {"backend": "file"}
        }"#,
        &["mesh-1", "tl-1"],
    ),
    (
        "TrafficPermission",
        r#"{
          "type": "TrafficPermission",
          "name": "tp-1",
          "mesh": "mesh-1",
          "sources": [{"match": {"service": "backend"}}],
          "destinations": [{"match": {"service": "redis"}}]
        }"#,
        &["mesh-1", "tp-1"],
    ),
    (
        "TrafficRoute",
        r#"{
          "type": "TrafficRoute",
          "name": "web-to-backend",
          "mesh": "mesh-1",
          "sources": [{"match": {"region": "us-east-1", "service": "web", "version": "v10"}}],
          "destinations": [{"match": {"service": "backend"}}],
          "conf": [
            {"weight": 90, "destination": {"region": "us-east-1", "service": "backend", "version": "v2"}},
            {"weight": 10, "destination": {"service": "backend", "version": "v3"}}
          ]
        }"#,
        &["mesh-1", "web-to-backend"],
    ),
    (
        "TrafficTrace",
        r#"{
          "type": "TrafficTrace",
          "name": "tt-1",
          "mesh": "mesh-1",
          "selectors": [{"match": {"region": "us-east-1"}}, {"match": {"service": "*"}}],
          "conf": {"backend": "zipkin"}
        }"#,
        &["mesh-1", "tt-1"],
    ),
];
