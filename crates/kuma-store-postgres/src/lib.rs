//! Documents in PostgreSQL, for any number of control planes at once.
//!
//! [`PostgresJournal`] is the [`Journal`](kuma_store::Journal) for a [`JournaledStore`](kuma_store::JournaledStore).
//! A commit is appended only on top of the commit that it was computed from, so that numbers have no holes, each
//! commit is there once, and a writer that knows another past is refused.
//!
//! All statements are typed and unnamed, and settings last for one transaction: what a pooler such as PgBouncer passes
//! on in transaction mode.

mod append;
mod clock;
mod config;
mod connect;
mod failure;
mod feed;
mod insights;
mod journal;
mod link;
mod original;
mod past;
mod presence;
mod prune;
mod read;
mod schema;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;

pub use config::{Password, PostgresConfig, PostgresTls, TlsMode};
pub use journal::PostgresJournal;
pub use original::OriginalRow;
pub use presence::LEASED_FOR;
pub use schema::{Migration, SCHEMA, migrate};
