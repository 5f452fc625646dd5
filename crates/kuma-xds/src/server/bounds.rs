//! What peers may cost that have proved nothing: connections, and bytes of messages that have begun.
//!
//! Where a mesh has no mTLS its proxies prove nothing either, so there is no limit of strangers alone. When there is no
//! room for another connection, one that has proved nothing is closed: the oldest from the address that has the most of
//! them. So a flood from few addresses ends itself, and a fleet that comes back at once is no flood.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use crate::grpc::{Code, Status};

/// Bytes of messages that have begun and not ended, of all unproved peers together.
const UNPROVED_BYTES: usize = 32 << 20;

/// The bounds of one server, or of several that share them.
#[derive(Debug)]
pub struct Bounds {
    connections: usize,
    state: Mutex<State>,
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    last_number: u64,
    /// The connections that have proved nothing, by address and in the order in which they came.
    unproved: HashMap<IpAddr, BTreeMap<u64, Option<AbortHandle>>>,
}

impl Bounds {
    /// For at most so many connections at a time.
    pub fn new(connections: usize) -> Arc<Bounds> {
        Arc::new(Bounds { connections, state: Mutex::default(), bytes: AtomicUsize::new(0) })
    }

    /// Room for one more connection. `None` if there is none: all that are open have proved who they are.
    pub(super) fn admit(self: &Arc<Bounds>, address: IpAddr) -> Option<Arc<Place>> {
        let mut state = self.state();
        if state.open >= self.connections && !state.close_one() {
            return None;
        }
        state.open += 1;
        state.last_number += 1;
        let number = state.last_number;
        state.unproved.entry(address).or_default().insert(number, None);
        Some(Arc::new(Place { bounds: self.clone(), address, number, proved: AtomicBool::new(false) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Closes one that has proved nothing. It frees its place when it is dropped, which is soon.
    fn close_one(&mut self) -> bool {
        let most = self.unproved.iter_mut().max_by_key(|(_, connections)| connections.len());
        let Some((address, connections)) = most else { return false };
        let address = *address;
        // One whose task is not known yet is the youngest of all.
        let oldest = connections.iter().find_map(|(number, task)| Some((*number, task.clone()?)));
        let Some((number, task)) = oldest else { return false };
        task.abort();
        self.forget(address, number);
        true
    }

    fn forget(&mut self, address: IpAddr, number: u64) {
        if let Some(connections) = self.unproved.get_mut(&address) {
            connections.remove(&number);
            if connections.is_empty() {
                self.unproved.remove(&address);
            }
        }
    }
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Place {
    bounds: Arc<Bounds>,
    address: IpAddr,
    number: u64,
    proved: AtomicBool,
}

impl Place {
    /// What runs the connection, and is ended if another one needs its place more.
    pub(super) fn runs(&self, task: AbortHandle) {
        let mut state = self.bounds.state();
        let connections = state.unproved.get_mut(&self.address);
        if let Some(place) = connections.and_then(|connections| connections.get_mut(&self.number)) {
            *place = Some(task);
        }
    }

    /// A token has shown who it is: it keeps its place.
    pub(super) fn prove(&self) {
        if !self.proved.swap(true, Ordering::Relaxed) {
            self.bounds.state().forget(self.address, self.number);
        }
    }

    pub(super) fn is_proved(&self) -> bool {
        self.proved.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.bounds.state();
        state.open -= 1;
        state.forget(self.address, self.number);
    }
}

/// The bytes of a stream's message that has begun.
#[derive(Debug)]
pub(super) struct Held {
    place: Arc<Place>,
    bytes: usize,
}

impl Held {
    pub(super) fn new(place: Arc<Place>) -> Held {
        Held { place, bytes: 0 }
    }

    /// Notes how many they are now.
    ///
    /// # Errors
    /// All unproved peers together hold too many.
    pub(super) fn set(&mut self, bytes: usize) -> Result<(), Status> {
        let total = &self.place.bounds.bytes;
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes <= before {
            if bytes < before {
                total.fetch_sub(before - bytes, Ordering::Relaxed);
            }
            return Ok(());
        }
        if total.fetch_add(bytes - before, Ordering::Relaxed) + (bytes - before) > UNPROVED_BYTES {
            let message = "clients without a dataplane token are sending too much at once; come again";
            return Err(Status::new(Code::Unavailable, message));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.place.bounds.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// A connection whose task never ends by itself.
    fn open(bounds: &Arc<Bounds>, last: u8) -> Option<(Arc<Place>, tokio::task::JoinHandle<()>)> {
        let place = bounds.admit(address(last))?;
        let task = tokio::spawn(std::future::pending());
        place.runs(task.abort_handle());
        Some((place, task))
    }

    #[tokio::test]
    async fn the_oldest_of_the_address_that_has_the_most_goes() {
        let bounds = Bounds::new(4);
        let one = open(&bounds, 1).expect("room");
        let mut flood: Vec<_> = (0..3).map(|_| open(&bounds, 9).expect("room")).collect();
        let two = open(&bounds, 2).expect("room is made");
        let (place, task) = flood.remove(0);
        assert!(task.await.expect_err("it was closed").is_cancelled());
        drop(place);
        assert!(!one.1.is_finished() && !two.1.is_finished());
        assert!(flood.iter().all(|(_, task)| !task.is_finished()));
    }

    #[tokio::test]
    async fn who_has_proved_it_stays() {
        let bounds = Bounds::new(2);
        let proved: Vec<_> = (0..2).map(|_| open(&bounds, 1).expect("room")).collect();
        proved.iter().for_each(|(place, _)| place.prove());
        assert!(open(&bounds, 2).is_none());
        drop(proved);
        assert!(open(&bounds, 2).is_some());
        assert!(bounds.state().unproved.is_empty(), "nothing is kept of who is gone");
    }

    #[tokio::test]
    async fn what_strangers_send_has_one_bound() {
        let bounds = Bounds::new(10);
        let (one, _) = open(&bounds, 1).expect("room");
        let (two, _) = open(&bounds, 2).expect("room");
        let (mut first, mut second) = (Held::new(one), Held::new(two));
        assert!(first.set(UNPROVED_BYTES - 10).is_ok());
        assert!(second.set(20).is_err());
        drop(first);
        assert!(second.set(30).is_ok());
        drop(second);
        assert_eq!(bounds.bytes.load(Ordering::Relaxed), 0);
    }
}
