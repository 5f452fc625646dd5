//! Instances of a service that die and come back without a report: Dataplanes whose inbound address is the
//! application's own, without a proxy. So only health checks of clients can detect their state.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kuma_test::apps::GREETING;
use kuma_test::ports::free_port;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One instance.
pub(crate) struct Instance {
    pub(crate) port: u16,
    accepted: Arc<AtomicUsize>,
    served: Arc<AtomicUsize>,
    task: Option<JoinHandle<()>>,
}

impl Instance {
    /// Starts one.
    pub(crate) async fn start() -> Instance {
        let mut instance = Instance { port: free_port(), accepted: Arc::default(), served: Arc::default(), task: None };
        instance.come_back().await;
        instance
    }

    /// Its Dataplane.
    pub(crate) fn document(&self, mesh: &str, name: &str, tags: &Value) -> Value {
        json!({
            "type": "Dataplane", "mesh": mesh, "name": name,
            // No proxy runs, so the application's port is not used; it only has to differ from the inbound's.
            "networking": {"inbound": [{"interface": format!("127.0.0.1:{}:1", self.port), "tags": tags}]},
        })
    }

    /// Refuses new connections and closes the open ones.
    pub(crate) async fn die(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // The listener is closed when the task has ended.
            let _ = task.await;
        }
    }

    /// Accepts connections again.
    pub(crate) async fn come_back(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("the port is free");
        let (accepted, served) = (self.accepted.clone(), self.served.clone());
        self.task = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                let served = served.clone();
                connections.spawn(async move {
                    if stream.write_all(GREETING).await.is_err() {
                        return;
                    }
                    let (mut read, mut write) = stream.split();
                    // A health check sends no data; a client of the tests does.
                    let copied = tokio::io::copy(&mut read, &mut write).await;
                    if copied.is_ok_and(|bytes| bytes > 0) {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }));
    }

    /// How many connections it has accepted, checks included.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many connections have sent data and ended.
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
