#!/usr/bin/env bash
# Installs nft and iptables, which the tests of transparent proxying need, where they are missing and apt-get is at
# hand.
set -euo pipefail
missing() {
  ! command -v nft >/dev/null || ! command -v iptables-nft >/dev/null || ! command -v iptables-legacy >/dev/null
}
export PATH="$PATH:/usr/sbin:/sbin"
missing || exit 0
echo "Installing nftables and iptables ..." >&2
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  install=(apt-get install --yes --quiet --no-install-recommends nftables iptables)
  "${install[@]}" >/dev/null 2>&1 || { apt-get update --quiet >/dev/null && "${install[@]}" >/dev/null; }
fi
if missing; then
  echo "Please install nftables and iptables: the tests of transparent proxying need them." >&2
  exit 1
fi
