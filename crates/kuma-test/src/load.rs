//! A steady load of requests, to see whether a change makes any of them fail.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::apps::Client;

/// Requests per second of [`Load::start`]: enough to see a fault that lasts a few milliseconds.
const USUAL: u32 = 300;

/// Number of senders. Each sends one request at a time, so the rate falls when requests take longer than this number
/// divided by the rate: at 1,000 a second, 48 ms.
const SENDERS: u32 = 48;

/// Sends requests to a [`Greeter`](crate::apps::Greeter) through a loopback port until it is ended.
///
/// A request is either a new connection, with a greeting and an echo, or an echo over a connection that stays open.
/// Requests are sent at a steady rate; if the machine is too slow for that, without pauses.
pub struct Load {
    state: Arc<State>,
    begun: Instant,
    senders: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    ended: AtomicBool,
    done: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Sends some hundred requests a second, each over a new connection.
    pub fn start(port: u16) -> Load {
        Load::start_with(port, USUAL, 0)
    }

    /// Opens `opened` connections a second, and sends `kept` requests a second over connections that stay open.
    pub fn start_with(port: u16, opened: u32, kept: u32) -> Load {
        let (state, begun) = (Arc::new(State::default()), Instant::now());
        let mut senders = Vec::new();
        for number in 0..SENDERS {
            let pace = |rate: u32| Pace {
                period: Duration::from_secs(1) * SENDERS / rate,
                // The senders start one after the other.
                next: begun + Duration::from_secs(1) * number / rate,
            };
            if opened > 0 {
                senders.push(tokio::spawn(send_opened(state.clone(), port, pace(opened))));
            }
            if kept > 0 {
                senders.push(tokio::spawn(send_kept(state.clone(), port, pace(kept))));
            }
        }
        Load { state, begun, senders }
    }

    /// How many requests have been answered so far.
    pub fn done(&self) -> usize {
        self.state.done.load(Ordering::Relaxed)
    }

    /// Answered requests per second so far.
    pub fn rate(&self) -> f64 {
        self.done() as f64 / self.begun.elapsed().as_secs_f64()
    }

    /// Ends it, and returns how many requests were answered.
    ///
    /// # Panics
    /// If a request has failed, with the reason.
    pub async fn end(self) -> usize {
        let (done, failures) = self.end_with_failures().await;
        let first: Vec<&String> = failures.iter().take(5).collect();
        assert!(failures.is_empty(), "{} of {} requests failed: {first:?}", failures.len(), failures.len() + done);
        done
    }

    /// Ends it, and returns how many requests were answered, and why the others failed.
    pub async fn end_with_failures(self) -> (usize, Vec<String>) {
        self.state.ended.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.expect("a sender of requests does not panic");
        }
        let failures = self.state.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.state.done.load(Ordering::Relaxed), failures)
    }
}

/// The schedule of one sender.
struct Pace {
    period: Duration,
    next: Instant,
}

impl Pace {
    async fn wait(&mut self) {
        // Lost time is not caught up on, which would be a burst.
        let due = self.next.max(Instant::now());
        tokio::time::sleep_until(due.into()).await;
        self.next = due + self.period;
    }
}

impl State {
    fn note(&self, begun: Instant, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => drop(self.done.fetch_add(1, Ordering::Relaxed)),
            Err(reason) => {
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.push(format!("{reason}, {:?} after it began", begun.elapsed()));
            }
        }
    }
}

async fn send_opened(state: Arc<State>, port: u16, mut pace: Pace) {
    while !state.ended.load(Ordering::Relaxed) {
        pace.wait().await;
        let begun = Instant::now();
        let outcome = match connect(port).await {
            Ok(mut client) => echo(&mut client).await,
            Err(reason) => Err(reason),
        };
        state.note(begun, outcome);
    }
}

async fn send_kept(state: Arc<State>, port: u16, mut pace: Pace) {
    let mut client = None;
    while !state.ended.load(Ordering::Relaxed) {
        pace.wait().await;
        let begun = Instant::now();
        let outcome = match &mut client {
            Some(client) => echo(client).await,
            // A new connection, with its greeting, counts as a request too.
            None => connect(port).await.map(|connected| client = Some(connected)),
        };
        if outcome.is_err() {
            client = None;
        }
        state.note(begun, outcome);
    }
}

async fn connect(port: u16) -> Result<Client, String> {
    Client::connect_to(([127, 0, 0, 1], port).into()).await
}

async fn echo(client: &mut Client) -> Result<(), String> {
    client.echoes().await.then_some(()).ok_or_else(|| "greeted, but no echo".to_owned())
}
