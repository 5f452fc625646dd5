#!/usr/bin/env bash
# Runs the tests that need neither Envoy nor Prometheus nor PostgreSQL nor the firewall: all but those of kuma-test and
# kuma-store-postgres, and those with `real_envoy` in their name. Arguments are passed on to cargo, before its `--`:
# `-p kuma-mesh`, for example.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# One that needs an Envoy after all fails, and says what to do.
unset ENVOY_BINARY PROMETHEUS_BINARY
[ $# -gt 0 ] || set -- --workspace --exclude kuma-test --exclude kuma-store-postgres
exec cargo test --locked --no-fail-fast --lib --bins --tests "$@" -- --skip real_envoy
