#!/usr/bin/env bash
# Prints the path of PgBouncer, for tests: that of an installed one, or else of Debian's package, unpacked into
# .pgbouncer/. No service is started.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ -n "${PGBOUNCER_BINARY:-}" ] && [ -x "$PGBOUNCER_BINARY" ]; then
  echo "$PGBOUNCER_BINARY"
  exit 0
fi
if [ -x /usr/sbin/pgbouncer ]; then
  echo /usr/sbin/pgbouncer
  exit 0
fi
if [ ! -d "$root/.pgbouncer" ]; then
  echo "Fetching PgBouncer ..." >&2
  "$root/scripts/unpack-debian.sh" "$root/.pgbouncer" pgbouncer
fi
echo "$root/.pgbouncer/bin/pgbouncer"
