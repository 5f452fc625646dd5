//! Applications behind proxies.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A TCP server on loopback that sends a greeting first, as a mail or database server does, and then echoes.
pub struct Greeter {
    /// Its port.
    pub port: u16,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// The greeting of a [`Greeter`].
pub const GREETING: &[u8] = b"220 ready\n";

impl Greeter {
    /// Starts one.
    pub async fn start() -> Greeter {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free loopback port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = accepted.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    if stream.write_all(GREETING).await.is_err() {
                        return;
                    }
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        Greeter { port, accepted, task }
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection to a [`Greeter`], directly or through proxies.
pub struct Client {
    stream: tokio::net::TcpStream,
}

impl Client {
    /// Connects to a loopback port and reads the greeting; `None` if the connection is refused, or ends before a whole
    /// greeting.
    pub async fn connect(port: u16) -> Option<Client> {
        Client::connect_to((Ipv4Addr::LOCALHOST, port).into()).await.ok()
    }

    /// The same for any address.
    ///
    /// # Errors
    /// What went wrong, and after which step.
    pub async fn connect_to(address: SocketAddr) -> Result<Client, String> {
        let attempt = async {
            let stream = tokio::net::TcpStream::connect(address).await;
            let mut stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
            let mut greeting = [0; GREETING.len()];
            let read = stream.read_exact(&mut greeting).await;
            read.map_err(|error| format!("no whole greeting: {error}"))?;
            if greeting == GREETING { Ok(Client { stream }) } else { Err("another greeting".to_owned()) }
        };
        let attempt = tokio::time::timeout(std::time::Duration::from_secs(5), attempt).await;
        attempt.unwrap_or_else(|_| Err("no answer within 5 s".to_owned()))
    }

    /// Whether a message comes back.
    pub async fn echoes(&mut self) -> bool {
        let attempt = async {
            self.stream.write_all(b"ping\n").await.ok()?;
            let mut answer = [0; 5];
            self.stream.read_exact(&mut answer).await.ok()?;
            (&answer == b"ping\n").then_some(())
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), attempt).await.ok().flatten().is_some()
    }
}

/// Every byte that a connection to a port yields before it ends, or within two seconds.
pub async fn bytes_from(port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
        let read = stream.read_to_end(&mut bytes);
        // What was read before an error or the limit is kept in `bytes`.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), read).await;
    }
    bytes
}
