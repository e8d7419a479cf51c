#!/usr/bin/env bash
# Checks and measures the CUDA code on a machine with an NVIDIA GPU, and writes the results into
# docs/gpu.md.
#
#     tools/gpu_check.sh build      # on a machine with Rust: puts the programs into target/gpu
#     tools/gpu_check.sh            # on a machine with a GPU: needs target/gpu and no Rust
#     tools/gpu_check.sh kernels    # one part or several: tests sanitizer pytorch networks kernels recordings
#
# target/gpu also holds the kernels' machine code for sm_80 and sm_90 and their PTX, so NVIDIA's driver
# suffices without a run-time compiler. Any other missing program is reported in its part. With
# MAEUM_REFERENCE_DIR set, the tests also compare with the original. A part is ended after PART_SECONDS
# (600 if not set); the results of other parts are kept.
set -euo pipefail
cd "$(dirname "$0")/.."
programs=target/gpu
findings=target/gpu_findings
report=docs/gpu.md
networks=tests/golden
parts=(tests sanitizer pytorch networks kernels recordings)
# Maximum size of target/gpu, in MiB.
most=64

# Prints the executable of a target of this kind in cargo's messages.
built() { grep "\"kind\":\[\"$1\"\]" | sed -n 's/^.*"executable":"\([^"]*\)".*$/\1/p' | tail -n 1; }

build() {
    rm -rf "$programs"
    mkdir -p "$programs"
    local test measure size
    # The features are those of the tests, so that their build is reused.
    test=$(cargo test --no-run --features serve,cuda --test cuda --message-format json | built test)
    measure=$(cargo build --release --features serve,cuda --bench gpu --message-format json | built bench)
    cp "$test" "$programs/tests"
    cp "$measure" "$programs/measure"
    # The tests also run the program.
    cp "$(dirname "$(dirname "$test")")/infer" "$programs/infer"
    pwd >"$programs/root"
    strip "$programs/tests" "$programs/measure" "$programs/infer"
    python3 tools/nvrtc.py --cache "$programs/cache"
    size=$(du -sm "$programs" | cut -f 1)
    echo "$programs: $size MiB"
    [ "$size" -le "$most" ] || { echo "that is more than $most MiB" >&2; exit 1; }
}

skipped() { printf 'Skipped: %s.\n\n' "$1"; }

# Runs a command with the time limit of a part.
limited() {
    if command -v timeout >/dev/null; then timeout "${PART_SECONDS:-600}" "$@"; else "$@"; fi
}

# Runs a command that prints Markdown, and reports a failure.
tables() {
    local status=0
    limited "$@" 2>"$findings/errors" || status=$?
    [ "$status" -eq 0 ] && return
    printf '\nFAILED with code %s (124: it took longer than it may). %s\n\n' "$status" "$(tail -n 1 "$findings/errors")"
    failed=1
}

# Prints the relevant lines of a command's output, and reports a failure.
run() {
    local log status=0
    log=$(mktemp)
    limited "$@" >"$log" 2>&1 || status=$?
    printf '```text\n'
    grep -E '^(RUNS|SKIPPED|test result|=========.*SUMMARY|=========.*Error|ERROR)|FAILED' "$log" | sort | uniq -c || true
    printf '```\n\n'
    if [ "$status" -ne 0 ]; then
        printf 'FAILED with code %s (124: it took longer than it may). The end of what it said:\n\n' "$status"
        printf '```text\n'
        tail -n 15 "$log"
        printf '```\n\n'
        failed=1
    fi
    rm -f "$log"
}

# Tests that run on the GPU: without those of the emulator and of the run-time compiler, and, if
# there is no C++ compiler, without other tests that use the emulator.
without=(--skip the_emulator --skip compile::)
compiler=${CXX:-c++}
command -v "$compiler" >/dev/null ||
    without+=(--skip a_batch_is_done_in_parts --skip running_again --skip a_wide_recurrent --skip recurrent_layers_of
        --skip recognizer:: --skip a_stream_that_is_not_waited_for --skip files_are_answered --skip many_draws_are_taken
        --skip what_the_device_has_no_room_for)

part_tests() {
    printf '### Tests\n\n'
    command -v "$compiler" >/dev/null || skipped "the tests that compare with the emulator; it needs a C++ compiler"
    run "$programs/tests" --nocapture "${without[@]}"
}

