//! The store in a file against the contract of all stores, and what a file is exposed to.
//!
//! `KUMA_TEST_ROUNDS`, `KUMA_TEST_CUTS` and `KUMA_TEST_FLIPS` set how often a process is killed, how many power cuts
//! are simulated, and how many bits are flipped; `make soak` sets more than the suite has time for.

mod contract;
mod crash;
mod damage;
mod disk;
mod failing_sync;
mod maintain;
mod others;
mod power_cut;
mod preloaded;
mod reopening;
mod scene;
