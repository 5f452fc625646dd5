//! A steady load of HTTP requests over open connections, to see whether a change makes any of them fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kuma_test::HttpClient;
use tokio::task::JoinHandle;

/// Sends requests over two connections until it is ended.
pub(crate) struct HttpLoad {
    ended: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    senders: Vec<JoinHandle<Result<(), String>>>,
}

impl HttpLoad {
    /// Starts to send to a loopback port.
    pub(crate) fn start(port: u16) -> HttpLoad {
        let (ended, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let senders = (0..2).map(|_| tokio::spawn(send(port, ended.clone(), done.clone()))).collect();
        HttpLoad { ended, done, senders }
    }

    /// Ends it, and returns how many requests were answered.
    ///
    /// # Panics
    /// If one of them failed or did not get status 200.
    pub(crate) async fn end(self) -> usize {
        self.ended.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.expect("a sender does not panic").expect("every request is answered");
        }
        self.done.load(Ordering::Relaxed)
    }
}

async fn send(port: u16, ended: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> Result<(), String> {
    let mut client = HttpClient::connect(port).await.ok_or("no connection")?;
    while !ended.load(Ordering::Relaxed) {
        let answer = client.get("/").await?;
        if answer.status != 200 {
            return Err(format!("status {} after {} requests", answer.status, done.load(Ordering::Relaxed)));
        }
        done.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
