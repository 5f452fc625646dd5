//! Monitoring assignments: for each proxy, where Prometheus finds its metrics, and its labels.
//!
//! An [`Assignment`] is made from a Mesh and a Dataplane, and has three formats:
//!
//! ```text
//!  Mesh + Dataplane --> Assignment --> v1alpha1  protobuf, over gRPC, for kuma-prometheus-sd,
//!                                                which writes file_sd for Prometheus
//!                                  --> v1        JSON, over HTTP, for Prometheus' own kuma_sd_configs
//! ```
//!
//! The crate is pure: `kuma-cp` serves the first two (its module `mads`), the program `kuma-prometheus-sd` writes the
//! third.

mod assignment;
pub mod file_sd;
mod labels;
pub mod v1;
pub mod v1alpha1;

pub use assignment::{Absent, Assignment};
