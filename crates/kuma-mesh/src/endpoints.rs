//! The endpoints of a service, as a value that is cheap to share, compare and hash.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use kuma_model::Tags;
use xxhash_rust::xxh3::Xxh3;

/// Where one inbound of one proxy is reached.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Endpoint {
    /// Address on which the proxy listens.
    pub address: IpAddr,
    /// Port on which the proxy listens.
    pub port: u16,
    /// Tags of the inbound.
    pub tags: Arc<Tags>,
}

/// Endpoints, sorted and distinct: the same set is the same value, in whatever order it was found.
///
/// Hashing one costs the same however many there are: the hash of the content is made once.
#[derive(Clone, Debug)]
pub struct Endpoints {
    sorted: Vec<Endpoint>,
    hash: u64,
}

impl Endpoints {
    /// Sorts them and leaves out repetitions.
    pub fn new(mut endpoints: Vec<Endpoint>) -> Endpoints {
        endpoints.sort_unstable();
        endpoints.dedup();
        let mut hash = Xxh3::new();
        for Endpoint { address, port, tags } in &endpoints {
            address.hash(&mut hash);
            port.hash(&mut hash);
            tags.hash(&mut hash);
        }
        Endpoints { hash: hash.finish(), sorted: endpoints }
    }
}

impl Default for Endpoints {
    fn default() -> Endpoints {
        Endpoints::new(Vec::new())
    }
}

impl FromIterator<Endpoint> for Endpoints {
    fn from_iter<I: IntoIterator<Item = Endpoint>>(endpoints: I) -> Endpoints {
        Endpoints::new(endpoints.into_iter().collect())
    }
}

impl Deref for Endpoints {
    type Target = [Endpoint];

    fn deref(&self) -> &[Endpoint] {
        &self.sorted
    }
}

impl PartialEq for Endpoints {
    fn eq(&self, other: &Endpoints) -> bool {
        self.hash == other.hash && self.sorted == other.sorted
    }
}

impl Eq for Endpoints {}

impl Hash for Endpoints {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, port: u16) -> Endpoint {
        Endpoint {
            address: address.parse().expect("an address"),
            port,
            tags: Arc::new(Tags::from([("service", "redis")])),
        }
    }

    fn hash_of(endpoints: &Endpoints) -> u64 {
        let mut hash = Xxh3::new();
        endpoints.hash(&mut hash);
        hash.finish()
    }

    #[test]
    fn order_and_repetitions_do_not_matter() {
        let one = Endpoints::new(vec![endpoint("10.0.0.2", 80), endpoint("10.0.0.1", 80), endpoint("10.0.0.2", 80)]);
        let two = Endpoints::new(vec![endpoint("10.0.0.1", 80), endpoint("10.0.0.2", 80)]);
        assert_eq!(one.len(), 2);
        assert_eq!(one, two);
        assert_eq!(hash_of(&one), hash_of(&two));
    }

    #[test]
    fn every_part_counts() {
        let one = Endpoints::new(vec![endpoint("10.0.0.1", 80)]);
        for other in [
            Endpoints::default(),
            Endpoints::new(vec![endpoint("10.0.0.2", 80)]),
            Endpoints::new(vec![endpoint("10.0.0.1", 81)]),
            Endpoints::new(vec![Endpoint {
                tags: Arc::new(Tags::from([("service", "db")])),
                ..endpoint("10.0.0.1", 80)
            }]),
        ] {
            assert_ne!(one, other);
            assert_ne!(hash_of(&one), hash_of(&other));
        }
    }
}
