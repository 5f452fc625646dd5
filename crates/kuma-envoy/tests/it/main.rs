//! What is generated, as text to be read, and as bytes that a real Envoy takes and acts upon.

mod ads;
mod bootstraps;
mod cases;
mod envoy;
mod golden;

mod raw;
mod real_envoy;
