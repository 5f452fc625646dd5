//! What peers may cost that have proved nothing: connections, and bytes of messages that have begun.
//!
//! Where a mesh has no mTLS its proxies prove nothing either, so there is no limit of strangers alone. A connection
//! *waits* until its stream is sent something (it is *served*) or shows a token (it is *proved*). Some places are kept
//! for those that wait, so that whoever has a token can show it. When there is no other room,
//!
//! - a newcomer gets the place of one that waits: the oldest from the address that has the most of them, if it has more
//!   than the newcomer's address would have; else the oldest, once it has waited for [`PATIENCE`];
//! - one that is to be served gets the place of one that is, by the first of these rules only;
//! - one that is proved gets the place of any that is served without a proof.
//!
//! So a flood from few addresses ends itself, and proxies beyond the limit do not take the places of those that are
//! served: each of these would come back and take the place of another.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use crate::grpc::{Code, Status};

/// Bytes of messages that have begun and not ended, of all unproved peers together.
const UNPROVED_BYTES: usize = 32 << 20;

/// How long a connection that waits keeps its place when others need it. A TLS handshake and the first request take
/// milliseconds, and seconds when thousands come at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many places are left to those that wait: this part of all, and at most so many.
const WAITING_PART: usize = 16;
const MOST_WAITING: usize = 1024;

/// The bounds of one server, or of several that share them.
#[derive(Debug)]
pub struct Bounds {
    connections: usize,
    patience: Duration,
    state: Mutex<State>,
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// All connections, including those that were closed and have not ended yet.
    open: usize,
    proved: usize,
    last_number: u64,
    waiting: Pool,
    served: Pool,
}

/// Connections that have proved nothing, by [`network`] and in the order in which they came.
#[derive(Debug, Default)]
struct Pool {
    count: usize,
    networks: HashMap<IpAddr, BTreeMap<u64, Connection>>,
}

#[derive(Debug)]
struct Connection {
    since: Instant,
    /// `None` until it runs.
    task: Option<AbortHandle>,
    /// Whether it could not be served. Its place is free for anybody.
    refused: bool,
}

/// The address, as far as one machine cannot choose it: an IPv6 host has all of its /64 (RFC 4291, 2.5.4).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

impl Bounds {
    /// For at most so many connections at a time.
    pub fn new(connections: usize) -> Arc<Bounds> {
        Bounds::with_patience(connections, PATIENCE)
    }

    fn with_patience(connections: usize, patience: Duration) -> Arc<Bounds> {
        Arc::new(Bounds { connections, patience, state: Mutex::default(), bytes: AtomicUsize::new(0) })
    }

    /// Room for one more connection. `None` if there is none, and no other connection has to make room for it.
    pub(super) fn admit(self: &Arc<Bounds>, address: IpAddr) -> Option<Arc<Place>> {
        let network = network(address);
        let mut state = self.state();
        if state.open >= self.connections && !state.waiting.close_for_newcomer(network, self.patience) {
            return None;
        }
        state.open += 1;
        state.last_number += 1;
        let number = state.last_number;
        state.waiting.insert(network, number, Connection { since: Instant::now(), task: None, refused: false });
        Some(Arc::new(Place { bounds: self.clone(), network, number, standing: Mutex::new(Standing::Waits) }))
    }

