//! TrafficRoute: where the connections to a service go.

use std::sync::Arc;

use kuma_model::{SERVICE_TAG, Tags};

use crate::{Endpoints, MeshDataplane, MeshSnapshot, best_policy};

/// One destination of an outbound, with its share of the connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The service that is dialled; not always the outbound's.
    pub service: Arc<str>,
    /// Further tags that its endpoints must carry, `service` left out.
    pub tags: Tags,
    /// Share, relative to the sum of all. Never 0.
    pub weight: u32,
}

impl MeshSnapshot {
    /// Where the connections of a proxy to a service go: by the route that matches best, else to the service itself.
    /// Destinations of weight 0 are left out; an empty list means that the route stops the traffic.
    pub fn destinations(&self, dataplane: &MeshDataplane, service: &Arc<str>) -> Vec<Destination> {
        let Some((_, route)) = best_policy(&self.routes, dataplane, service) else {
            return vec![Destination { service: service.clone(), tags: Tags::default(), weight: 1 }];
        };
        route
            .conf
            .iter()
            .filter(|entry| entry.weight > 0)
            .filter_map(|entry| {
                let mut tags = entry.destination.clone();
                let service = tags.remove(SERVICE_TAG)?;
                Some(Destination { service: Arc::from(service), tags, weight: entry.weight })
            })
            .collect()
    }

    /// The endpoints of a destination, sorted and distinct.
    pub fn endpoints(&self, destination: &Destination) -> Arc<Endpoints> {
        match self.services.get(&destination.service) {
            None => Arc::default(),
            Some(service) if destination.tags.is_empty() => service.endpoints().clone(),
            Some(service) => service.endpoints_with(&destination.tags),
        }
    }
}
