#!/usr/bin/env bash
# Unpacks Debian packages, and what they need that is not installed, without installing anything: nothing else of the
# system changes, and no service is started. Usage: unpack-debian.sh FOLDER PACKAGE...
# Programs go to FOLDER/bin as scripts that find the libraries. A folder that is there already is kept.
set -euo pipefail
folder=$1
shift
[ ! -d "$folder" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# apt downloads as a user of its own, if that may write here.
chmod 0755 "$work"
cd "$work"
needed() { apt-get --simulate install --no-install-recommends "$@" | awk '$1 == "Inst" { print $2 }'; }
fetch() {
  local packages
  # What only sets a system up is not needed to run a program.
  local unused='postgresql(-client)?-common|ssl-cert|debconf|locales.*|lsb-.*|sysvinit-utils|perl.*'
  packages=$(needed "$@" | grep -vxE "$unused")
  # shellcheck disable=SC2086 # one word each
  apt-get download $packages
}
if ! fetch "$@" >log 2>&1; then
  # A fresh machine has no lists of packages yet, or old ones.
  apt-get update >>log 2>&1 && fetch "$@" >>log 2>&1 || {
    cat log >&2
    echo "Cannot fetch $*. Install it by other means" >&2
    exit 1
  }
fi
mkdir -p "$folder.part"
for package in ./*.deb; do
  dpkg-deb --extract "$package" "$folder.part"
done
mkdir -p "$folder.part/bin"
libraries=$(find "$folder.part" -name '*.so.*' -printf '%h\n' | sort -u | sed "s|^$folder.part|$folder|" | paste -sd:)
# Where iptables looks for its extensions.
extensions=$(find "$folder.part" /usr/lib -type d -name xtables | head -n 1)
extensions=${extensions/#$folder.part/$folder}
for program in "$folder.part"/usr/lib/postgresql/*/bin/* "$folder.part"/usr/sbin/*; do
  if [ -f "$program" ] && [ -x "$program" ]; then
    target="$folder.part/bin/${program##*/}"
    printf '#!/bin/sh\nXTABLES_LIBDIR=%q LD_LIBRARY_PATH=%q exec %q "$@"\n' "$extensions" "$libraries" \
      "${program/#$folder.part/$folder}" >"$target"
    chmod 0755 "$target"
  fi
done
# Into place by a rename: an interrupted run leaves no half folder.
mv "$folder.part" "$folder"
