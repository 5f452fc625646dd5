//! The connection to the file: opened, tested, and opened again after a fault.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kuma_store::StoreError;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::error::{Fault, Result};
use crate::file::{self, Identity};
use crate::rows::StoreRow;

/// `Kuma` in ASCII: what file(1) and we know our databases by.
const APPLICATION: i32 = 0x4B75_6D61;

/// The version of schema.sql.
const SCHEMA: i32 = 1;

/// How long to wait for another program that holds the database.
const BUSY: Duration = Duration::from_secs(5);

/// The size of the write-ahead log above which it is worked into the database although there is something to do.
const LOG_BYTES: u64 = 8 << 20;

/// A database that opens itself.
#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    may_write: bool,
    open: Option<Open>,
    /// Writes have failed since the last one that succeeded.
    write_failed: bool,
    /// Something is in the write-ahead log that may be worked into the database.
    has_log: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Open {
    connection: Connection,
    identity: Identity,
    /// `PRAGMA data_version` when the database was last read: it grows with every commit of another connection.
    data_version: Option<i64>,
}

impl Database {
    /// Opens the database, and makes it if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Database> {
        file::prepare(path)?;
        let mut database = Database::reader(path);
        database.may_write = true;
        database.open = Some(Open::new(path, true)?);
        Ok(database)
    }

    /// One that only reads, and is opened when it is used. The database must be there then.
    pub(crate) fn reader(path: &Path) -> Database {
        let path = path.to_owned();
        Database { path, may_write: false, open: None, write_failed: false, has_log: false, is_closed: false }
    }

    /// Does something with the connection. After a fault it is opened anew the next time: what failed may be in a state
    /// that only a new connection gets out of.
    pub(crate) fn with<T>(
        &mut self,
        job: impl FnOnce(&mut Connection) -> Result<T>,
    ) -> std::result::Result<T, StoreError> {
        let done = self.connect().and_then(|open| job(&mut open.connection));
        done.map_err(|fault| {
            if !matches!(fault, Fault::Store(_)) {
                self.open = None;
            }
            fault.in_file(&self.path)
        })
    }

    /// The same for something that writes.
    pub(crate) fn write<T>(
        &mut self,
        job: impl FnOnce(&mut Connection) -> Result<T>,
    ) -> std::result::Result<T, StoreError> {
        let done = self.with(job);
        self.write_failed = done.is_err();
        self.has_log = true;
        done
    }

    /// Whether it can be written, found out by writing if the last write has failed: a full disk can still be read.
    pub(crate) fn prove_writable(&mut self) -> std::result::Result<(), StoreError> {
        if !self.write_failed {
            return Ok(());
        }
        self.write(|connection| {
            connection.execute("UPDATE store SET one = one", [])?;
            Ok(())
        })
    }

    /// Whether another program may have written since [`note_version`](Self::note_version).
    pub(crate) fn others_wrote(&mut self) -> std::result::Result<bool, StoreError> {
        let now = self.with(data_version)?;
        Ok(self.open.as_ref().and_then(|open| open.data_version) != Some(now))
    }

    /// Whether there may be something to learn from the file: what others have written, or that it can be written
    /// again.
    pub(crate) fn looks_changed(&mut self) -> std::result::Result<bool, StoreError> {
        Ok(self.write_failed || self.others_wrote()?)
    }

    /// Takes note that all that other programs have written until now is known. Says whether they have written since
    /// the last time. It is to be called before what they have written is read.
    pub(crate) fn note_version(&mut self) -> std::result::Result<bool, StoreError> {
        let now = self.with(data_version)?;
        let Some(open) = &mut self.open else { return Ok(true) };
        Ok(open.data_version.replace(now) != Some(now))
    }

    /// Works the log into the database if it has become large.
    pub(crate) fn after_job(&mut self) {
        let log = || std::fs::metadata(file::beside(&self.path, "-wal")).map_or(0, |log| log.len());
        if self.has_log && log() > LOG_BYTES {
            self.checkpoint();
        }
    }

    /// Whether there is something to be done in a quiet moment.
    pub(crate) fn has_log(&self) -> bool {
        self.has_log
    }

    /// Works the log into the database and empties it.
    pub(crate) fn checkpoint(&mut self) {
        self.has_log = false;
        if let Some(open) = &self.open {
            // Whoever reads at this moment keeps a part of it from being done, until the next time; a fault shows in
            // the next write.
            let result = open.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
            match result {
                Ok(0) => {}
                Ok(_) => tracing::debug!("somebody reads the store: its log is worked in later"),
                Err(error) => tracing::warn!(%error, path = %self.path.display(), "the store's log stays for now"),
            }
        }
    }

    /// Ends its use.
    pub(crate) fn close(&mut self) {
        if self.may_write {
            self.checkpoint();
        }
        self.open = None;
        self.is_closed = true;
    }

    fn connect(&mut self) -> Result<&mut Open> {
        if self.is_closed {
            return Err(StoreError::Unavailable { reason: "it is closed".into() }.into());
        }
        let found = file::identity(&self.path)?;
        let Some(found) = found else {
            self.open = None;
            return Err(std::io::Error::other("the file is gone; put it back, or restart to begin without it").into());
        };
        // What is written to a file without a name is lost.
        if self.open.as_ref().is_none_or(|open| open.identity != found) {
            self.open = None;
            self.open = Some(Open::new(&self.path, self.may_write)?);
        }
        self.open.as_mut().ok_or_else(|| std::io::Error::other("it is not open").into())
    }
}

