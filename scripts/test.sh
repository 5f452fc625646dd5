#!/usr/bin/env bash
# Runs every test of the workspace. Arguments are passed on to the test runner (a filter, for example).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ENVOY_BINARY=$(scripts/get-envoy.sh)
PROMETHEUS_BINARY=$(scripts/get-prometheus.sh)
POSTGRES_BIN=$(scripts/get-postgres.sh)
PGBOUNCER_BINARY=$(scripts/get-pgbouncer.sh)
H2SPEC_BINARY=$(scripts/get-h2spec.sh)
export ENVOY_BINARY PROMETHEUS_BINARY POSTGRES_BIN PGBOUNCER_BINARY H2SPEC_BINARY
PATH="$PATH:$(scripts/get-firewall.sh)"
export PATH
# Tests of one program start the others: build them all first.
cargo build --locked --workspace --bins
if cargo nextest --version >/dev/null 2>&1; then
  exec cargo nextest run --locked --workspace "$@"
fi
exec cargo test --locked --workspace "$@"
