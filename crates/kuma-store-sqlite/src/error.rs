//! What goes wrong in a database, and what it is for a store.

use std::io;
use std::path::Path;

use kuma_store::StoreError;
use rusqlite::ErrorCode;

/// What to do about a damaged file.
pub(crate) const REMEDY: &str = "put a backup in its place with `kuma-cp store restore FILE`";

/// Why a database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Something is not what was written. The text names it.
    #[error("{0}")]
    Damaged(String),
    /// The file cannot be used as it is, for this reason.
    #[error("{0}")]
    Refused(String),
    /// It works, and this is the answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    /// Whether the content of the file is to blame.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Fault::Damaged(_) => true,
            Fault::Sql(rusqlite::Error::SqliteFailure(error, _)) => {
                // An SQL error is a table or a column that is missing: the statements themselves are right.
                matches!(
                    error.code,
                    ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown | ErrorCode::TypeMismatch
                )
            }
            Fault::Sql(
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::QueryReturnedNoRows
                | rusqlite::Error::SqlInputError { .. }
                | rusqlite::Error::Utf8Error(..),
            ) => true,
            _ => false,
        }
    }

    /// The same for users of the store.
    pub(crate) fn in_file(self, path: &Path) -> StoreError {
        let path = path.display();
        match self {
            Fault::Store(error) => error,
            Fault::Refused(reason) => StoreError::Unusable { reason: format!("{path}: {reason}") },
            fault if fault.is_damage() => {
                StoreError::Unusable { reason: format!("{path} is damaged: {fault}; {REMEDY}") }
            }
            fault => StoreError::Unavailable { reason: format!("{path}: {fault}{}", fault.advice()) },
        }
    }

    /// What to do about a disk that does not work.
    fn advice(&self) -> &'static str {
        const FULL: &str = "; make room on its disk: it is tried again until there is some";
        const READ_ONLY: &str = "; make its file system writable: it is tried again until it is";
        const BROKEN: &str =
            "; the kernel's log (dmesg) says what its disk failed to do: it is tried again until it works";
        match self {
            Fault::Sql(rusqlite::Error::SqliteFailure(error, _)) => match error.code {
                ErrorCode::DiskFull => FULL,
                ErrorCode::ReadOnly => READ_ONLY,
                ErrorCode::SystemIoFailure => BROKEN,
                _ => "",
            },
            Fault::Io(error) => match error.kind() {
                io::ErrorKind::StorageFull => FULL,
                io::ErrorKind::ReadOnlyFilesystem => READ_ONLY,
                _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => BROKEN,
                _ => "",
            },
            _ => "",
        }
    }
}
