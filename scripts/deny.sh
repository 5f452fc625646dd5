#!/usr/bin/env bash
# Licences, bans and sources of all dependencies by cargo-deny, which is built once into target/tools if it is not
# there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=0.20.2
if cargo deny --version >/dev/null 2>&1; then
  deny=(cargo deny)
else
  if [ ! -x target/tools/bin/cargo-deny ]; then
    echo "Building cargo-deny $version ..." >&2
    CARGO_TARGET_DIR=target/tools/build \
      cargo install --quiet --locked --version "$version" --root target/tools cargo-deny
    rm -rf target/tools/build
  fi
  deny=(target/tools/bin/cargo-deny)
fi
exec "${deny[@]}" --locked check --hide-inclusion-graph licenses bans sources
