//! Documents that tests write.

use serde_json::{Value, json};

/// Mesh `name`, with or without mTLS by the builtin CA.
pub fn mesh(name: &str, mtls: bool) -> Value {
    json!({"type": "Mesh", "name": name, "mtls": {"enabled": mtls, "ca": {"builtin": {}}}})
}

/// A Dataplane on 127.0.0.1 of one service, which listens on `port` in front of `app`, with outbounds (port, service).
pub fn dataplane(mesh: &str, name: &str, service: &str, (port, app): (u16, u16), outbounds: &[(u16, &str)]) -> Value {
    let outbounds: Vec<Value> =
        outbounds.iter().map(|(port, service)| json!({"interface": format!(":{port}"), "service": service})).collect();
    json!({
        "type": "Dataplane", "mesh": mesh, "name": name,
        "networking": {
            "inbound": [{"interface": format!("127.0.0.1:{port}:{app}"), "tags": {"service": service}}],
            "outbound": outbounds,
        },
    })
}

/// A TrafficPermission from one service to another; `*` is any.
pub fn permission(mesh: &str, name: &str, source: &str, destination: &str) -> Value {
    json!({
        "type": "TrafficPermission", "mesh": mesh, "name": name,
        "sources": [{"match": {"service": source}}],
        "destinations": [{"match": {"service": destination}}],
    })
}

/// A TrafficRoute from one service to another, split over services by weight.
pub fn route(mesh: &str, name: &str, source: &str, destination: &str, split: &[(u32, &str)]) -> Value {
    let split = split.iter().map(|(weight, service)| json!({"weight": weight, "destination": {"service": service}}));
    json!({
        "type": "TrafficRoute", "mesh": mesh, "name": name,
        "sources": [{"match": {"service": source}}],
        "destinations": [{"match": {"service": destination}}],
        "conf": split.collect::<Vec<Value>>(),
    })
}
