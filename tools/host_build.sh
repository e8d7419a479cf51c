#!/usr/bin/env bash
# Builds the programs, the C library and the Python module for the tests of tools/python.sh, tools/c.sh and tools/wasm.sh. One command
# builds all of them, because the selected packages decide the features of their dependencies: other features compile everything again.
# With a test among them, the features are those of `cargo test`, which has compiled the library before in .ci/run.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build -p maeum -p maeum-ffi -p maeum-python --lib --bin infer --bin convert --bin serve --test fuzz_replay \
    --features maeum/serve,maeum/cuda,maeum/commercial-model
