//! Why the database did not answer.

use std::error::Error as _;
use std::fmt;

use kuma_store::StoreError;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

/// Why the database did not answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It said no, and nothing was done.
    Refused(SqlState, String),
    /// The connection broke, or there is none. What was asked for may have been done.
    Lost(String),
    /// There was no answer in time. What was asked for may have been done, or still be.
    Late,
    /// It answered what makes no sense.
    Broken(String),
}

impl Failure {
    pub(crate) fn has_code(&self, wanted: &SqlState) -> bool {
        matches!(self, Failure::Refused(code, _) if code == wanted)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let text = describe(&error);
        let is_fatal = |said: &DbError| matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
        match error.as_db_error() {
            // The server ends the connection.
            Some(said) if is_fatal(said) => Failure::Lost(text),
            Some(said) => Failure::Refused(said.code().clone(), text),
            None if error.source().is_none_or(|cause| cause.is::<std::io::Error>()) => Failure::Lost(text),
            None => Failure::Broken(text),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(_, text) | Failure::Lost(text) | Failure::Broken(text) => f.write_str(text),
            Failure::Late => f.write_str("PostgreSQL did not answer in time"),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> StoreError {
        StoreError::Unavailable { reason: failure.to_string() }
    }
}

/// What happened, with its causes.
pub(crate) fn describe(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        let hint = said.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        return format!("PostgreSQL: {}{hint} (SQLSTATE {})", said.message(), said.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
