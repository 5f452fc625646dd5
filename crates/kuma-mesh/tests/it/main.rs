//! Tests of a mesh by its documents.

mod affected;
mod matching;
mod support;
