//! The journal.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use kuma_model::Key;
use kuma_store::{
    Appended, Commit, HistoryPage, HistoryQuery, InsightRow, Journal, Keep, Loaded, Moment, Position, Revision, Since,
    StoreError, StoreFuture, Stored,
};
use tokio::time::{Instant, sleep_until};

use crate::database::Database;
use crate::error::Fault;
use crate::worker::Worker;
use crate::{append, insights, load, past, prune};

/// How often a control plane that has the file for itself looks whether another program has written to it.
const LOOK_ALONE: Duration = Duration::from_secs(5);
/// How often, when others write to it, too.
const LOOK_SHARED: Duration = Duration::from_millis(250);
/// How often a file that could not be used is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Commits in an SQLite database.
///
/// Whoever opens it with [`open`](Self::open) should have seen to it that no other control plane does: what others
/// write is noticed before anything is written, and after some seconds otherwise. With
/// [`open_shared`](Self::open_shared) every read asks for it.
#[derive(Debug)]
pub struct SqliteJournal {
    path: PathBuf,
    is_shared: bool,
    writer: Worker,
    /// For what may take long.
    reader: Worker,
    /// When the latest commit was made that is known, in microseconds: a clock that was set back does not put commits
    /// in another order.
    latest: Arc<AtomicI64>,
    /// When it is time to see whether others have written.
    look_at: Mutex<Instant>,
}

impl SqliteJournal {
    /// Opens the database, and makes it if it is not there, with its folder.
    ///
    /// # Errors
    /// It cannot be made or opened, is not ours or of a newer version, or is on a network file system.
    pub fn open(path: &Path) -> Result<SqliteJournal, StoreError> {
        SqliteJournal::new(path, false)
    }

    /// The same for a file that others have open at the same time.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_shared(path: &Path) -> Result<SqliteJournal, StoreError> {
        SqliteJournal::new(path, true)
    }

    fn new(path: &Path, is_shared: bool) -> Result<SqliteJournal, StoreError> {
        let path = std::path::absolute(path).map_err(|error| Fault::Io(error).in_file(path))?;
        let start = || {
            let writer = Worker::start("store-write", Database::open(&path)?)?;
            let reader = Worker::start("store-read", Database::reader(&path))?;
            Ok((writer, reader))
        };
        let (writer, reader) = start().map_err(|fault: Fault| fault.in_file(&path))?;
        let look_at = Mutex::new(Instant::now());
        let latest = Arc::new(AtomicI64::new(i64::MIN));
        Ok(SqliteJournal { path, is_shared, writer, reader, latest, look_at })
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn look_at(&self) -> MutexGuard<'_, Instant> {
        self.look_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for SqliteJournal {
    fn is_shared(&self) -> bool {
        self.is_shared
    }

    fn now(&self) -> Timestamp {
        let latest = Timestamp::from_microsecond(self.latest.load(Ordering::Relaxed)).unwrap_or(Timestamp::MIN);
        Timestamp::now().max(latest)
    }

    fn load(&self) -> StoreFuture<'_, Loaded> {
        let (path, latest) = (self.path.clone(), self.latest.clone());
        Box::pin(self.writer.run(move |database| {
            database.note_version()?;
            let everything = database.with(load::load)?;
            latest.fetch_max(everything.store.at.as_microsecond(), Ordering::Relaxed);
            for (kind, count) in everything.unknown {
                tracing::warn!(kind, count, path = %path.display(),
                    "the store has documents of a kind that this version does not know; they are left as they are");
            }
            Ok(everything.loaded)
        }))
    }

    fn since(&self, base: Position) -> StoreFuture<'_, Since> {
        let (is_shared, latest) = (self.is_shared, self.latest.clone());
        Box::pin(self.writer.run(move |database| {
            database.prove_writable()?;
            let others_wrote = database.note_version()?;
            let since = database.with(|connection| load::since(connection, base))?;
            match &since {
                // Whoever has the file alone asks because of a fault, or since another program has written: it may have
                // damaged something without a commit.
                Since::Commits(commits) if commits.is_empty() && others_wrote && !is_shared => {
                    database.with(load::load)?;
                }
                Since::Commits(commits) => {
                    let at = commits.last().map_or(i64::MIN, |commit| commit.at.as_microsecond());
                    latest.fetch_max(at, Ordering::Relaxed);
                }
                Since::Behind | Since::Rewound => {}
            }
            Ok(since)
        }))
    }

    fn append(&self, base: Position, commits: Vec<Arc<Commit>>) -> StoreFuture<'_, Appended> {
        let is_shared = self.is_shared;
        Box::pin(self.writer.run(move |database| {
            // Whoever has the file alone first looks at what another program has done to it.
            if !is_shared && database.others_wrote()? {
                return Ok(Appended::Overtaken);
            }
            database.write(|connection| append::append(connection, base, &commits))
        }))
    }

    fn changed_by_others(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            loop {
                let look_at = *self.look_at();
                sleep_until(look_at).await;
                let changed = self.writer.run(Database::looks_changed).await;
                let pause = match changed {
                    _ if self.is_shared => LOOK_SHARED,
                    Ok(false) => LOOK_ALONE,
                    Ok(true) | Err(_) => LOOK_AGAIN,
                };
                *self.look_at() = Instant::now() + pause;
                if !matches!(changed, Ok(false)) {
                    return;
                }
            }
        })
    }

    fn history(&self, query: HistoryQuery) -> StoreFuture<'_, HistoryPage> {
        Box::pin(self.reader.run(move |database| database.with(|connection| past::history(connection, &query))))
    }

    fn at(&self, moment: Moment) -> StoreFuture<'_, (Revision, Vec<Arc<Stored>>)> {
        Box::pin(self.reader.run(move |database| database.with(|connection| past::at(connection, moment))))
    }

    fn prune(&self, keep: Keep) -> StoreFuture<'_, Revision> {
        Box::pin(async move {
            let now = self.now();
            self.writer.run(move |database| database.write(|connection| prune::secrets(connection, now))).await?;
            let to = self.writer.run(move |database| database.with(|db| prune::floor(db, keep, now))).await?;
            // One job for each slice: commits go in between.
            loop {
                let floor = self.writer.run(move |database| database.write(|db| prune::slice(db, to))).await?;
                if floor >= to {
                    return Ok(floor);
                }
            }
        })
    }

    fn insights(&self, mesh: Option<Arc<str>>, name: Option<Arc<str>>) -> StoreFuture<'_, Vec<InsightRow>> {
        Box::pin(self.reader.run(move |database| {
            database.with(|connection| insights::read(connection, mesh.as_deref(), name.as_deref()))
        }))
    }

    fn put_insights(&self, rows: Vec<InsightRow>) -> StoreFuture<'_, ()> {
        Box::pin(self.writer.run(move |database| database.write(|connection| insights::put(connection, &rows))))
    }

    fn remove_insights(&self, keys: Vec<Key>) -> StoreFuture<'_, ()> {
        Box::pin(self.writer.run(move |database| database.write(|connection| insights::remove(connection, &keys))))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let close = |database: &mut Database| {
                database.close();
                Ok(())
            };
            // The reader first: while it reads, the log cannot be emptied.
            let _ = self.reader.run(close).await;
            let _ = self.writer.run(close).await;
        })
    }
}
