//! The whole system: kuma-cp, kuma-dp, kumactl and real Envoys as processes, as users run them.

mod bad_input;
mod hitless;
mod permissions;
mod remote;
mod restart;
mod scene;
mod walk;
