//! The program kuma-dp with a mock of the control plane, and with a script in place of Envoy, or the real Envoy where
//! its behaviour matters.

mod command_line;
mod control_plane;
mod exits;
mod fake_envoy;
mod real_envoy;
mod reports;
mod secrets;
mod start;
mod world;
