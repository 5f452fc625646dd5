//! The store in a file against the contract of all stores, and what a file is exposed to.

mod contract;
mod reopening;
mod scene;
