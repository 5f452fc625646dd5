//! Which proxies a change concerns.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The proxies (by the name of their Dataplane) whose configuration a change may alter. It may name too many, at the
/// cost of a comparison; never too few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affected {
    /// Every proxy of the mesh.
    All,
    /// Some proxies. One that is concerned in several ways may be in several sets.
    Proxies {
        /// These, in any way.
        whole: BTreeSet<Arc<str>>,
        /// These in nothing but who is admitted at their inbounds.
        admission: BTreeSet<Arc<str>>,
        /// These in nothing but whether what their outbounds carry is permitted.
        flows: BTreeSet<Arc<str>>,
        /// These in nothing but the endpoints of the services below.
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
        Affected::Proxies {
            whole,
            admission: BTreeSet::new(),
            flows: BTreeSet::new(),
            endpoints: BTreeSet::new(),
            services: BTreeSet::new(),
        }
    }

    /// Whether nobody is concerned.
    pub fn is_none(&self) -> bool {
        match self {
            Affected::All => false,
            Affected::Proxies { whole, admission, flows, endpoints, services: _ } => {
                [whole, admission, flows, endpoints].iter().all(|names| names.is_empty())
            }
        }
    }

    /// Adds those of another change.
    pub fn merge(&mut self, other: Affected) {
        match (&mut *self, other) {
            (Affected::All, _) => {}
            (_, Affected::All) => *self = Affected::All,
            (
                Affected::Proxies { whole, admission, flows, endpoints, services },
                Affected::Proxies { whole: w, admission: a, flows: f, endpoints: e, services: s },
            ) => {
                let sets = [(whole, w), (admission, a), (flows, f), (endpoints, e), (services, s)];
                for (names, others) in sets {
                    // Most often nothing was there before.
                    if names.is_empty() {
                        *names = others;
                    } else {
                        names.extend(others);
                    }
                }
            }
        }
    }

    /// Whether a proxy is among them.
    pub fn contains(&self, proxy: &str) -> bool {
        match self {
            Affected::All => true,
            Affected::Proxies { whole, admission, flows, endpoints, services: _ } => {
                [whole, admission, flows, endpoints].iter().any(|names| names.contains(proxy))
            }
        }
    }
}
