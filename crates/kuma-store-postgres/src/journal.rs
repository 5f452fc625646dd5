//! The journal: three connections, and what is asked on which.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use kuma_model::Key;
use kuma_store::{
    Appended, Commit, HistoryPage, HistoryQuery, InsightRow, Journal, Keep, Loaded, Moment, Peer, Position, Revision,
    Since, StoreError, StoreFuture, Stored,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::append::Batch;
use crate::clock::Clock;
use crate::config::{PostgresConfig, TlsMode};
use crate::failure::Failure;
use crate::feed::Feed;
use crate::link::{Alone, DEADLINE, Health, Link, OnNotification, statement_limit, transaction};
use crate::read;
use crate::schema::prepare;

/// The advisory lock that whoever appends holds until the end of its transaction.
const APPENDING: i64 = 5_681_002;

/// Reading all documents may take this long.
const LOAD_DEADLINE: Duration = Duration::from_secs(60);

/// Once overtaken, this many of the next commits are computed while the lock is held, so that nobody can be faster
/// again and again.
const LOCKED_AFTER_DEFEAT: u32 = 8;

/// How long a transaction of ours may keep the lock without saying anything: if we are stopped, others go on.
const IDLE: &str = "2s";

/// A writer waits a second more for each so many documents.
const DOCUMENTS_A_SECOND: usize = 5000;

/// Commits in a PostgreSQL database that any number of control planes use. It has to be made in a runtime of tokio.
pub struct PostgresJournal {
    pub(crate) links: Links,
    feed: Arc<Feed>,
    clock: Clock,
    store: Mutex<Uuid>,
    /// How many of the next commits are to be computed while the lock is held.
    defeats: AtomicU32,
    /// The lock, from reading what others have written until we have appended.
    turn: tokio::sync::Mutex<Option<Alone>>,
    /// Identifies this journal among those that use the database.
    pub(crate) id: String,
    listening: Option<JoinHandle<()>>,
}

/// The connections; several of them may be one.
pub(crate) struct Links {
    /// Listens, and reads commits.
    feed: Arc<Link>,
    /// Appends.
    writer: Arc<Link>,
    /// Everything else.
    pub(crate) reader: Arc<Link>,
}

impl PostgresJournal {
    /// Connects, and makes the tables if they are missing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the server cannot be reached. [`StoreError::Unusable`]: the database is not fit for
    /// it, or we may not use it; the message says what to do.
    pub async fn connect(config: PostgresConfig) -> Result<PostgresJournal, StoreError> {
        let (_, store) = prepare(&config).await?;
        if config.tls.mode == TlsMode::Disable {
            for place in config.places().iter().filter(|place| !place.is_local()) {
                tracing::warn!(%place, "the link to PostgreSQL is not encrypted: set store.postgres.tls");
            }
        }
        let config = Arc::new(config);
        let health = Arc::new(Health::new());
        let feed = Arc::new(Feed::new());
        let announced = feed.clone();
        let hears: OnNotification = Arc::new(move |payload| announced.heard(payload));
        let link = |heard| Arc::new(Link::start(config.clone(), health.clone(), heard));
        let deaf = || link(Arc::new(|_: &str| {}));
        let writer = deaf();
        let links = match config.max_open_connections {
            1 => Links { feed: writer.clone(), reader: writer.clone(), writer },
            2 => Links { feed: link(hears), reader: writer.clone(), writer },
            _ => Links { feed: link(hears), reader: deaf(), writer },
        };
        // On one connection alone a pooler might deliver to us what we tell ourselves, and nothing else.
        let listening = (config.max_open_connections != 1).then(|| {
            let (feed, listener, speaker) = (feed.clone(), links.feed.clone(), links.writer.clone());
            tokio::spawn(async move { feed.listen(listener, speaker).await })
        });
        Ok(PostgresJournal {
            links,
            feed,
            clock: Clock::default(),
            store: Mutex::new(store),
            defeats: AtomicU32::new(0),
            turn: tokio::sync::Mutex::default(),
            id: Uuid::new_v4().to_string(),
            listening,
        })
    }

    /// Whether commits of others are announced to us; otherwise we ask for them, several times a second.
    pub fn has_notifications(&self) -> bool {
        self.feed.has_notifications()
    }

    fn store(&self) -> Uuid {
        *self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets others append, if they could not.
    async fn end_turn(&self) {
        if let Some(turn) = self.turn.lock().await.take() {
            // If the answer is not waited for, the connection still sends it before anything else.
            let rollback = async { Ok(turn.client.batch_execute("ROLLBACK").await?) };
            let _ = self.links.writer.watched(Instant::now(), DEADLINE, rollback).await;
        }
    }

    /// The commits after `base`. Nobody appends until we have appended or ended our turn.
    async fn since_in_turn(&self, base: Position) -> Result<(Since, read::Facts), Failure> {
        let started = Instant::now();
        let turn = self.links.writer.alone().await?;
        let begin = begin_append(statement_limit(DEADLINE));
        let reading = async {
            turn.client.batch_execute(&begin).await?;
            read::since(&turn.client, &self.clock, None, self.store(), base).await
        };
        let answer = self.links.writer.watched(started, DEADLINE, reading).await;
        let keep = matches!(answer, Ok((Since::Commits(_), _)));
        *self.turn.lock().await = Some(turn);
        if !keep {
            self.end_turn().await;
        }
        answer
    }

    async fn read_since(&self, base: Position) -> Result<(Since, read::Facts), Failure> {
        let begin = begin_read(statement_limit(DEADLINE));
        let work = async |client: &tokio_postgres::Client| {
            read::since(client, &self.clock, Some(&begin), self.store(), base).await
        };
        self.links.feed.call(DEADLINE, work).await
    }

    async fn append_all(&self, base: Position, commits: &[Arc<Commit>]) -> Result<Appended, Failure> {
        let batch = Batch::new(commits);
        let more = u64::try_from(batch.len() / DOCUMENTS_A_SECOND).unwrap_or(u64::MAX);
        let deadline = DEADLINE + Duration::from_secs(more);
        let give_up = Instant::now() + deadline;
        let begin = begin_append(statement_limit(deadline));
        let mut turn = self.turn.lock().await.take();
        // The connection broke before the answer to an earlier attempt came.
        let mut is_uncertain = false;
        loop {
            let started = Instant::now();
            let answer = match turn.take() {
                Some(turn) => {
                    let begin = limits(statement_limit(deadline));
                    let work = transaction(&turn.client, &begin, batch.write(&turn.client, base));
                    self.links.writer.watched(started, deadline, work).await
                }
                None => {
                    let work = async |client: &tokio_postgres::Client| {
                        transaction(client, &begin, batch.write(client, base)).await
                    };
                    self.links.writer.call(deadline, work).await
                }
            };
            let answer = match answer {
                Err(failure) if failure.has_code(&SqlState::UNIQUE_VIOLATION) => Ok(false),
                other => other,
            };
            let failure = match answer {
                Ok(true) => return Ok(Appended::Done),
                Ok(false) if !is_uncertain => return Ok(Appended::Overtaken),
                // Somebody was faster: maybe it was our own earlier attempt.
                Ok(false) => {
                    let looked = async |client: &tokio_postgres::Client| Ok(batch.is_there(client).await?);
                    match self.links.writer.call(DEADLINE, looked).await {
                        Ok(true) => return Ok(Appended::Done),
                        Ok(false) => return Ok(Appended::Overtaken),
                        Err(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            if !matches!(failure, Failure::Lost(_)) || Instant::now() >= give_up {
                return Err(failure);
            }
            is_uncertain = true;
        }
    }
}

/// The beginning of a transaction that appends. Others that append wait for its end.
fn begin_append(limit: Duration) -> String {
    format!("BEGIN; {}; SELECT pg_advisory_xact_lock({APPENDING})", limits(limit))
}

/// The beginning of a transaction that reads one state.
pub(crate) fn begin_read(limit: Duration) -> String {
    format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}", limits(limit))
}

/// What holds for one transaction: a pooler gives the next one to another connection.
pub(crate) fn limits(limit: Duration) -> String {
    format!(
        "SET LOCAL statement_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = '{IDLE}'",
        limit.as_millis()
    )
}

impl Drop for PostgresJournal {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

impl Journal for PostgresJournal {
    fn is_shared(&self) -> bool {
        true
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn load(&self) -> StoreFuture<'_, Loaded> {
        Box::pin(async {
            self.end_turn().await;
            self.feed.looking();
            let begin = begin_read(statement_limit(LOAD_DEADLINE));
            let work = async |client: &tokio_postgres::Client| read::load(client, &self.clock, &begin).await;
            let loaded = self.links.reader.call(LOAD_DEADLINE, work).await?;
            *self.store.lock().unwrap_or_else(PoisonError::into_inner) = loaded.head.store;
            self.feed.knows(loaded.head.position.revision);
            Ok(loaded)
        })
    }

    fn since(&self, base: Position) -> StoreFuture<'_, Since> {
        Box::pin(async move {
            self.end_turn().await;
            self.feed.looking();
            let is_locked = self.defeats.load(Ordering::Relaxed) > 0;
            let read = if is_locked { self.since_in_turn(base).await } else { self.read_since(base).await };
            let (since, facts) = read?;
            if facts.is_standby {
                self.links.feed.is_wrong_server();
                return Err(Failure::Lost("the server has become a standby and takes no writes".into()).into());
            }
            if let Since::Commits(commits) = &since {
                self.feed.knows(commits.last().map_or(base.revision, |last| last.revision));
            }
            Ok(since)
        })
    }

    fn append(&self, base: Position, commits: Vec<Arc<Commit>>) -> StoreFuture<'_, Appended> {
        Box::pin(async move {
            let Some(last) = commits.last() else { return Ok(Appended::Done) };
            let appended = self.append_all(base, &commits).await?;
            match appended {
                Appended::Done => {
                    self.feed.knows(last.revision);
                    let _ = self.defeats.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                }
                Appended::Overtaken => self.defeats.store(LOCKED_AFTER_DEFEAT, Ordering::Relaxed),
            }
            Ok(appended)
        })
    }

    fn changed_by_others(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.end_turn().await;
            self.feed.changed().await;
        })
    }

    fn history(&self, query: HistoryQuery) -> StoreFuture<'_, HistoryPage> {
        Box::pin(self.read_history(query))
    }

    fn at(&self, moment: Moment) -> StoreFuture<'_, (Revision, Vec<Arc<Stored>>)> {
        Box::pin(self.read_at(moment))
    }

    fn prune(&self, keep: Keep) -> StoreFuture<'_, Revision> {
        Box::pin(self.prune_slices(keep))
    }

    fn insights(&self, mesh: Option<Arc<str>>, name: Option<Arc<str>>) -> StoreFuture<'_, Vec<InsightRow>> {
        Box::pin(self.read_insights(mesh, name))
    }

    fn put_insights(&self, rows: Vec<InsightRow>) -> StoreFuture<'_, ()> {
        Box::pin(self.write_insights(rows))
    }

    fn remove_insights(&self, keys: Vec<Key>) -> StoreFuture<'_, ()> {
        Box::pin(self.delete_insights(keys))
    }

    fn heartbeat<'a>(&'a self, instance: &'a str, about: &'a str) -> StoreFuture<'a, Vec<Peer>> {
        Box::pin(self.say_alive(instance, about))
    }

    fn lease<'a>(&'a self, what: &'a str, instance: &'a str) -> StoreFuture<'a, bool> {
        Box::pin(async move { Ok(self.take_lease(what, instance).await?.is_some()) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end_turn())
    }
}
