//! Learning that other control planes have written.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kuma_store::Revision;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::failure::Failure;
use crate::link::{DEADLINE, Link};

/// How often we look although nothing was announced. It is also how we learn that the server is away.
const WITH_NOTIFICATIONS: Duration = Duration::from_secs(5);

/// How often we look where notifications do not reach us.
const WITHOUT: Duration = Duration::from_millis(250);

/// How long a notification to ourselves may take.
const TEST_WITHIN: Duration = Duration::from_secs(1);

/// When it did not come in time, we try once more after this long: the server may only have been busy.
const TEST_AGAIN: Duration = Duration::from_secs(10);

/// What announces commits.
pub(crate) struct Feed {
    /// The latest commit that was announced since we looked.
    announced: AtomicU64,
    /// The latest commit that we know.
    known: AtomicU64,
    changed: Notify,
    looked: Mutex<Instant>,
    has_notifications: AtomicBool,
    test: Mutex<Option<String>>,
    test_heard: Notify,
}

impl Feed {
    pub(crate) fn new() -> Feed {
        Feed {
            announced: AtomicU64::new(0),
            known: AtomicU64::new(0),
            changed: Notify::new(),
            looked: Mutex::new(Instant::now()),
            has_notifications: AtomicBool::new(false),
            test: Mutex::default(),
            test_heard: Notify::new(),
        }
    }

    /// A notification has come.
    pub(crate) fn heard(&self, payload: &str) {
        if let Ok(revision) = payload.parse() {
            self.announced.fetch_max(revision, Ordering::Relaxed);
            self.changed.notify_one();
        } else if self.test.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(payload) {
            self.test_heard.notify_one();
        }
    }

    /// Commits are about to be read: what is announced from now on may not be among them.
    pub(crate) fn looking(&self) {
        self.announced.store(0, Ordering::Relaxed);
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The latest commit that we have read or written.
    pub(crate) fn knows(&self, revision: Revision) {
        self.known.store(revision, Ordering::Relaxed);
    }

    pub(crate) fn has_notifications(&self) -> bool {
        self.has_notifications.load(Ordering::Relaxed)
    }

    /// Ends when it is time to look.
    pub(crate) async fn changed(&self) {
        loop {
            // Our own commits are announced to us, too.
            if self.announced.load(Ordering::Relaxed) > self.known.load(Ordering::Relaxed) {
                return;
            }
            let every = if self.has_notifications() { WITH_NOTIFICATIONS } else { WITHOUT };
            let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(looked + every) => return,
            }
        }
    }

    fn look_now(&self) {
        self.announced.store(u64::MAX, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Listens on each connection that `listener` makes, for as long as it is polled, and finds out by a notification
    /// through `speaker` whether notifications pass: a pooler in transaction mode takes `LISTEN` and delivers nothing.
    pub(crate) async fn listen(&self, listener: Arc<Link>, speaker: Arc<Link>) {
        let mut has_warned = false;
        let mut connection = listener.reconnected(None).await;
        loop {
            self.has_notifications.store(false, Ordering::Relaxed);
            let listening = async {
                if !self.try_test(&listener, &speaker).await {
                    sleep(TEST_AGAIN).await;
                    if !self.try_test(&listener, &speaker).await && !has_warned {
                        has_warned = true;
                        tracing::warn!(
                            "PostgreSQL's notifications do not reach us, as through a pooler in transaction mode: what \
                             other control planes write is asked for every {} ms",
                            WITHOUT.as_millis()
                        );
                    }
                }
                std::future::pending::<()>().await;
            };
            connection = tokio::select! {
                next = listener.reconnected(Some(&connection)) => next,
                () = listening => continue,
            };
        }
    }

    async fn try_test(&self, listener: &Link, speaker: &Link) -> bool {
        let passes = self.test(listener, speaker).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "it is not known whether notifications pass");
            false
        });
        self.has_notifications.store(passes, Ordering::Relaxed);
        // What was announced while nobody listened is not announced again.
        self.look_now();
        passes
    }

    async fn test(&self, listener: &Link, speaker: &Link) -> Result<bool, Failure> {
        let token = format!("test {}", Uuid::new_v4());
        *self.test.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        // Nothing else is asked on the connection meanwhile: a pooler may pass a notification on with an answer.
        let started = Instant::now();
        let alone = listener.alone().await?;
        let listen = async { Ok(alone.client.batch_execute("LISTEN kuma").await?) };
        listener.watched(started, DEADLINE, listen).await?;
        let notify = async |client: &tokio_postgres::Client| {
            Ok(client.query_typed("SELECT pg_notify('kuma', $1)", &[(&token, Type::TEXT)]).await?)
        };
        speaker.call(DEADLINE, notify).await?;
        Ok(timeout(TEST_WITHIN, self.test_heard.notified()).await.is_ok())
    }
}
