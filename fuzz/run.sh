#!/usr/bin/env bash
# Builds every fuzz target and runs each for a time: run.sh [seconds for each] [target ...]
# Prints a table of executions and coverage; fails when a target finds something. Works with stable
# Rust and a C++ compiler. Environment: MAEUM_FUZZ_SANITIZER=address builds with that sanitizer,
# MAEUM_FUZZ_PROGRAM=FILE runs a program that was built before; the build goes to CARGO_TARGET_DIR,
# corpora and findings to MAEUM_FUZZ_WORK.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
shift || true
sanitizer=${MAEUM_FUZZ_SANITIZER:-}
work=${MAEUM_FUZZ_WORK:-$PWD/target/work}
host=$(rustc -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-$PWD/target}/fuzz${sanitizer:+-$sanitizer}

if [ -n "${MAEUM_FUZZ_PROGRAM:-}" ]; then
    program=$MAEUM_FUZZ_PROGRAM
else
    # RUSTC_BOOTSTRAP enables these unstable flags in stable Rust.
    export RUSTC_BOOTSTRAP=1
    flags="--cfg fuzzing -Cpasses=sancov-module"
    for option in level=4 inline-8bit-counters pc-table trace-compares; do
        flags+=" -Cllvm-args=-sanitizer-coverage-$option"
    done
    flags+=${sanitizer:+ -Zsanitizer=$sanitizer}
    # --target excludes build scripts from the flags.
    RUSTFLAGS=$flags CARGO_TARGET_DIR="$build" cargo build --quiet --target "$host" --locked
    program=$build/$host/debug/maeum-fuzz
fi

declare -A longest
targets=()
while read -r name length; do
    longest[$name]=$length
    targets+=("$name")
done < <("$program")
[ $# -eq 0 ] || targets=("$@")

failed=0 all=0
printf '%-14s %12s %9s %9s %9s %7s  %s\n' target executions per_second edges features inputs outcome
for name in "${targets[@]}"; do
    [ -n "${longest[$name]:-}" ] || { echo "there is no target $name"; exit 2; }
    corpus=$work/corpus/$name found=$work/found/$name log=$work/$name.log
    mkdir -p "$corpus" "$found" "$work/seeds/$name" "regressions/$name"
    MAEUM_FUZZ=$name MAEUM_FUZZ_SEEDS=$work/seeds/$name "$program"
    options=(-max_total_time="$seconds" -max_len="${longest[$name]}" -timeout=20 -rss_limit_mb=3000
        -print_final_stats=1 -artifact_prefix="$found/" -reload=0)
    [ -f "dictionaries/$name.dict" ] && options+=(-dict="dictionaries/$name.dict")
    outcome=clean
    MAEUM_FUZZ=$name "$program" "${options[@]}" "$corpus" "$work/seeds/$name" "regressions/$name" \
        >"$log" 2>&1 || { outcome="FOUND, see $log"; failed=1; }
    rmdir "regressions/$name" 2>/dev/null || true
    # Only the last line of its kind counts; after a finding there may be none.
    value() { { grep -aoE "$1" "$log" || echo "x 0"; } | tail -n 1 | grep -oE '[0-9]+' | tail -n 1; }
    runs=$(value 'number_of_executed_units: [0-9]+')
    [ "$runs" != 0 ] || runs=$(value '^#[0-9]+')
    rate=$(value 'average_exec_per_sec: +[0-9]+')
    printf '%-14s %12s %9s %9s %9s %7s  %s\n' "$name" "$runs" "$rate" "$(value 'cov: [0-9]+')" \
        "$(value 'ft: [0-9]+')" "$(find "$corpus" -type f | wc -l)" "$outcome"
    all=$((all + runs))
done
printf '%-14s %12s\n' all "$all"
exit $failed
