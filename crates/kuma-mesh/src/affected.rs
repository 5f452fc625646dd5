//! Which proxies a change concerns.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The proxies (by the name of their Dataplane) whose configuration a change may alter. It may name too many, at the cost
/// of a comparison; never too few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affected {
    /// Every proxy of the mesh.
    All,
    /// Some proxies.
    Proxies {
        /// These, in any way.
        whole: BTreeSet<Arc<str>>,
        /// These in nothing but the endpoints of the services below, beside those above.
        endpoints: BTreeSet<Arc<str>>,
        /// Services whose endpoints changed, and nothing else of them.
        services: BTreeSet<Arc<str>>,
    },
}

impl Affected {
    /// Nobody.
    pub const fn none() -> Affected {
        Affected::proxies(BTreeSet::new())
    }

    /// These, in any way.
    pub const fn proxies(whole: BTreeSet<Arc<str>>) -> Affected {
        Affected::Proxies { whole, endpoints: BTreeSet::new(), services: BTreeSet::new() }
    }

    /// Whether nobody is concerned.
    pub fn is_none(&self) -> bool {
        matches!(self, Affected::Proxies { whole, endpoints, .. } if whole.is_empty() && endpoints.is_empty())
    }

    /// Adds those of another change.
    pub fn merge(&mut self, other: Affected) {
        match (&mut *self, other) {
            (Affected::All, _) => {}
            (_, Affected::All) => *self = Affected::All,
            (
                Affected::Proxies { whole, endpoints, services },
                Affected::Proxies { whole: more, endpoints: more_endpoints, services: more_services },
            ) => {
                whole.extend(more);
                endpoints.extend(more_endpoints);
                services.extend(more_services);
            }
        }
    }

    /// Whether a proxy is among them.
    pub fn contains(&self, proxy: &str) -> bool {
        match self {
            Affected::All => true,
            Affected::Proxies { whole, endpoints, .. } => whole.contains(proxy) || endpoints.contains(proxy),
        }
    }
}
