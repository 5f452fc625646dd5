//! What an operator does with the file: look whether it is whole, take a backup, put one in its place.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use kuma_model::Key;
use kuma_store::Head;
use rusqlite::Connection;

use crate::database::{connect, schema_of};
use crate::error::Fault;
use crate::file::{beside, identity, prepare, sync_folder};
use crate::load::{Everything, load};
use crate::past::replay;
use crate::rows::{DocumentRow, signed};

/// Most findings of SQLite itself that are told.
const FINDINGS: usize = 20;

/// What is in a database.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Which store it is, and its latest commit.
    pub head: Head,
    /// The oldest revision whose state is known.
    pub floor: u64,
    /// How many documents it has, without those of `unknown`.
    pub documents: usize,
    /// How many there are of each kind that this version does not know.
    pub unknown: BTreeMap<String, usize>,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum MaintainError {
    /// It is not there.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// It is there already, and is not overwritten.
    #[error("{} exists already; choose another name, or move it away", .0.display())]
    Exists(PathBuf),
    /// It is not what was written. Each text names a finding.
    #[error("{} is damaged: {}", path.display(), findings.join("; "))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        findings: Vec<String>,
    },
    /// Anything else.
    #[error("{}: {reason}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
}

/// Looks at every row of the database, the history included. It may be in use.
///
/// # Errors
/// It is damaged, or cannot be read.
pub fn check(path: &Path) -> Result<Report, MaintainError> {
    open(path).and_then(|mut connection| inspect(&mut connection)).map_err(|fault| failed(path, fault))
}

/// Writes a copy of the database to a file that is not there yet, and checks it. The database may be in use.
///
/// # Errors
/// There is such a file, the database or the copy is damaged, or one cannot be read or written.
pub fn backup(path: &Path, to: &Path) -> Result<Report, MaintainError> {
    if identity(to).map_err(|error| failed(to, error.into()))?.is_some() {
        return Err(MaintainError::Exists(to.to_owned()));
    }
    let partial = beside(to, ".partial");
    let report = copy(path, &partial)?;
    let moved =
        rustix::fs::renameat_with(rustix::fs::CWD, &partial, rustix::fs::CWD, to, rustix::fs::RenameFlags::NOREPLACE);
    match moved {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Err(MaintainError::Exists(to.to_owned())),
        Err(error) => return Err(failed(to, io::Error::from(error).into())),
    }
    sync_folder(to).map_err(|error| failed(to, error.into()))?;
    Ok(report)
}

/// Puts a backup in the place of the database. What was there is kept beside it, with `.replaced` at the end of its
/// name. Nobody may have the database open: the caller sees to it.
///
/// # Errors
/// The backup is damaged or cannot be read, or the database cannot be written. It is as it was then.
pub fn restore(backup: &Path, path: &Path) -> Result<Report, MaintainError> {
    let fail = |error: io::Error| failed(path, error.into());
    let partial = beside(path, ".restoring");
    let report = copy(backup, &partial)?;
    // SQLite would work the log of the old database into the new one. The old log is a part of the old database, so it
    // goes along.
    let replaced = beside(path, ".replaced");
    for ending in ["", "-wal", "-shm"] {
        let (from, to) = (beside(path, ending), beside(&replaced, ending));
        remove(&to).map_err(fail)?;
        match std::fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
    }
    std::fs::rename(&partial, path).map_err(fail)?;
    sync_folder(path).map_err(fail)?;
    Ok(report)
}

/// Copies a database, with its log, into one file that was not in use, and checks the copy.
fn copy(path: &Path, to: &Path) -> Result<Report, MaintainError> {
    let mut source = open(path).map_err(|fault| failed(path, fault))?;
    // Damage is told of the source.
    inspect(&mut source).map_err(|fault| failed(path, fault))?;
    let write = || -> crate::error::Result<()> {
        prepare_copy(to)?;
        let name = to.to_str().ok_or_else(|| Fault::Refused("its name is not UTF-8".into()))?;
        // SQLite takes the copy for a write as well.
        source.pragma_update(None, "query_only", false)?;
        source.execute("VACUUM INTO ?1", [name])?;
        File::open(to)?.sync_all()?;
        Ok(())
    };
    let written = write().map_err(|fault| failed(to, fault)).and_then(|()| check(to));
    if written.is_err() {
        let _ = remove(to);
    }
    written
}

