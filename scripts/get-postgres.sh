#!/usr/bin/env bash
# Prints the folder with the programs of PostgreSQL, for tests: that of an installed one, or else of Debian's package,
# unpacked into .postgres/. No service is started, and none that runs is used.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ -n "${POSTGRES_BIN:-}" ] && [ -x "$POSTGRES_BIN/postgres" ]; then
  echo "$POSTGRES_BIN"
  exit 0
fi
installed=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
if [ -x "$installed" ] && [ -x "${installed%/*}/psql" ]; then
  echo "${installed%/*}"
  exit 0
fi
if [ ! -d "$root/.postgres" ]; then
  echo "Fetching PostgreSQL (about 60 MB) ..." >&2
  "$root/scripts/unpack-debian.sh" "$root/.postgres" postgresql
fi
echo "$root/.postgres/bin"
