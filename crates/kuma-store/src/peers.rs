//! The processes that use one store.

use std::sync::Arc;

/// A process that uses the store, or did so a short time ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Identifies it; the same as in the insights that it writes.
    pub instance: Arc<str>,
    /// What it says about itself.
    pub about: String,
    /// Whether it was heard of within the last 15 seconds.
    pub is_alive: bool,
    /// Whether it is this process.
    pub is_self: bool,
}