/// An empty file for a copy, which only this user can read. What an earlier attempt has left goes.
fn prepare_copy(to: &Path) -> crate::error::Result<()> {
    remove(to)?;
    let parent = crate::file::folder(to);
    if identity(parent)?.is_none() {
        prepare(to)?;
        return Ok(());
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn open(path: &Path) -> crate::error::Result<Connection> {
    if identity(path)?.is_none() {
        return Err(io::Error::from(io::ErrorKind::NotFound).into());
    }
    let connection = connect(path)?;
    connection.pragma_update(None, "query_only", true)?;
    if schema_of(&connection)?.is_none() {
        return Err(Fault::Refused("it is empty".into()));
    }
    Ok(connection)
}

fn inspect(connection: &mut Connection) -> crate::error::Result<Report> {
    let mut findings = Vec::new();
    {
        let mut statement = connection.prepare(&format!("PRAGMA integrity_check({FINDINGS})"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            findings.push(row.get::<_, String>(0)?);
        }
        findings.retain(|finding| finding != "ok");
    }
    // Our own checks name the document.
    let everything = note(&mut findings, load(connection))?;
    if let Some(everything) = &everything {
        note(&mut findings, compare(connection, everything))?;
    }
    match everything {
        Some(Everything { store, loaded, unknown }) if findings.is_empty() => {
            Ok(Report { head: store.head, floor: store.floor, documents: loaded.documents.len(), unknown })
        }
        _ => Err(Fault::Damaged(findings.join("; "))),
    }
}

/// Takes note of damage.
fn note<T>(findings: &mut Vec<String>, result: crate::error::Result<T>) -> crate::error::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(fault) if fault.is_damage() => {
            findings.insert(0, fault.to_string());
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

/// Makes sure that the history leads to the documents.
fn compare(connection: &mut Connection, everything: &Everything) -> crate::error::Result<()> {
    let transaction = connection.transaction()?;
    let store = &everything.store;
    let mut latest: BTreeMap<Key, i64> = BTreeMap::new();
    replay(&transaction, store, store.head.position.revision, |_, row: &DocumentRow<'_>| {
        if let Some(key) = row.key() {
            match row.version {
                Some(version) => latest.insert(key, version),
                None => latest.remove(&key),
            };
        }
        Ok(())
    })?;
    // Nobody would read them, and the next commit could not be written.
    for table in ["commits", "changes"] {
        let sql = format!("SELECT count(*) FROM {table} WHERE revision > ?1");
        let beyond: i64 = transaction.query_row(&sql, [signed(store.head.position.revision)?], |row| row.get(0))?;
        if beyond > 0 {
            return Err(Fault::Damaged(format!("table `{table}` has {beyond} rows after the latest commit")));
        }
    }
    for stored in &everything.loaded.documents {
        let version = latest.remove(&stored.key);
        if version != i64::try_from(stored.version).ok() {
            let Key { kind, mesh, name } = &stored.key;
            return Err(Fault::Damaged(format!("the history of {kind} {name:?} of mesh {mesh:?} ends elsewhere")));
        }
    }
    match latest.keys().next() {
        None => Ok(()),
        Some(key) => Err(Fault::Damaged(format!("table `documents` lacks {key}"))),
    }
}

fn failed(path: &Path, fault: Fault) -> MaintainError {
    let path = path.to_owned();
    match fault {
        Fault::Io(error) if error.kind() == io::ErrorKind::NotFound => MaintainError::Missing(path),
        fault if fault.is_damage() => MaintainError::Damaged { path, findings: vec![fault.to_string()] },
        fault => MaintainError::Failed { path, reason: fault.to_string() },
    }
}
