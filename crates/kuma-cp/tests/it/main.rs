//! Tests of the control plane's parts, in one binary.

mod access;
mod admin;
mod api;
mod api_additions;
mod api_bad_input;
mod api_cors;
mod api_mesh;
mod bootstrap;
mod client;
mod config;
mod config_reference;
mod diagnostics;
mod documented;
mod engine;
mod engine_restart;
mod engine_support;
mod grpc;
mod locality;
mod metrics;
mod overviews;
mod public_admin;
mod running;
mod sds;
mod serve;
mod templates;
mod test_api;
