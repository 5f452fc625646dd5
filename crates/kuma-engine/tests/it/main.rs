//! Tests of the engine of one mesh, in one binary.

mod incremental;
mod kinds;
mod receipts;
mod restart;
mod rotation;
mod support;
mod switch;
mod templates;
