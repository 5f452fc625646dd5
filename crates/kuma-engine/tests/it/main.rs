//! Tests of the engine of one mesh, in one binary.

mod golden;
mod incremental;
mod kinds;
mod real_envoy;
mod receipts;
mod restart;
mod rewound;
mod rotation;
mod support;
mod switch;
mod templates;
