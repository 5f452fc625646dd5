//! The endpoints of a cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;

use envoy_api::envoy::config::core::v3::{Address, Metadata};
use envoy_api::envoy::config::endpoint::v3::endpoint::AdditionalAddress;
use envoy_api::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_api::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints};
use envoy_api::{Struct, Value, value};
use kuma_mesh::Endpoints;
use kuma_model::Tags;

use crate::address;

/// The namespace in which Envoy's load balancers look for an endpoint's metadata.
const LB_METADATA: &str = "envoy.lb";

/// A cluster's endpoints. An empty list is sent as well: Envoy waits until it has a list, and resets connections at
/// once when it is empty.
pub(crate) fn assignment(cluster: &str, endpoints: &Endpoints) -> ClusterLoadAssignment {
    let lb_endpoints: Vec<LbEndpoint> =
        endpoints.iter().map(|found| endpoint(found.address, found.port, &found.tags)).collect();
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: if lb_endpoints.is_empty() {
            Vec::new()
        } else {
            vec![LocalityLbEndpoints { lb_endpoints, ..LocalityLbEndpoints::default() }]
        },
        ..ClusterLoadAssignment::default()
    }
}

/// One endpoint, with its tags as metadata.
fn endpoint(address: IpAddr, port: u16, tags: &Tags) -> LbEndpoint {
    LbEndpoint { metadata: Some(metadata(tags)), ..at(address::tcp(address, port)) }
}

/// One endpoint without metadata.
pub(crate) fn at(address: Address) -> LbEndpoint {
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint { address: Some(address), ..Endpoint::default() })),
        ..LbEndpoint::default()
    }
}

/// Adds a second address to an endpoint. Envoy tries it when the first one fails.
pub(crate) fn add_address(endpoint: &mut LbEndpoint, address: Address) {
    if let Some(HostIdentifier::Endpoint(endpoint)) = &mut endpoint.host_identifier {
        endpoint.additional_addresses.push(AdditionalAddress { address: Some(address) });
    }
}

fn metadata(tags: &Tags) -> Metadata {
    let fields = tags
        .iter()
        .map(|(key, value)| (key.clone(), Value { kind: Some(value::Kind::StringValue(value.clone())) }))
        .collect();
    Metadata { filter_metadata: BTreeMap::from([(LB_METADATA.to_owned(), Struct { fields })]), ..Metadata::default() }
}