    /// How many may be served or proved while some of them have no proof.
    fn settled(&self) -> usize {
        self.connections - (self.connections / WAITING_PART).clamp(1, MOST_WAITING).min(self.connections)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    fn insert(&mut self, network: IpAddr, number: u64, connection: Connection) {
        self.networks.entry(network).or_default().insert(number, connection);
        self.count += 1;
    }

    fn remove(&mut self, network: IpAddr, number: u64) -> Option<Connection> {
        let connections = self.networks.get_mut(&network)?;
        let removed = connections.remove(&number)?;
        if connections.is_empty() {
            self.networks.remove(&network);
        }
        self.count -= 1;
        Some(removed)
    }

    fn get_mut(&mut self, network: IpAddr, number: u64) -> Option<&mut Connection> {
        self.networks.get_mut(&network)?.get_mut(&number)
    }

    /// Closes a connection for one of this network that has no place yet. It frees its place when it is dropped, which
    /// is soon.
    fn close_for_newcomer(&mut self, newcomer: IpAddr, patience: Duration) -> bool {
        let found = self.refused().or_else(|| self.fairly(newcomer)).or_else(|| self.oldest(patience));
        self.close(found)
    }

    fn close(&mut self, found: Option<(IpAddr, u64)>) -> bool {
        let Some((network, number)) = found else { return false };
        let task = self.remove(network, number).and_then(|connection| connection.task);
        task.inspect(AbortHandle::abort).is_some()
    }

    fn refused(&self) -> Option<(IpAddr, u64)> {
        self.first_of_each(|one| one.refused).min_by_key(|(_, number)| *number)
    }

    /// The oldest from the network that has the most of them, unless that would have no more than the newcomer's.
    fn fairly(&self, newcomer: IpAddr) -> Option<(IpAddr, u64)> {
        let own = self.networks.get(&newcomer).map_or(0, BTreeMap::len);
        self.of_the_most(own + 2)
    }

    /// The oldest from the network that has the most of them, which has to be so many.
    fn of_the_most(&self, at_least: usize) -> Option<(IpAddr, u64)> {
        let (network, connections) = self.networks.iter().max_by_key(|(_, connections)| connections.len())?;
        // One that does not run yet is the youngest of all.
        let (number, _) = connections.iter().find(|(_, one)| one.task.is_some())?;
        (connections.len() >= at_least).then_some((*network, *number))
    }

    fn oldest(&self, patience: Duration) -> Option<(IpAddr, u64)> {
        self.first_of_each(|one| one.since.elapsed() >= patience).min_by_key(|(_, number)| *number)
    }

    /// The oldest of each network, if it is one of these.
    fn first_of_each(&self, is_one: impl Fn(&Connection) -> bool) -> impl Iterator<Item = (IpAddr, u64)> {
        self.networks.iter().filter_map(move |(network, connections)| {
            let (number, one) = connections.first_key_value()?;
            (one.task.is_some() && is_one(one)).then_some((*network, *number))
        })
    }
}

/// What a connection has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Waits,
    IsServed,
    IsProved,
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Place {
    bounds: Arc<Bounds>,
    network: IpAddr,
    number: u64,
    standing: Mutex<Standing>,
}

impl Place {
    /// What runs the connection, and is ended if another one needs its place more.
    pub(super) fn runs(&self, task: AbortHandle) {
        let mut state = self.bounds.state();
        let State { waiting, served, .. } = &mut *state;
        for pool in [waiting, served] {
            if let Some(connection) = pool.get_mut(self.network, self.number) {
                connection.task = Some(task.clone());
            }
        }
    }

    /// A token has shown who it is: it keeps its place.
    pub(super) fn prove(&self) {
        let mut standing = self.standing();
        if *standing == Standing::IsProved {
            return;
        }
        let mut state = self.bounds.state();
        let State { waiting, served, proved, .. } = &mut *state;
        waiting.remove(self.network, self.number);
        served.remove(self.network, self.number);
        *proved += 1;
        *standing = Standing::IsProved;
        if *proved + served.count > self.bounds.settled() {
            let found = served.of_the_most(1);
            served.close(found);
        }
    }

    /// It is sent something from now on.
    ///
    /// # Errors
    /// There is no room for it.
    pub(super) fn serve(&self) -> Result<(), Status> {
        let mut standing = self.standing();
        if *standing != Standing::Waits {
            return Ok(());
        }
        let mut state = self.bounds.state();
        let State { waiting, served, proved, .. } = &mut *state;
        // One that was closed ends soon, and needs no place.
        let Some(connection) = waiting.remove(self.network, self.number) else { return Ok(()) };
        if *proved + served.count >= self.bounds.settled() {
            let found = served.fairly(self.network);
            if !served.close(found) {
                waiting.insert(self.network, self.number, Connection { refused: true, ..connection });
                let message = "there is no room for another proxy without a dataplane token";
                return Err(Status::new(Code::Unavailable, message));
            }
        }
        served.insert(self.network, self.number, connection);
        *standing = Standing::IsServed;
        Ok(())
    }

