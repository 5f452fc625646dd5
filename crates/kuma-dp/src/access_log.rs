//! Access logs on their way from Envoy to the collectors that the mesh names.
//!
//! Envoy makes the lines, and hands them over a unix socket as gRPC (`access_log_sink` in its bootstrap). What arrives
//! is taken at once, whatever becomes of it: Envoy never waits. Each collector has a bounded buffer and one TCP
//! connection; what does not fit into the buffer is dropped, counted, and said in the log. Nothing here may hold up
//! traffic.

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

/// How many collectors are sent to at the same time. A mesh has a handful of backends, of which a proxy uses one or
/// two; each may hold a whole buffer.
const MAX_COLLECTORS: usize = 8;
/// Pause between two words about records that are lost.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Receives access logs and sends them on, in tasks of its own that end with this value.
pub(crate) struct AccessLogs {
    collectors: Arc<Collectors>,
    receiving: JoinHandle<()>,
}

impl AccessLogs {
    /// Starts to receive on a socket that does not exist yet.
    ///
    /// # Errors
    /// The socket could not be made.
    pub(crate) fn start(socket: &Path) -> io::Result<AccessLogs> {
        let listener = UnixListener::bind(socket)?;
        // Its folder keeps others out already.
        std::fs::set_permissions(socket, Permissions::from_mode(0o600))?;
        let collectors = Arc::new(Collectors::default());
        let receiving = tokio::spawn(receiver::receive(listener, collectors.clone()));
        Ok(AccessLogs { collectors, receiving })
    }

    /// Receives no more, and waits until what is there has been sent, at most for `limit`.
    pub(crate) async fn finish(self, limit: Duration) {
        self.receiving.abort();
        let State { buffers, mut senders, unreadable, .. } = std::mem::take(&mut *self.collectors.lock());
        let untold = unreadable.total - unreadable.told.map_or(0, |(_, told)| told);
        if untold > 0 {
            tracing::warn!("access logs: {untold} more entries of Envoy could not be read, and are lost");
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

/// Where the lines of a log go. Streams of Envoy share it; when none has it any more the collector is let go.
struct Collector {
    buffer: Arc<Buffer>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.buffer.close();
    }
}

/// All collectors that are sent to.
#[derive(Default)]
struct Collectors {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_address: HashMap<String, Weak<Collector>>,
    /// Those of collectors that were let go, too, while something is left in them.
    buffers: Vec<Weak<Buffer>>,
    /// One for each buffer.
    senders: JoinSet<()>,
    unreadable: Unreadable,
}

/// Entries that no record could be made of.
#[derive(Default)]
struct Unreadable {
    total: u64,
    /// When that was said last, and how many there were.
    told: Option<(Instant, u64)>,
}

impl Collectors {
    /// The collector at an address; a sender is started for a new one. Nothing if there are too many.
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

    /// Counts entries that no record could be made of, and says so, at most once per interval.
    fn count_unreadable(&self, count: u64) {
        if count == 0 {
            return;
        }
        let unreadable = &mut self.lock().unreadable;
        unreadable.total += count;
        if unreadable.told.is_none_or(|(last, _)| last.elapsed() >= COMPLAINT_INTERVAL) {
            let new = unreadable.total - unreadable.told.map_or(0, |(_, told)| told);
            tracing::warn!("access logs: {new} entries of Envoy could not be read, and are lost");
            unreadable.told = Some((Instant::now(), unreadable.total));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
