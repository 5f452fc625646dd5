//! Access logs on their way from Envoy to the collectors that the mesh names.
//!
//! Envoy formats the lines and sends them by gRPC over a unix socket (`access_log_sink` in its bootstrap). They are
//! read at once, even if they cannot be sent on, so that Envoy never waits. Each collector has a bounded buffer and one
//! TCP connection; records that do not fit into the buffer are dropped, counted, and reported in the log. Access logs
//! must never delay traffic.

mod buffer;
mod messages;
mod receiver;
mod record;
mod sender;

use std::collections::HashMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::net::UnixListener;
use tokio::task::{JoinHandle, JoinSet};

use self::buffer::Buffer;

/// How many collectors there may be at the same time. A mesh has a handful of backends, of which a proxy uses one or
/// two; each takes up to a whole buffer of memory.
const MAX_COLLECTORS: usize = 8;
/// Shortest time between two warnings about lost records.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Receives access logs and sends them on, in tasks of its own that end with this value.
pub(crate) struct AccessLogs {
    collectors: Arc<Collectors>,
    receiving: JoinHandle<()>,
}

impl AccessLogs {
    /// Creates the socket and starts to receive on it.
    ///
    /// # Errors
    /// The socket could not be created.
    pub(crate) fn start(socket: &Path) -> io::Result<AccessLogs> {
        let listener = UnixListener::bind(socket)?;
        // A second measure: other users cannot enter the folder either.
        std::fs::set_permissions(socket, Permissions::from_mode(0o600))?;
        let collectors = Arc::new(Collectors::default());
        let receiving = tokio::spawn(receiver::receive(listener, collectors.clone()));
        Ok(AccessLogs { collectors, receiving })
    }

    /// Stops receiving, and waits until the buffered records have been sent, at most for `limit`.
    pub(crate) async fn finish(self, limit: Duration) {
        self.receiving.abort();
        let State { buffers, mut senders, unreadable, .. } = std::mem::take(&mut *self.collectors.lock());
        let unreported = unreadable.total - unreadable.warned.map_or(0, |(_, warned)| warned);
        if unreported > 0 {
            tracing::warn!("access logs: {unreported} more entries of Envoy could not be read, and are lost");
        }
        for buffer in buffers.iter().filter_map(Weak::upgrade) {
            buffer.close();
        }
        let sent = async { while senders.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, sent).await.is_err() {
            let left: usize = buffers.iter().filter_map(Weak::upgrade).map(|buffer| buffer.len()).sum();
            tracing::warn!("access logs: {left} records could not be sent before the end, and are lost");
        }
    }
}

impl Drop for AccessLogs {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

/// The collector of a log. Several of Envoy's streams may share it; it ends with the last of them.
struct Collector {
    buffer: Arc<Buffer>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.buffer.close();
    }
}

/// All collectors in use.
#[derive(Default)]
struct Collectors {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_address: HashMap<String, Weak<Collector>>,
    /// The buffers of all collectors, also of those that have ended but still have records to send.
    buffers: Vec<Weak<Buffer>>,
    /// One for each buffer.
    senders: JoinSet<()>,
    unreadable: Unreadable,
}

/// Counts entries that could not be read.
#[derive(Default)]
struct Unreadable {
    total: u64,
    /// Time of the last warning, and the count at that time.
    warned: Option<(Instant, u64)>,
}

impl Collectors {
    /// The collector at an address; a sender is started for a new one. `None` if there are too many.
    fn get(&self, address: &str) -> Option<Arc<Collector>> {
        let mut state = self.lock();
        if let Some(collector) = state.by_address.get(address).and_then(Weak::upgrade) {
            return Some(collector);
        }
        while state.senders.try_join_next().is_some() {}
        if state.senders.len() >= MAX_COLLECTORS {
            return None;
        }
        state.by_address.retain(|_, collector| collector.strong_count() > 0);
        state.buffers.retain(|buffer| buffer.strong_count() > 0);
        let collector = Arc::new(Collector { buffer: Arc::default() });
        state.by_address.insert(address.to_owned(), Arc::downgrade(&collector));
        state.buffers.push(Arc::downgrade(&collector.buffer));
        state.senders.spawn(sender::send(address.to_owned(), collector.buffer.clone()));
        Some(collector)
    }

    /// Counts entries that could not be read, and warns of them, at most once per interval.
    fn count_unreadable(&self, count: u64) {
        if count == 0 {
            return;
        }
        let unreadable = &mut self.lock().unreadable;
        unreadable.total += count;
        if unreadable.warned.is_none_or(|(last, _)| last.elapsed() >= WARNING_INTERVAL) {
            let new = unreadable.total - unreadable.warned.map_or(0, |(_, warned)| warned);
            tracing::warn!("access logs: {new} entries of Envoy could not be read, and are lost");
            unreadable.warned = Some((Instant::now(), unreadable.total));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
