#!/usr/bin/env python3
"""Fails when git tracks, or is about to track, a file of more than 1 MB, and prints its name and size.

A large file stays in every clone for ever, also after it is removed. What programs need beside the sources is fetched
by scripts (scripts/get-*.sh) into folders that git ignores.
"""
import subprocess
import sys
from pathlib import Path

LIMIT = 1_000_000
ROOT = Path(__file__).resolve().parent.parent


def main():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )
    names = [name for name in listed.stdout.split("\0") if name]
    sizes = {name: (ROOT / name).lstat().st_size for name in names if (ROOT / name).is_file()}
    large = sorted((name, size) for name, size in sizes.items() if size > LIMIT)
    for name, size in large:
        print(f"{name}: {size} bytes, {LIMIT} at most")
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main())
