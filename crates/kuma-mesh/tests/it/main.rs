//! Tests of a mesh by its documents.

mod affected;
mod best_policy;
mod matching;
mod metrics;
mod protocols;
mod sharing;
mod support;
mod templates;