impl Open {
    fn new(path: &Path, may_write: bool) -> Result<Open> {
        let identity = file::identity(path)?.ok_or_else(|| std::io::Error::other("the file is gone"))?;
        let connection = connect(path)?;
        match schema_of(&connection)? {
            Some(found) if found > SCHEMA => {
                return Err(Fault::Refused(format!(
                    "it was written by a newer kuma-cp (schema {found}; this one knows {SCHEMA}); start that version"
                )));
            }
            Some(_) => {}
            None if may_write => {}
            None => return Err(Fault::Refused("it is empty".into())),
        }
        if may_write {
            let mode: String = connection.query_row("PRAGMA journal_mode = wal", [], |row| row.get(0))?;
            if mode != "wal" {
                return Err(Fault::Refused(format!("its file system allows no write-ahead log (mode {mode})")));
            }
            let mut connection = connection;
            make_log_durable(&mut connection, path)?;
            create(&mut connection)?;
            return Ok(Open { connection, identity, data_version: None });
        }
        connection.pragma_update(None, "query_only", true)?;
        Ok(Open { connection, identity, data_version: None })
    }
}

/// Makes the commits durable that are in the log: a process that had one of its syncs fail, this or an earlier one, has
/// left some there that the disk may not have. Commits after them would be lost with them.
fn make_log_durable(connection: &mut Connection, path: &Path) -> Result<()> {
    if connection.is_readonly("main")? {
        return Ok(());
    }
    // Nobody else writes to the log meanwhile.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    file::write_again(&file::beside(path, "-wal"))?;
    Ok(transaction.rollback()?)
}

/// A connection with our settings. The file must be there.
pub(crate) fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    // What the file says is not to make the program do anything.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    // What is deleted is overwritten: the texts of old secrets.
    connection.query_row("PRAGMA secure_delete = on", [], |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
    Ok(connection)
}

/// The version of the schema; `None` in an empty database.
pub(crate) fn schema_of(connection: &Connection) -> Result<Option<i32>> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let application = number("application_id")?;
    if application == APPLICATION {
        return Ok(Some(number("user_version")?));
    }
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == 0 && tables == 0 {
        return Ok(None);
    }
    Err(Fault::Refused(format!("it is a database of another program (application id {application:#x})")))
}

/// Makes the tables, unless somebody has made them.
fn create(connection: &mut Connection) -> Result<()> {
    if schema_of(connection)?.is_some() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if schema_of(&transaction)?.is_none() {
        transaction.execute_batch(include_str!("schema.sql"))?;
        StoreRow::first().write(&transaction)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", SCHEMA)?;
    }
    transaction.commit()?;
    Ok(())
}

fn data_version(connection: &mut Connection) -> Result<i64> {
    Ok(connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
}
