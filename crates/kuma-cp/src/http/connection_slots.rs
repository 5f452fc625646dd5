//! The limit on a server's open connections.
//!
//! When all slots are taken, a new connection gets the slot of the connection whose latest progress is the oldest, and
//! that connection is closed. So clients that open connections without completing requests cannot exhaust the server.
//! One that is being answered, such as by a stream that stays open, goes only if all are.

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
    /// Those that are being answered.
    answered: BTreeMap<u64, CancellationToken>,
}

/// The slot of one connection. Dropping it frees the slot.
pub(super) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    /// The slot's key in [`Taken::by_progress`] or [`Taken::answered`], and how many answers are under way.
    progress: Mutex<(u64, usize)>,
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
        if taken.by_progress.len() + taken.answered.len() >= self.limit {
            let oldest = taken.by_progress.pop_first().or_else(|| taken.answered.pop_first());
            if let Some((_, oldest)) = oldest {
                oldest.cancel();
            }
        }
        let evicted = CancellationToken::new();
        let progress = taken.insert(evicted.clone());
        drop(taken);
        ConnectionSlot { slots: self.clone(), progress: Mutex::new((progress, 0)), evicted }
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

/// An answer that is under way. Its end is progress of its connection.
pub(super) struct Answering(Arc<ConnectionSlot>);

impl ConnectionSlot {
    /// Records that an answer begins.
    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.slots.taken();
        progress.1 += 1;
        if let Some(evicted) = taken.by_progress.remove(&progress.0) {
            taken.answered.insert(progress.0, evicted);
        }
        Answering(self.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut progress = self.0.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.0.slots.taken();
        progress.1 -= 1;
        // A connection that was evicted stays evicted.
        if progress.1 == 0 && taken.answered.remove(&progress.0).is_some() {
            progress.0 = taken.insert(self.0.evicted.clone());
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let (number, _) = *self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.slots.taken();
        taken.by_progress.remove(&number);
        taken.answered.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire(slots: &Arc<ConnectionSlots>) -> Arc<ConnectionSlot> {
        Arc::new(slots.acquire())
    }

    #[test]
    fn the_connection_with_the_oldest_progress_is_evicted() {
        let slots = ConnectionSlots::new(2);
        let (first, second) = (acquire(&slots), acquire(&slots));
        drop(first.answering());
        let third = acquire(&slots);
        assert!(second.evicted.is_cancelled(), "it was accepted after the first, but answered no request");
        assert!(!first.evicted.is_cancelled() && !third.evicted.is_cancelled());

        drop(second.answering());
        let fourth = acquire(&slots);
        assert!(first.evicted.is_cancelled() && !third.evicted.is_cancelled());

        drop((first, second, third));
        let _fifth = acquire(&slots);
        assert!(!fourth.evicted.is_cancelled(), "a slot is free again");
    }

    #[test]
    fn an_open_stream_outlasts_connections_that_are_idle() {
        let slots = ConnectionSlots::new(3);
        let stream = acquire(&slots);
        let answer = stream.answering();
        let idle: Vec<_> = (0..100).map(|_| acquire(&slots)).collect();
        assert!(!stream.evicted.is_cancelled());
        assert_eq!(idle.iter().filter(|slot| !slot.evicted.is_cancelled()).count(), 2);
        drop(answer);
        let _others = [acquire(&slots), acquire(&slots), acquire(&slots)];
        assert!(stream.evicted.is_cancelled(), "it has ended, and is idle like the others");
    }
}
