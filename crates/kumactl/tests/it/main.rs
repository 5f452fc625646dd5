//! The real program against a mock of the HTTP API. Its output, its requests and the files that it writes are kept as
//! snapshots.

mod apply;
mod certificate;
mod config;
mod control_plane;
mod database_schema;
mod errors;
mod lists;
mod manage;
mod past;
mod sets;
mod token;
mod transcript;
mod transparent_proxy;
mod url;
