//! The real program against a small server that behaves like the HTTP API. What it prints, asks for and leaves behind
//! is kept as snapshots.

mod apply;
mod certificate;
mod config;
mod control_plane;
mod errors;
mod lists;
mod manage;
mod sets;
mod token;
mod transcript;
mod transparent_proxy;
mod url;
