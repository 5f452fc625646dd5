//! Routes: to which cluster a request goes. All requests of a service go to the same clusters, whatever their host and
//! path.

use envoy_api::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_api::envoy::config::route::v3::{
    DirectResponseAction, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    WeightedCluster as Weights, route::Action, route_action::ClusterSpecifier, route_match::PathSpecifier,
};

use crate::key::WeightedCluster;
use crate::retry::Request;
use crate::tcp::NEVER;
use crate::{names, retry};

/// From an inbound to its application.
pub(crate) fn to_application(service: &str, cluster: String) -> RouteConfiguration {
    let clusters = ClusterSpecifier::Cluster(cluster);
    configuration(names::inbound_routes(service), service, by_method(&clusters, retry::to_application))
}

/// From an outbound to the destinations of a service.
///
/// Envoy must not validate the clusters: it would refuse all of the routes for a cluster that it does not know yet, and
/// not ask for them again.
pub(crate) fn to_service(service: &str, clusters: &[WeightedCluster]) -> RouteConfiguration {
    let clusters: Vec<&WeightedCluster> = clusters.iter().filter(|cluster| cluster.weight > 0).collect();
    let clusters = match clusters.as_slice() {
        [] => return configuration(names::outbound_routes(service), service, vec![nowhere()]),
        [only] => ClusterSpecifier::Cluster(only.name.to_string()),
        several => ClusterSpecifier::WeightedClusters(weighted(several)),
    };
    configuration(names::outbound_routes(service), service, by_method(&clusters, retry::to_instances))
}

fn configuration(name: String, service: &str, routes: Vec<Route>) -> RouteConfiguration {
    RouteConfiguration {
        name,
        virtual_hosts: vec![VirtualHost {
            name: service.to_owned(),
            domains: vec!["*".into()],
            routes,
            ..VirtualHost::default()
        }],
        // The header is meant for proxies only. It is taken from an application's responses, and not shown to clients.
        response_headers_to_remove: vec![retry::NOT_REACHED.to_owned()],
        ..RouteConfiguration::default()
    }
}

/// Requests that may be repeated take the first route, all others the second one; both lead to the same clusters.
fn by_method(clusters: &ClusterSpecifier, retries: fn(Request) -> RetryPolicy) -> Vec<Route> {
    let to = |request| {
        Action::Route(RouteAction {
            cluster_specifier: Some(clusters.clone()),
            // By default a response has to be complete after 15 s.
            timeout: Some(NEVER),
            retry_policy: Some(retries(request)),
            ..RouteAction::default()
        })
    };
    let mut idempotent = route(to(Request::Idempotent));
    if let Some(every) = &mut idempotent.r#match {
        every.headers = vec![retry::is_idempotent()];
    }
    vec![idempotent, route(to(Request::Any))]
}

/// The route of a service whose TrafficRoute has no destination with a weight.
fn nowhere() -> Route {
    route(Action::DirectResponse(DirectResponseAction { status: 503, ..DirectResponseAction::default() }))
}

/// A route for all requests.
fn route(action: Action) -> Route {
    Route {
        r#match: Some(RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".into())), ..RouteMatch::default() }),
        action: Some(action),
        ..Route::default()
    }
}

/// Envoy refuses weights whose sum exceeds 32 bits: then all are divided by the same number.
fn weighted(clusters: &[&WeightedCluster]) -> Weights {
    let sum: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    let divisor = u32::try_from(sum / u64::from(u32::MAX)).map_or(u32::MAX, |times| times.saturating_add(1));
    let clusters = clusters.iter().map(|cluster| ClusterWeight {
        name: cluster.name.to_string(),
        weight: Some((cluster.weight / divisor).max(1)),
        ..ClusterWeight::default()
    });
    Weights { clusters: clusters.collect(), ..Weights::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_weights_fits() {
        let cluster = |weight| WeightedCluster { name: "a".into(), weight };
        for (weights, expected) in [
            (vec![1, 3], vec![1, 3]),
            (vec![u32::MAX - 1, 1], vec![(u32::MAX - 1) / 2, 1]),
            (vec![u32::MAX, u32::MAX, 1], vec![u32::MAX / 3, u32::MAX / 3, 1]),
        ] {
            let clusters: Vec<WeightedCluster> = weights.into_iter().map(cluster).collect();
            let weighted = weighted(&clusters.iter().collect::<Vec<_>>());
            let weights: Vec<u32> = weighted.clusters.iter().filter_map(|cluster| cluster.weight).collect();
            assert_eq!(weights, expected);
            assert!(weights.iter().map(|&weight| u64::from(weight)).sum::<u64>() <= u64::from(u32::MAX));
        }
    }
}
