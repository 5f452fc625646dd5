#!/usr/bin/env python3
"""Fails when a line of this repository is wider than 120 columns, and prints the place of each.

Rust, Python, shell, TOML and Makefiles count; of Markdown, prose does: tables, code and lines with a single long word
(an address) may be wider. Generated files are left out. Files that git does not know yet count as well.
"""
import re
import subprocess
import sys
from pathlib import Path

WIDTH = 120
ROOT = Path(__file__).resolve().parent.parent
CHECKED = re.compile(r"(\.(rs|py|sh|toml|md)|(^|/)Makefile|^\.ci/run)$")
GENERATED = "crates/envoy-api/src/generated/"


def prose(lines):
    """The numbered lines of a Markdown file without its tables and its code."""
    fenced = False
    for number, line in lines:
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not (fenced or line.lstrip().startswith("|") or line.startswith("    ")):
            yield number, line


def too_wide(path):
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    if path.suffix == ".md":
        # A word that alone is too wide cannot be wrapped.
        lines = ((number, line) for number, line in prose(lines) if all(len(word) <= WIDTH for word in line.split()))
    return [(number, len(line)) for number, line in lines if len(line) > WIDTH]


def main():
    command = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0")
    found = False
    for name in sorted(set(names)):
        path = ROOT / name
        if CHECKED.search(name) and not name.startswith(GENERATED) and path.is_file():
            for number, width in too_wide(path):
                print(f"{name}:{number}: {width} columns, {WIDTH} at most", file=sys.stderr)
                found = True
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
