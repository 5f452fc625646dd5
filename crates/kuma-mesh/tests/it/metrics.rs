//! Where metrics are offered: the mesh decides whether, the Dataplane may say where else.

use std::sync::Arc;

use kuma_mesh::{MeshDataplane, MeshSnapshot};

use crate::support::{dataplane, spec};

fn endpoint(mesh: &str, own: &str) -> Option<(u16, String)> {
    let mut snapshot = MeshSnapshot::new("default", false);
    snapshot.set_mesh(Some(Arc::new(spec(mesh))));
    let mut proxy = dataplane(&["service: web"], &[]);
    proxy.metrics = spec::<kuma_model::Dataplane>(own).metrics;
    let proxy = MeshDataplane::new(Arc::from("web-1"), proxy);
    snapshot.metrics_endpoint(&proxy).map(|endpoint| (endpoint.port, endpoint.path))
}

#[test]
fn a_dataplane_overrides_its_mesh_field_by_field() {
    for (mesh, own, expected) in [
        ("{}", "{}", None),
        ("{}", "metrics: {prometheus: {port: 1}}", None),
        ("metrics: {}", "metrics: {prometheus: {port: 1}}", None),
        ("metrics: {prometheus: {}}", "{}", Some((5670, "/metrics"))),
        ("metrics: {prometheus: {port: 1, path: /a}}", "{}", Some((1, "/a"))),
        ("metrics: {prometheus: {port: 1, path: /a}}", "metrics: {}", Some((1, "/a"))),
        ("metrics: {prometheus: {port: 1, path: /a}}", "metrics: {prometheus: {port: 2}}", Some((2, "/a"))),
        ("metrics: {prometheus: {port: 1, path: /a}}", "metrics: {prometheus: {path: b}}", Some((1, "/b"))),
    ] {
        let expected = expected.map(|(port, path)| (port, path.to_owned()));
        assert_eq!(endpoint(mesh, own), expected, "{mesh} {own}");
    }
}

#[test]
fn whoever_has_a_port_already_is_named() {
    let proxy = MeshDataplane::new(Arc::from("web-1"), dataplane(&["service: web"], &["redis"]));
    assert_eq!(proxy.user_of_port(8000).as_deref(), Some("the inbound 10.0.0.1:8000"));
    assert_eq!(proxy.user_of_port(80).as_deref(), Some("the application 127.0.0.1:80"));
    assert_eq!(proxy.user_of_port(9000).as_deref(), Some("the outbound 127.0.0.1:9000"));
    assert_eq!(proxy.user_of_port(5670), None);
}
