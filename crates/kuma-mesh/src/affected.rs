//! Which proxies a change concerns.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The proxies (by the name of their Dataplane) whose configuration a change may alter. It may name too many, at the cost
/// of a comparison; never too few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affected {
    /// Every proxy of the mesh.
    All,
    /// These proxies.
    Proxies(BTreeSet<Arc<str>>),
}

impl Affected {
    /// Nobody.
    pub const fn none() -> Affected {
        Affected::Proxies(BTreeSet::new())
    }

    /// Whether nobody is concerned.
    pub fn is_none(&self) -> bool {
        matches!(self, Affected::Proxies(proxies) if proxies.is_empty())
    }

    /// Adds those of another change.
    pub fn merge(&mut self, other: Affected) {
        match (&mut *self, other) {
            (Affected::All, _) => {}
            (_, Affected::All) => *self = Affected::All,
            (Affected::Proxies(mine), Affected::Proxies(theirs)) => mine.extend(theirs),
        }
    }

    /// Whether a proxy is among them.
    pub fn contains(&self, proxy: &str) -> bool {
        match self {
            Affected::All => true,
            Affected::Proxies(proxies) => proxies.contains(proxy),
        }
    }
}