    pub(super) fn is_proved(&self) -> bool {
        *self.standing() == Standing::IsProved
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let is_proved = self.is_proved();
        let mut state = self.bounds.state();
        state.open -= 1;
        state.proved -= usize::from(is_proved);
        state.waiting.remove(self.network, self.number);
        state.served.remove(self.network, self.number);
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

    /// See [`Place::serve`].
    pub(super) fn serve(&self) -> Result<(), Status> {
        self.place.serve()
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
    use std::sync::Weak;

    use super::*;

    const NOT_YET: Duration = Duration::from_secs(3600);

    /// A connection whose task never ends by itself.
    struct Opened {
        place: Weak<Place>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Opened {
        fn place(&self) -> Arc<Place> {
            self.place.upgrade().expect("it is open")
        }
    }

    impl Drop for Opened {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn open(bounds: &Arc<Bounds>, address: IpAddr) -> Option<Opened> {
        let place = bounds.admit(address)?;
        let held = place.clone();
        let task = tokio::spawn(async move {
            let _held = held;
            std::future::pending().await
        });
        place.runs(task.abort_handle());
        Some(Opened { place: Arc::downgrade(&place), task })
    }

    /// How many were closed.
    async fn closed(connections: &[Opened]) -> usize {
        tokio::task::yield_now().await;
        connections.iter().filter(|one| one.task.is_finished()).count()
    }

    #[tokio::test]
    async fn the_oldest_of_the_address_that_has_the_most_goes() {
        let bounds = Bounds::with_patience(4, NOT_YET);
        let one = open(&bounds, address(1)).expect("room");
        let mut flood: Vec<_> = (0..3).map(|_| open(&bounds, address(9)).expect("room")).collect();
        let two = open(&bounds, address(2)).expect("room is made");
        assert_eq!(closed(&[flood.remove(0)]).await, 1);
        assert_eq!(closed(&[one, two]).await + closed(&flood).await, 0);
    }

    #[tokio::test]
    async fn an_ipv6_network_is_one_address_and_an_ipv4_address_is_itself() {
        let bounds = Bounds::with_patience(4, NOT_YET);
        let ip = |text: &str| text.parse().expect("an address");
        let flood: Vec<_> = (0..4).map(|host| open(&bounds, ip(&format!("2001:db8::{host}"))).expect("room")).collect();
        assert!(open(&bounds, ip("2001:db8::5")).is_none());
        let _another = open(&bounds, ip("2001:db8:0:1::1")).expect("room is made");
        let _mapped = open(&bounds, ip("::ffff:192.0.2.1")).expect("room is made");
        assert!(bounds.state().waiting.networks.contains_key(&address(1)));
        assert_eq!(closed(&flood).await, 2);
    }

    /// Proxies beyond the limit come again whenever they are refused, and without effect on those that are served.
    #[tokio::test]
    async fn who_is_served_stays_when_more_come_than_there_is_room_for() {
        let bounds = Bounds::with_patience(4, Duration::ZERO);
        let served: Vec<_> = (0..3).map(|_| open(&bounds, address(1)).expect("room")).collect();
        assert!(served.iter().all(|one| one.place().serve().is_ok()));
        for _ in 0..20 {
            let newcomer = open(&bounds, address(1)).expect("a place to wait");
            assert_eq!(newcomer.place().serve().expect_err("no room").code, Code::Unavailable);
        }
        assert_eq!(closed(&served).await, 0);
        // Another address gets its share, and no more.
        let other = open(&bounds, address(2)).expect("a place to wait");
        assert!(other.place().serve().is_ok());
        assert_eq!(closed(&served).await, 1);
        let another = open(&bounds, address(2)).expect("a place to wait");
        assert!(another.place().serve().is_err());
        assert_eq!(closed(&served).await, 1);
    }

    #[tokio::test]
    async fn who_waits_makes_room_after_a_while_and_who_was_refused_at_once() {
        let bounds = Bounds::with_patience(2, NOT_YET);
        let first = open(&bounds, address(1)).expect("room");
        let second = open(&bounds, address(1)).expect("room");
        assert!(first.place().serve().is_ok());
        assert!(open(&bounds, address(1)).is_none(), "it may be about to ask");
        assert!(second.place().serve().is_err());
        let third = open(&bounds, address(1)).expect("room is made");
        assert_eq!(closed(&[second]).await, 1);
        assert!(third.place().serve().is_err());

        let bounds = Bounds::with_patience(2, Duration::ZERO);
        let waiting: Vec<_> = (0..2).map(|_| open(&bounds, address(1)).expect("room")).collect();
        assert!(open(&bounds, address(1)).is_some());
        assert_eq!(closed(&waiting).await, 1);
    }

    #[tokio::test]
    async fn who_has_proved_it_gets_a_place_and_keeps_it() {
        let bounds = Bounds::with_patience(4, Duration::ZERO);
        let served: Vec<_> = (0..3).map(|_| open(&bounds, address(1)).expect("room")).collect();
        assert!(served.iter().all(|one| one.place().serve().is_ok()));
        let mut proved = Vec::new();
        while proved.len() < 4 {
            let newcomer = open(&bounds, address(1)).expect("a place to wait");
            newcomer.place().prove();
            proved.push(newcomer);
            assert_eq!(closed(&served).await, proved.len().min(3));
        }
        assert!(open(&bounds, address(2)).is_none(), "all have proved who they are");
        assert_eq!(closed(&proved).await, 0);
    }

    #[tokio::test]
    async fn nothing_is_kept_of_who_is_gone() {
        let bounds = Bounds::new(8);
        let all: Vec<_> = (1..=3).map(|last| open(&bounds, address(last)).expect("room")).collect();
        assert!(all[0].place().serve().is_ok());
        all[1].place().prove();
        drop(all);
        tokio::task::yield_now().await;
        let state = bounds.state();
        assert_eq!((state.open, state.proved, state.waiting.count, state.served.count), (0, 0, 0, 0));
        assert!(state.waiting.networks.is_empty() && state.served.networks.is_empty());
    }

    #[tokio::test]
    async fn what_strangers_send_has_one_bound() {
        let bounds = Bounds::new(10);
        let all: Vec<_> = (1..=2).map(|last| open(&bounds, address(last)).expect("room")).collect();
        let (mut first, mut second) = (Held::new(all[0].place()), Held::new(all[1].place()));
        assert!(first.set(UNPROVED_BYTES - 10).is_ok());
        assert!(second.set(20).is_err());
        drop(first);
        assert!(second.set(30).is_ok());
        drop(second);
        assert_eq!(bounds.bytes.load(Ordering::Relaxed), 0);
    }
}
