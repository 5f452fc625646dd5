#!/usr/bin/env bash
# Prints the path of h2spec, which tests an implementation of HTTP/2: that of an installed one, or else built with Go
# into .h2spec/. Without Go it prints nothing, and fails only where CI is set: there nothing may be skipped.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target="$root/.h2spec/h2spec-2.2.1"

if [ -n "${H2SPEC_BINARY:-}" ] && [ -x "$H2SPEC_BINARY" ]; then
  echo "$H2SPEC_BINARY"
  exit 0
fi
if [ ! -x "$target" ]; then
  if ! command -v go >/dev/null; then
    echo "The conformance suite of HTTP/2 is skipped: h2spec needs Go, which is not installed" >&2
    [ -z "${CI:-}" ]
    exit
  fi
  echo "Building h2spec ..." >&2
  mkdir -p "$root/.h2spec"
  # Into place by a rename: an interrupted run leaves no half binary.
  go build -C "$root/scripts/h2spec" -o "$target.part" github.com/summerwind/h2spec/cmd/h2spec || {
    echo "Cannot build h2spec. Install it by other means, or set H2SPEC_BINARY to it" >&2
    exit 1
  }
  mv "$target.part" "$target"
fi
echo "$target"
