//! Metrics for Prometheus: a listener that gives access to one page of Envoy's admin server and to no other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use envoy_api::Any;
use envoy_api::envoy::config::core::v3::TrafficDirection;
use envoy_api::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_api::envoy::config::route::v3::{
    HeaderMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    header_matcher::HeaderMatchSpecifier, route, route_action, route_match,
};
use envoy_api::envoy::extensions::filters::http::router::v3::Router;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier, http_filter,
};
use kuma_mesh::{MeshDataplane, MeshSnapshot};

use crate::key::ResourceKey;
use crate::{address, names, tcp, tls};

/// The plan for the metrics of a proxy.
#[derive(Default, Debug)]
pub struct MetricsPlan {
    /// The resources. Empty if the mesh has no metrics, or if they cannot be offered.
    pub keys: Vec<ResourceKey>,
    /// Why the metrics that the mesh asks for cannot be offered, as a message.
    pub problem: Option<String>,
}

/// Plans the metrics of a proxy. `admin` is the address of its admin server.
pub fn plan_metrics(snapshot: &MeshSnapshot, dataplane: &MeshDataplane, admin: Option<SocketAddr>) -> MetricsPlan {
    // Metrics belong to the profile `default-proxy`.
    if snapshot.template(dataplane).is_some_and(|(_, template)| !template.default_proxy) {
        return MetricsPlan::default();
    }
    let Some(endpoint) = snapshot.metrics_endpoint(dataplane) else { return MetricsPlan::default() };
    let problem = |problem: String| MetricsPlan { keys: Vec::new(), problem: Some(problem) };
    let Some(admin) = admin else {
        return problem("Envoy has no admin server: kuma-dp was started without an admin port".to_owned());
    };
    let used = if endpoint.port == admin.port() { Some("Envoy's admin server".to_owned()) } else { None };
    if let Some(user) = used.or_else(|| dataplane.user_of_port(endpoint.port)) {
        return problem(format!("port {} is in use by {user}", endpoint.port));
    }
    MetricsPlan {
        keys: vec![
            ResourceKey::AdminCluster { address: admin },
            ResourceKey::MetricsListener { port: endpoint.port, path: Arc::from(endpoint.path) },
        ],
        problem: None,
    }
}

/// The listener. It serves GET of exactly one path; anything else is not found.
pub(crate) fn listener(port: u16, path: &str) -> Listener {
    let manager = HttpConnectionManager {
        stat_prefix: names::stat_prefix(names::METRICS),
        route_specifier: Some(RouteSpecifier::RouteConfig(RouteConfiguration {
            virtual_hosts: vec![VirtualHost {
                name: "envoy_admin".into(),
                domains: vec!["*".into()],
                routes: vec![to_admin(path)],
                ..VirtualHost::default()
            }],
            ..RouteConfiguration::default()
        })),
        http_filters: vec![HttpFilter {
            name: "envoy.filters.http.router".into(),
            config_type: Some(http_filter::ConfigType::TypedConfig(Any::pack(&Router::default()))),
            ..HttpFilter::default()
        }],
        ..HttpConnectionManager::default()
    };
    Listener {
        name: names::METRICS.into(),
        address: Some(address::tcp(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.http_connection_manager".into(),
                config_type: Some(filter::ConfigType::TypedConfig(Any::pack(&manager))),
            }],
            ..FilterChain::default()
        }],
        traffic_direction: TrafficDirection::Inbound as i32,
        // Otherwise another listener on the port would get a part of its connections, without an error.
        enable_reuse_port: Some(false),
        tcp_keepalive: Some(tcp::keepalive()),
        ..Listener::default()
    }
}

fn to_admin(path: &str) -> Route {
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(route_match::PathSpecifier::Path(path.to_owned())),
            headers: vec![HeaderMatcher {
                name: ":method".into(),
                header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(tls::exact("GET"))),
                ..HeaderMatcher::default()
            }],
            ..RouteMatch::default()
        }),
        action: Some(route::Action::Route(RouteAction {
            cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(names::ADMIN_CLUSTER.into())),
            prefix_rewrite: "/stats/prometheus".into(),
            ..RouteAction::default()
        })),
        ..Route::default()
    }
}

#[cfg(test)]
mod tests {
    use kuma_model::{Dataplane, Mesh, Resource, decode_spec, text};

    use super::*;

    fn spec<R: Resource>(yaml: &str) -> R {
        decode_spec(&text::parse_documents(yaml).expect("YAML")[0]).expect("a spec")
    }

    /// What web-1, with an inbound on port 80 before an application on 8080, gets for this mesh.
    fn plan(mesh: &str, admin: Option<SocketAddr>) -> MetricsPlan {
        let mut snapshot = MeshSnapshot::new("default", false);
        snapshot.set_mesh(Some(Arc::new(spec::<Mesh>(mesh))));
        let web = "networking: {inbound: [{interface: '10.0.0.1:80:8080', tags: {service: web}}]}";
        snapshot.set_dataplane(&Arc::from("web-1"), Some(spec::<Dataplane>(web)));
        plan_metrics(&snapshot, snapshot.dataplane("web-1").expect("there"), admin)
    }

    #[test]
    fn metrics_are_offered_where_the_mesh_asks_for_them() {
        let listener = |port| ResourceKey::MetricsListener { port, path: "/metrics".into() };
        let at: SocketAddr = "[::1]:30001".parse().expect("an address");
        let admin = ResourceKey::AdminCluster { address: at };
        let offered = plan("metrics: {prometheus: {port: 1234}}", Some(at));
        assert_eq!((offered.keys, offered.problem), (vec![admin, listener(1234)], None));
        let none = plan("{}", Some(at));
        assert_eq!((none.keys, none.problem), (Vec::new(), None));
    }

    #[test]
    fn what_stands_in_the_way_is_said() {
        for (port, admin, expected) in [
            (80, Some(30001), "port 80 is in use by the inbound 10.0.0.1:80"),
            (8080, Some(30001), "port 8080 is in use by the application 127.0.0.1:8080"),
            (30001, Some(30001), "port 30001 is in use by Envoy's admin server"),
            (5670, None, "Envoy has no admin server: kuma-dp was started without an admin port"),
        ] {
            let admin = admin.map(|port: u16| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
            let plan = plan(&format!("metrics: {{prometheus: {{port: {port}}}}}"), admin);
            assert_eq!((plan.keys, plan.problem.as_deref()), (Vec::new(), Some(expected)));
        }
    }
}
