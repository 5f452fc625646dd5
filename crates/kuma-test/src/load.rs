//! Requests that never pause, to see whether a change costs any of them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::apps::Client;

/// How many requests are under way at a time.
const PARALLEL: usize = 2;

/// Pause between two requests of one sender: connections in `TIME_WAIT` would use up the ports of the machine.
const PAUSE: Duration = Duration::from_millis(2);

/// Sends requests to a [`Greeter`](crate::apps::Greeter) through a loopback port until it is ended. Each is a connection of
/// its own, which is greeted and echoed to.
pub struct Load {
    state: Arc<State>,
    senders: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    ended: AtomicBool,
    done: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Starts to send.
    pub fn start(port: u16) -> Load {
        let state = Arc::new(State::default());
        let senders = (0..PARALLEL).map(|_| tokio::spawn(send(state.clone(), port))).collect();
        Load { state, senders }
    }

    /// How many requests have been answered so far.
    pub fn done(&self) -> usize {
        self.state.done.load(Ordering::Relaxed)
    }

    /// Ends it, and returns how many requests were answered.
    ///
    /// # Panics
    /// If one was not, saying how.
    pub async fn end(self) -> usize {
        self.state.ended.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.expect("a sender of requests does not panic");
        }
        let failures = self.state.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.state.done.load(Ordering::Relaxed);
        let first: Vec<&String> = failures.iter().take(5).collect();
        assert!(failures.is_empty(), "{} of {} requests failed: {first:?}", failures.len(), failures.len() + done);
        done
    }
}

async fn send(state: Arc<State>, port: u16) {
    let begun = Instant::now();
    while !state.ended.load(Ordering::Relaxed) {
        let outcome = match Client::connect_to(([127, 0, 0, 1], port).into()).await {
            Ok(mut client) => client.echoes().await.then_some(()).ok_or_else(|| "greeted, but no echo".to_owned()),
            Err(reason) => Err(reason),
        };
        match outcome {
            Ok(()) => drop(state.done.fetch_add(1, Ordering::Relaxed)),
            Err(reason) => {
                let mut failures = state.failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.push(format!("after {:?}: {reason}", begun.elapsed()));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
