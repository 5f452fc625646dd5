//! The whole system: kuma-cp, kuma-dp, kumactl and real Envoys as processes, as users run them.

mod access_logs;
mod bad_input;
mod ca;
mod fleet;
mod health_checks;
mod hitless;
mod hostile;
mod identity;
mod instances;
mod lifecycle;
mod mads;
mod meshes;
mod metrics;
mod permissions;
mod remote;
mod restart;
mod routes;
mod scene;
mod sds;
mod templates;
mod transparent;
mod transparent_rules;
mod two_dps;
mod vanish;
mod walk;
mod xds_rules;
