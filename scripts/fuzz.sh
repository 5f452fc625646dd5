#!/usr/bin/env bash
# Fuzzes what reads strangers' input, with libFuzzer, on the stable toolchain: docs/fuzzing.md.
#   scripts/fuzz.sh SECONDS [TARGET...]     each target for so long; all unless named
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../fuzz"
seconds=${1:?how many seconds for each target}
shift
host=$(rustc -vV | sed -n 's/^host: //p')
# What `cargo fuzz` passes without a sanitizer. All of it is stable; nothing of it changes what the code does.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$(realpath ..)/target/fuzz}
# With a target named, build scripts and macros go without instrumentation. Not --locked: the lock file of this
# workspace follows what the crates of the other one need.
cargo build --quiet --target "$host" --bins

targets=("$@")
if [ ${#targets[@]} = 0 ]; then
  mapfile -t targets < <(ls seeds)
fi
run() {
  local target=$1 corpus=$CARGO_TARGET_DIR/corpus/$1 found=$CARGO_TARGET_DIR/found/$1
  mkdir -p "$corpus" "$found"
  local dictionary=()
  [ ! -f "dictionaries/$target.dict" ] || dictionary=("-dict=dictionaries/$target.dict")
  if ! "$CARGO_TARGET_DIR/$host/debug/$target" "${dictionary[@]}" -max_total_time="$seconds" \
    -timeout=20 -rss_limit_mb=2048 -max_len=8192 \
    -artifact_prefix="$found/" -print_final_stats=1 "$corpus" "seeds/$target" >"$found.log" 2>&1; then
    tail -40 "$found.log"
    echo "$target: a finding, in $found/" >&2
    return 1
  fi
  echo "$target: $(sed -n 's/stat::number_of_executed_units: *//p' "$found.log") inputs," \
    "$(grep -o 'cov: [0-9]*' "$found.log" | tail -1)"
}
# As many at a time as there are processors.
export -f run
export seconds host
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -euo pipefail -c 'run {}'