part_sanitizer() {
    local tool sanitizer=""
    for tool in "$(command -v compute-sanitizer || true)" /usr/local/cuda*/bin/compute-sanitizer /opt/nvidia/*/compute-sanitizer; do
        [ -x "$tool" ] && sanitizer=$tool && break
    done
    [ -n "$sanitizer" ] || { printf '### compute-sanitizer\n\n'; skipped "compute-sanitizer is not on this machine"; return; }
    for tool in memcheck racecheck; do
        printf '### compute-sanitizer, %s, on the kernels, small networks and the features\n\n' "$tool"
        run "$sanitizer" --tool "$tool" --error-exitcode 9 \
            "$programs/tests" --nocapture "${without[@]}" --skip recognizer:: --skip program:: \
            kernels:: sessions:: timing:: a_batch_after summaries_of
    done
}

part_pytorch() {
    rm -f "$findings/pytorch.csv"
    if ! command -v python3 >/dev/null; then
        printf '### PyTorch\n\n'
        skipped "there is no Python on this machine, so no PyTorch to compare with"
    elif ! python3 -c 'import torch' 2>/dev/null; then
        printf '### PyTorch\n\n'
        skipped "PyTorch is not on this machine"
    else
        tables python3 tools/gpu_check/pytorch.py "$findings/pytorch.csv"
    fi
}

part_networks() {
    local other=()
    [ -s "$findings/pytorch.csv" ] && other=("$findings/pytorch.csv")
    tables "$programs/measure" networks "$networks" "${other[@]}"
}

part_kernels() { tables "$programs/measure" kernels "$networks"; }

part_recordings() { tables "$programs/measure" recordings "$networks"; }

# Prints the card and its driver, also for other tools.
card() {
    local version
    version=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1 || true)
    [ -n "$version" ] || version=$(sed -n 's/^NVRM version:[^0-9]*\([0-9.]*\).*$/\1/p' /proc/driver/nvidia/version 2>/dev/null || true)
    "$programs/measure" device || return
    printf 'driver %s\n' "${version:-not known}"
}

# Inserts the results between the marks.
insert() {
    awk -v new="$1" '
        /<!-- end -->/ { inside = 0 }
        !inside
        /<!-- measured -->/ { inside = 1; print ""; while ((getline line < new) > 0) print line }
    ' "$report" >"$1.page"
    cp "$1.page" "$report"
    rm -f "$1.page"
}

check() {
    local part name
    for program in tests measure infer; do
        [ -x "$programs/$program" ] || { echo "there is no $programs/$program: run $0 build first" >&2; exit 1; }
    done
    # The tests look for their files and the program in the build folder.
    local root
    root=$(cat "$programs/root")
    if ! { [ -e "$root" ] || { mkdir -p "$(dirname "$root")" && ln -s "$PWD" "$root"; }; } ||
        ! { [ -e "$root/target/debug/infer" ] || { mkdir -p "$root/target/debug" && cp "$programs/infer" "$root/target/debug/infer"; }; }; then
        echo "$root cannot be made: tests will not find their files" >&2
    fi
    mkdir -p "$findings" target/tmp
    export XDG_CACHE_HOME=$PWD/$programs/cache MAEUM_CUDA=gpu
    # The program reports what is missing.
    name=$(card) || exit 1
    printf 'On %s, %s.\n\n' "${name//$'\n'/, }" "$(date -u +%Y-%m-%d)" >"$findings/card.md"
    failed=0
    for part; do
        echo "== $part" >&2
        "part_$part" >"$findings/$part.md"
        cat "$findings/$part.md"
    done
    for part in card "${parts[@]}"; do
        if [ -e "$findings/$part.md" ]; then
            cat "$findings/$part.md"
        else
            printf '### %s\n\nIt was not asked for.\n\n' "$part"
        fi
    done >"$findings/all"
    insert "$findings/all"
    [ -z "${OUT:-}" ] || cp "$report" "$OUT/gpu.md"
    exit "$failed"
}

if [ "$*" = build ]; then
    build
    exit
fi
for part; do
    [[ " ${parts[*]} " == *" $part "* ]] || { echo "usage: $0 [build | PART...], with the parts ${parts[*]}" >&2; exit 2; }
done
[ $# -gt 0 ] || set -- "${parts[@]}"
check "$@"
