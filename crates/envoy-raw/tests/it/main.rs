//! What users write for Envoy, read and refused.

mod documents;
mod properties;
mod refused;
mod upgrades;
