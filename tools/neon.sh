#!/usr/bin/env bash
# Compiles the library for 64-bit ARM and runs tests under emulation (qemu-user):
#   tools/neon.sh                   tests of the networks' arithmetic, with fewer random graphs
#   tools/neon.sh ARGUMENTS         cargo test ARGUMENTS
# The compiler is Debian's (rustc-web), because its standard library for ARM is also a package. Missing
# packages are installed if permitted. If they are unavailable, the script prints that nothing is tested
# and exits with 0, or with 1 if NEON_REQUIRED=1.
set -euo pipefail
cd "$(dirname "$0")/.."
subject=NEON required=${NEON_REQUIRED:-0}
. tools/debian_rust.sh

target=aarch64-unknown-linux-gnu
packages="rustc-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"

missing() {
    local libraries
    libraries=$("$RUSTC" --print target-libdir --target "$target" 2>/dev/null) || return 0
    ! { ls "$libraries"/libstd-*.rlib && command -v aarch64-linux-gnu-gcc qemu-aarch64; } >/dev/null 2>&1
}

install_packages arm64
version=$(compiler_version) || not_tested "Debian's compiler is older than Cargo.toml asks for"
echo "rustc $version for $target, $(qemu-aarch64 --version | head -n 1)"

export CARGO_BUILD_TARGET=$target CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/neon
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# The runner needs no `-L`: the C library is that of libc6:arm64, a dependency of the standard
# library. The cross compiler's own has another loader, and mixing both makes threads hang.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0

if [ $# -gt 0 ]; then
    exec cargo test "$@"
fi
# Other modules contain no ARM instructions and take long to compile.
cargo test --no-default-features --lib -- nn:: simd::
PROPTEST_CASES=${PROPTEST_CASES:-32} cargo test --no-default-features --test engine -- bits:: random::
