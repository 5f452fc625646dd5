//! Documents in a file: a [`Journal`](kuma_store::Journal) in an SQLite database, for one control plane.
//!
//! The database belongs to one thread, which writes, and to a second one, which answers questions about the past; see
//! [`SqliteJournal`]. Every row has a checksum, and what is read is either what was written or an error that says what
//! is damaged. [`check`], [`backup`] and [`restore`] are what an operator needs, and what `kuma-cp store` does.

mod append;
mod database;
mod error;
mod file;
mod insights;
mod journal;
mod load;
mod maintain;
mod past;
mod prune;
mod rows;
mod worker;

pub use journal::SqliteJournal;
pub use maintain::{MaintainError, Report, backup, check, restore};
