//! Who carries HTTP, and whom a change of that or of tracing concerns.

use std::collections::BTreeSet;
use std::sync::Arc;

use kuma_mesh::{Affected, MeshSnapshot};
use kuma_model::{Mesh, TrafficRoute, TrafficTrace};

use crate::support::{dataplane, mesh, spec};

const HTTP: &str = "service: api, protocol: HTTP";

fn is_http(mesh: &MeshSnapshot, service: &str) -> bool {
    mesh.is_http_outbound(mesh.dataplane("web").expect("there"), &Arc::from(service))
}

fn whole(affected: Affected) -> BTreeSet<String> {
    match affected {
        Affected::All => panic!("all are concerned"),
        Affected::Proxies { whole, .. } => whole.iter().map(|name| name.to_string()).collect(),
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_service_speaks_http_if_all_of_it_does() {
    let mut mesh = mesh(&[
        ("web", dataplane(&["service: web"], &["api"])),
        ("other", dataplane(&["service: other"], &["db"])),
        ("api-1", dataplane(&[HTTP], &[])),
    ]);
    assert!(is_http(&mesh, "api"));
    assert!(!is_http(&mesh, "nobody"));
    for (tags, concerned) in [
        ("service: api", names(&["api-2", "web"])),
        // Still not all.
        ("service: api, protocol: tcp", names(&["api-2", "web"])),
        (HTTP, names(&["api-2", "web"])),
    ] {
        let affected = mesh.set_dataplane(&Arc::from("api-2"), Some(dataplane(&[tags], &[])));
        assert_eq!(whole(affected), concerned, "{tags}");
        assert_eq!(is_http(&mesh, "api"), tags == HTTP, "{tags}");
    }
    // Whoever leaves for now still says what the service speaks.
    for name in ["api-1", "api-2"] {
        mesh.set_departed(&Arc::from(name), true);
    }
    assert!(is_http(&mesh, "api"));
    for name in ["api-1", "api-2"] {
        mesh.set_dataplane(&Arc::from(name), None);
    }
    assert!(!is_http(&mesh, "api"));
}

#[test]
fn an_outbound_speaks_http_if_its_route_leads_to_nothing_else() {
    let mut mesh = mesh(&[
        ("web", dataplane(&["service: web"], &["api", "alias"])),
        ("api-1", dataplane(&[HTTP], &[])),
        ("db-1", dataplane(&["service: db"], &[])),
    ]);
    for (destination, conf, http) in [
        ("alias", "[{weight: 1, destination: {service: api}}]", true),
        ("alias", "[{weight: 1, destination: {service: api}}, {weight: 1, destination: {service: nobody}}]", true),
        ("alias", "[{weight: 1, destination: {service: nobody}}]", false),
        ("api", "[{weight: 1, destination: {service: api}}, {weight: 1, destination: {service: db}}]", false),
        ("api", "[{weight: 1, destination: {service: api}}, {weight: 0, destination: {service: db}}]", true),
        ("api", "[{weight: 0, destination: {service: api}}]", true),
    ] {
        let yaml = format!(
            "sources: [{{match: {{service: web}}}}]\ndestinations: [{{match: {{service: {destination}}}}}]\n\
             conf: {conf}"
        );
        mesh.set_route(&Arc::from("r"), Some(Arc::new(spec::<TrafficRoute>(&yaml))));
        assert_eq!(is_http(&mesh, destination), http, "{destination} {conf}");
    }
    // A service that only a route leads to concerns those whom the route is about.
    let affected = mesh.set_dataplane(&Arc::from("api-2"), Some(dataplane(&["service: api"], &[])));
    assert_eq!(whole(affected), names(&["api-2", "web"]));
}

#[test]
fn a_trace_and_its_backend_concern_the_proxies_that_it_selects() {
    let mut mesh = mesh(&[
        ("web", dataplane(&["service: web, region: eu"], &[])),
        ("api", dataplane(&["service: api, region: us"], &[])),
        ("both", dataplane(&["service: web, region: us", "service: api, region: eu"], &[])),
    ]);
    let set = |mesh: &mut MeshSnapshot, name: &str, selector: &str, backend: &str| {
        let yaml = format!("selectors: [{{match: {{{selector}}}}}]\nconf: {{backend: '{backend}'}}");
        whole(mesh.set_trace(&Arc::from(name), Some(Arc::new(spec::<TrafficTrace>(&yaml)))))
    };
    let backends = |url: &str| {
        let yaml = format!(
            "mtls: {{enabled: true, ca: {{builtin: {{}}}}}}\ntracing: {{defaultBackend: a, backends: [{{name: a, \
             zipkin: {{url: '{url}'}}}}, {{name: b}}]}}"
        );
        Some(Arc::new(spec::<Mesh>(&yaml)))
    };
    // Nobody traces yet.
    assert_eq!(whole(mesh.set_mesh(backends("http://a:1"))), names(&[]));
    // Tags of different inbounds are never mixed.
    assert_eq!(set(&mut mesh, "one", "service: web, region: eu", ""), names(&["web"]));
    assert_eq!(set(&mut mesh, "two", "service: '*'", "b"), names(&["api", "both", "web"]));
    assert_eq!(set(&mut mesh, "two", "region: us", "b"), names(&["api", "both", "web"]), "before and after count");
    assert_eq!(set(&mut mesh, "three", "region: mars", ""), names(&[]));
    let backend = |mesh: &MeshSnapshot, name: &str| {
        mesh.trace_backend(mesh.dataplane(name).expect("there")).map(|backend| backend.name.clone())
    };
    assert_eq!(backend(&mesh, "web").as_deref(), Some("a"), "more tags win, and the default backend stands in");
    assert_eq!(backend(&mesh, "both").as_deref(), Some("b"));
    set(&mut mesh, "two", "region: us", "none");
    assert_eq!(backend(&mesh, "both"), None, "a backend that the mesh does not have");
    assert_eq!(whole(mesh.set_mesh(backends("http://a:2"))), names(&["api", "both", "web"]));
    let without_mtls = "tracing: {defaultBackend: a, backends: [{name: a, zipkin: {url: 'http://a:2'}}, {name: b}]}";
    assert_eq!(mesh.set_mesh(Some(Arc::new(spec(without_mtls)))), Affected::All);
}
