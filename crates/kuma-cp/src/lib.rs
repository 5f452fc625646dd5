//! The control plane of a mesh: documents in, configuration of proxies out.
//!
//! [`run::start`] wires everything and names every server in order. The data flow, and what must stay true of it, are
//! in ARCHITECTURE.md.

pub mod access;
pub mod admin;
pub mod ads;
pub mod api;
pub mod bootstrap;
pub mod config;
pub mod departures;
pub mod diagnostics;
pub mod documents;
pub mod file_limit;
pub mod forgetting;
pub mod http;
pub mod identity;
pub mod import;
pub mod insights;
pub mod lifecycle;
mod listeners;
pub mod log_limit;
pub mod mads;
pub mod mesh_ca;
pub mod metrics;
pub mod no_dumps;
pub mod peers;
pub mod presence;
pub mod run;
pub mod sds;
pub mod sealed_journal;
pub mod state_folder;
pub mod store_command;
pub mod store_seen;
pub mod stores;
mod voice;
mod xds_certificate;
