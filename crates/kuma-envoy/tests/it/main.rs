//! Generated resources: compared with golden files, and given to a real Envoy.

mod ads;
mod bootstraps;
mod cases;
mod envoy;
mod golden;

mod raw;
mod real_envoy;
