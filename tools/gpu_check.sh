#!/usr/bin/env bash
# Checks and measures the CUDA side on a machine with an NVIDIA GPU, and writes what it finds into
# docs/gpu.md.
#
#     tools/gpu_check.sh build      # where Rust is: puts the programs into target/gpu
#     tools/gpu_check.sh            # where the GPU is: needs target/gpu and no Rust
#
# target/gpu also holds the kernels' machine code for sm_80 and sm_90, so that such a card needs
# no run-time compiler. With MAEUM_REFERENCE_DIR set, the tests compare with the original too.
set -euo pipefail
cd "$(dirname "$0")/.."
programs=target/gpu
report=docs/gpu.md
network=tests/golden/arch_emotion_windows.h5

# The program that cargo names for a test or an example.
built() { sed -n 's/^.*"executable":"\([^"]*\)".*$/\1/p' | tail -n 1; }

build() {
    mkdir -p "$programs"
    local test example
    test=$(cargo test --no-run --features cuda --test cuda --message-format json | built)
    example=$(cargo build --release --features cuda --example gpu --message-format json | built)
    cp "$test" "$programs/tests"
    cp "$example" "$programs/measure"
    pwd >"$programs/root"
    strip "$programs/tests" "$programs/measure"
    python3 tools/nvrtc.py --cache "$programs/cache"
}

# TFLOP/s in float32 without tensor cores and TB/s, from NVIDIA's data sheets.
peaks() {
    case $1 in
        *H200*) echo 66.9 4.8 ;;
        *H100*PCIe*) echo 51.2 2.0 ;;
        *H100*) echo 66.9 3.35 ;;
        *A100*80GB*) echo 19.5 2.0 ;;
        *A100*) echo 19.5 1.555 ;;
    esac
}

# What the program says that matters, and whether it failed.
run() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 || status=$?
    printf '```text\n'
    grep -E '^(RUNS|SKIPPED|test result|=========.*SUMMARY|ERROR)|FAILED|panicked' "$log" | sort | uniq -c || true
    printf '```\n\n'
    rm -f "$log"
    [ "$status" -eq 0 ] || { printf 'FAILED with code %s.\n\n' "$status"; failed=1; }
}

check() {
    local card
    card=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -n 1)
    printf '%s\n\n' "On $card, $(date -u +%Y-%m-%d)."

    printf '### Tests\n\n'
    # What tests the emulator and the compiler themselves needs those.
    run "$programs/tests" --nocapture --skip the_emulator --skip compile::

    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck; do
            printf '### compute-sanitizer, %s, on the kernels and the features\n\n' "$tool"
            run compute-sanitizer --tool "$tool" --error-exitcode 9 \
                "$programs/tests" --nocapture --skip the_emulator kernels:: a_batch_after summaries_of
        done
    else
        printf 'Skipped: compute-sanitizer is not on this machine.\n\n'
    fi

    # shellcheck disable=SC2046 # two numbers, or none
    "$programs/measure" "$network" $(peaks "$card") || { printf 'FAILED: the measurements.\n\n'; failed=1; }

    if python3 -c 'import torch' 2>/dev/null; then
        python3 tools/gpu_check/pytorch.py || { printf 'FAILED: PyTorch.\n\n'; failed=1; }
    else
        printf 'Skipped: PyTorch is not on this machine.\n\n'
    fi
}

# Puts the findings between the marks.
insert() {
    awk -v new="$1" '
        /<!-- end -->/ { inside = 0 }
        !inside
        /<!-- measured -->/ { inside = 1; print ""; while ((getline line < new) > 0) print line }
    ' "$report" >"$1.page"
    cp "$1.page" "$report"
}

case ${1:-check} in
    build) build ;;
    check)
        for program in tests measure; do
            [ -x "$programs/$program" ] || { echo "there is no $programs/$program: run $0 build first" >&2; exit 1; }
        done
        command -v nvidia-smi >/dev/null || { echo "there is no nvidia-smi, so no GPU to check" >&2; exit 1; }
        # The tests look for their files where they were built.
        root=$(cat "$programs/root")
        [ -e "$root" ] || { mkdir -p "$(dirname "$root")" && ln -s "$PWD" "$root"; }
        export XDG_CACHE_HOME=$PWD/$programs/cache MAEUM_CUDA=gpu
        found=$(mktemp)
        trap 'rm -f "$found" "$found.page"' EXIT
        failed=0
        check >"$found"
        cat "$found"
        insert "$found"
        [ -z "${OUT:-}" ] || cp "$report" "$OUT/gpu.md"
        exit "$failed"
        ;;
    *) echo "usage: $0 [build]" >&2; exit 2 ;;
esac
