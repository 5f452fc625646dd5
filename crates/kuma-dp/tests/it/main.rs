//! kuma-dp as a program, between a control plane that the test plays and an Envoy: a script where only processes
//! matter, the real one where its behaviour does.

mod command_line;
mod control_plane;
mod exits;
mod fake_envoy;
mod real_envoy;
mod reports;
mod secrets;
mod start;
mod world;
