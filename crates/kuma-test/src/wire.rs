//! A TCP connection between programs that a test can interrupt.

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards connections from its own loopback port to another one.
pub struct Wire {
    /// Its port.
    pub port: u16,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Whole,
    /// Open connections are closed, and new ones too.
    Cut,
    /// All data is lost, and connections stay open.
    Silent,
}

impl Wire {
    /// Starts one.
    pub async fn start(target: u16) -> Wire {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free loopback port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let (state, receiver) = watch::channel(State::Whole);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(forward(socket, target, receiver.clone()));
            }
        });
        Wire { port, state, task }
    }

    /// Closes all connections, and each new one, as a load balancer does when it ends.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Loses all data, and leaves the connections open.
    pub fn silence(&self) {
        self.state.send_replace(State::Silent);
    }

    /// Forwards new connections again. Connections from before are closed.
    pub fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut near: TcpStream, target: u16, mut state: watch::Receiver<State>) {
    let begun = *state.borrow_and_update();
    if begun == State::Whole
        && let Ok(mut far) = TcpStream::connect(("127.0.0.1", target)).await
    {
        tokio::select! {
            // Either end may close the connection.
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = state.changed() => hold(&mut state).await,
        }
    } else {
        hold(&mut state).await;
    }
}

/// Keeps a connection open for as long as the wire is silent.
async fn hold(state: &mut watch::Receiver<State>) {
    let _ = state.wait_for(|state| *state != State::Silent).await;
}
