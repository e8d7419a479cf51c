#!/usr/bin/env bash
# Builds the C library, checks its header, and compiles and runs the C programs with the sanitizers of gcc:
#   tools/c.sh
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
tools/host_build.sh
cargo test -p maeum-ffi-header
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1
flags="-std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -I ffi/include"
libraries="-lm -lpthread -ldl"
infer=$(realpath "$target/debug/infer")
folder=$target/c
mkdir -p "$folder"
echo '#include <maeum.h>' | ${CXX:-c++} -std=c++11 -Wall -Wextra -Werror -I ffi/include -fsyntax-only -x c++ -
for linked in "$target/debug/libmaeum_c.a" "-L $target/debug -Wl,-rpath,$(realpath "$target/debug") -l:libmaeum_c.so"; do
    ${CC:-gcc} $flags ffi/tests/check.c -o "$folder/check" $linked $libraries
    ${CC:-gcc} $flags ffi/examples/recognize.c -o "$folder/recognize" $linked $libraries
    (cd tests/data && "$infer" --format json voice.wav) >"$folder/wanted.json"
    "$folder/check" tests/data/voice.wav >"$folder/answer.json"
    cmp "$folder/answer.json" "$folder/wanted.json"
    "$folder/recognize" tests/data/voice.wav | sed '2s/"file":"recording"/"file":"voice.wav"/' | cmp - "$folder/wanted.json"
    # A file without speech is refused, with a status and a message.
    if "$folder/recognize" tests/data/formats/sweep.wav 2>"$folder/refusal"; then
        echo "a file without speech was not refused"; exit 1
    fi
    grep -q '^no_speech: recording' "$folder/refusal" || { cat "$folder/refusal"; exit 1; }
    echo "ok ${linked##*libmaeum}"
done
