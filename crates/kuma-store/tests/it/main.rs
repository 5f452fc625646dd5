//! The store in memory against the contract of all stores, a model, and what only it promises.

mod memory;
mod model;
