#!/usr/bin/env bash
# Puts Prometheus into .prometheus/ and prints the path of its binary. It comes from Debian's package, which is unpacked
# and not installed: nothing else of the system changes, and no service is started. One that is there already is kept.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target="$root/.prometheus/prometheus"

if [ -n "${PROMETHEUS_BINARY:-}" ] && [ -x "$PROMETHEUS_BINARY" ]; then
  echo "$PROMETHEUS_BINARY"
  exit 0
fi
if [ ! -x "$target" ] && command -v prometheus >/dev/null; then
  command -v prometheus
  exit 0
fi
if [ ! -x "$target" ]; then
  echo "Fetching Prometheus (about 19 MB) ..." >&2
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  # apt downloads as a user of its own, if that may write here.
  chmod 0755 "$work"
  cd "$work"
  if ! apt-get download prometheus >/dev/null 2>"$work/log"; then
    # A fresh machine has no lists of packages yet, or old ones.
    apt-get update >/dev/null 2>>"$work/log" && apt-get download prometheus >/dev/null 2>>"$work/log" || {
      cat "$work/log" >&2
      echo "Cannot fetch Prometheus. Install it by other means, or set PROMETHEUS_BINARY to it" >&2
      exit 1
    }
  fi
  dpkg-deb --extract prometheus_*.deb "$work/package"
  mkdir -p "$root/.prometheus"
  # Into place by a rename: an interrupted run leaves no half binary.
  install -m 0755 "$work/package/usr/bin/prometheus" "$target.part"
  mv "$target.part" "$target"
fi
echo "$target"
