#!/usr/bin/env bash
# Prints the folder of nft and iptables, which the tests of transparent proxying need: that of installed ones, or else
# of Debian's packages, unpacked into .firewall/. Nothing is installed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

PATH="$PATH:/usr/sbin:/sbin"
if command -v nft >/dev/null && command -v iptables-nft >/dev/null && command -v iptables-legacy >/dev/null; then
  dirname "$(command -v nft)"
  exit 0
fi
if [ ! -d "$root/.firewall" ]; then
  echo "Fetching nftables and iptables ..." >&2
  "$root/scripts/unpack-debian.sh" "$root/.firewall" nftables iptables
fi
echo "$root/.firewall/bin"
