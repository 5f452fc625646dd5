//! The store in a file against the contract of all stores, and what a file is exposed to.
//!
//! `KUMA_TEST_ROUNDS` and `KUMA_TEST_FLIPS` set how often a process is killed and how many bits are flipped;
//! `make soak` sets more than the suite has time for.

mod contract;
mod crash;
mod damage;
mod disk;
mod maintain;
mod others;
mod reopening;
mod scene;
