//! The limit on a server's open connections.
//!
//! When all slots are taken, a new connection gets the slot of the connection whose latest progress is the oldest, and
//! that connection is closed. So clients that open connections without completing requests cannot exhaust the server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The connection slots of one server.
pub(super) struct ConnectionSlots {
    limit: usize,
    taken: Mutex<Taken>,
}

/// The slots that are taken, ordered by the latest progress of their connections: when a connection was accepted, or
/// when a request on it was last answered.
#[derive(Default)]
struct Taken {
    last_number: u64,
    by_progress: BTreeMap<u64, CancellationToken>,
}

/// The slot of one connection. Dropping it frees the slot.
pub(super) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    /// The slot's key in [`Taken::by_progress`].
    progress: Mutex<u64>,
    /// Cancelled when another connection gets the slot: this one has to be closed.
    pub(super) evicted: CancellationToken,
}

impl ConnectionSlots {
    /// Slots for at most `limit` connections at a time.
    pub(super) fn new(limit: usize) -> Arc<ConnectionSlots> {
        Arc::new(ConnectionSlots { limit, taken: Mutex::default() })
    }

    /// Takes a slot. If all are taken, evicts the connection with the oldest progress.
    pub(super) fn acquire(self: &Arc<Self>) -> ConnectionSlot {
        let mut taken = self.taken();
        if taken.by_progress.len() >= self.limit
            && let Some((_, oldest)) = taken.by_progress.pop_first()
        {
            oldest.cancel();
        }
        let evicted = CancellationToken::new();
        let progress = taken.insert(evicted.clone());
        drop(taken);
        ConnectionSlot { slots: self.clone(), progress: Mutex::new(progress), evicted }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn insert(&mut self, evicted: CancellationToken) -> u64 {
        self.last_number += 1;
        self.by_progress.insert(self.last_number, evicted);
        self.last_number
    }
}

impl ConnectionSlot {
    /// Records that a request on this connection was answered.
    pub(super) fn record_progress(&self) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.slots.taken();
        // A connection that was evicted stays evicted.
        if taken.by_progress.remove(&progress).is_some() {
            *progress = taken.insert(self.evicted.clone());
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let progress = *self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        self.slots.taken().by_progress.remove(&progress);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_with_the_oldest_progress_is_evicted() {
        let slots = ConnectionSlots::new(2);
        let (first, second) = (slots.acquire(), slots.acquire());
        first.record_progress();
        let third = slots.acquire();
        assert!(second.evicted.is_cancelled(), "it was accepted after the first, but answered no request");
        assert!(!first.evicted.is_cancelled() && !third.evicted.is_cancelled());

        second.record_progress();
        let fourth = slots.acquire();
        assert!(first.evicted.is_cancelled() && !third.evicted.is_cancelled());

        drop((first, second, third));
        let _fifth = slots.acquire();
        assert!(!fourth.evicted.is_cancelled(), "a slot is free again");
    }
}
