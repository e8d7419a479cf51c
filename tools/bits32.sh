#!/usr/bin/env bash
# Compiles the library for 32-bit x86 and runs its tests, in which a `usize` has 32 bits as on WebAssembly:
#   tools/bits32.sh                 the tests of the library, but for the longest of arithmetic
#   tools/bits32.sh ARGUMENTS       cargo test ARGUMENTS
# The compiler is Debian's (rustc-web), which builds its standard library from rust-web-src. Missing packages are installed if
# permitted. If they are unavailable, the script prints that nothing is tested and exits with 0, or with 1 if BITS32_REQUIRED=1.
set -euo pipefail
cd "$(dirname "$0")/.."
subject='32 BITS' required=${BITS32_REQUIRED:-0}
. tools/debian_rust.sh

target=i686-unknown-linux-gnu
packages="rustc-web rust-web-src gcc-i686-linux-gnu libc6-dev-i386-cross"

missing() {
    ! { "$RUSTC" --version && ls /usr/lib/rustlib/src/rust/library/Cargo.lock /usr/i686-linux-gnu/lib/libc.a \
        && command -v i686-linux-gnu-gcc; } >/dev/null 2>&1
}

install_packages
version=$(compiler_version) || not_tested "Debian's compiler is older than Cargo.toml asks for"
echo "rustc $version for $target"

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/bits32 CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
export CARGO_TARGET_I686_UNKNOWN_LINUX_GNU_LINKER=i686-linux-gnu-gcc CC_i686_unknown_linux_gnu=i686-linux-gnu-gcc AR_i686_unknown_linux_gnu=i686-linux-gnu-ar
# Static programs need no 32-bit loader. `-Z build-std` needs the variable of the unstable options.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-C target-feature=+crt-static"
if [ $# = 0 ]; then
    # Compilation with optimisation takes longest, and without it these tests of arithmetic. They have little to do with sizes.
    export CARGO_PROFILE_DEV_OPT_LEVEL=0
    set -- --no-default-features --features default-model,convert --lib -- --skip nn::cpu:: --skip simd:: --skip agrees_with_the_definition \
        --skip the_pass_band_is_flat --skip parallel_lanes --skip denoising_in_parts
fi
exec cargo test --target $target -Z build-std "$@"
