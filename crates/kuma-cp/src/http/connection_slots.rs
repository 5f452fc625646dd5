//! Room for connections. When there is none left, the one that has got nowhere for longest makes place for a newcomer:
//! so clients that open connections and do nothing with them, or as good as nothing, keep nobody out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Connections of one server.
pub(super) struct Room {
    most: usize,
    order: Mutex<Order>,
}

/// Connections by their latest progress: that they came, or that a request of theirs was answered.
#[derive(Default)]
struct Order {
    last: u64,
    by_progress: BTreeMap<u64, CancellationToken>,
}

/// The place of one connection; free again when dropped.
pub(super) struct Place {
    room: Arc<Room>,
    /// Its key in [`Order::by_progress`].
    since: Mutex<u64>,
    /// Cancelled when it has to go.
    pub(super) leave: CancellationToken,
}

impl Room {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Arc<Room> {
        Arc::new(Room { most, order: Mutex::default() })
    }

    /// A place for one more. If all are taken, the connection that has got nowhere for longest is told to go.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let mut order = self.order();
        if order.by_progress.len() >= self.most
            && let Some((_, longest)) = order.by_progress.pop_first()
        {
            longest.cancel();
        }
        let leave = CancellationToken::new();
        let since = order.insert(leave.clone());
        drop(order);
        Place { room: self.clone(), since: Mutex::new(since), leave }
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    fn insert(&mut self, leave: CancellationToken) -> u64 {
        self.last += 1;
        self.by_progress.insert(self.last, leave);
        self.last
    }
}

impl Place {
    /// Notes that a request was answered.
    pub(super) fn progress(&self) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let mut order = self.room.order();
        // Who has been told to go stays told.
        if order.by_progress.remove(&since).is_some() {
            *since = order.insert(self.leave.clone());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        self.room.order().by_progress.remove(&since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_got_nowhere_for_longest_goes() {
        let room = Room::new(2);
        let (first, second) = (room.enter(), room.enter());
        first.progress();
        let third = room.enter();
        assert!(second.leave.is_cancelled(), "it came later, and nothing has come of it");
        assert!(!first.leave.is_cancelled() && !third.leave.is_cancelled());

        second.progress();
        let fourth = room.enter();
        assert!(first.leave.is_cancelled() && !third.leave.is_cancelled());

        drop((first, second, third));
        let _fifth = room.enter();
        assert!(!fourth.leave.is_cancelled(), "there is room again");
    }
}
