#!/usr/bin/env bash
# Compiles the library to WebAssembly, assembles the npm package and the static site in target/wasm, and tests both in Node and
# headless Chromium:
#   tools/wasm.sh           builds and tests
#   tools/wasm.sh build     builds only
#   tools/wasm.sh test      tests what it has built before
# The compiler is Debian's (rustc-web), which builds its standard library from rust-web-src. Missing packages are installed if
# permitted. If they are unavailable, the script prints that nothing is tested and exits with 0, or with 1 if WASM_REQUIRED=1.
set -euo pipefail
cd "$(dirname "$0")/.."
subject=WEBASSEMBLY required=${WASM_REQUIRED:-0}
. tools/debian_rust.sh

steps=${1:-}
case $steps in build | test) shift ;; esac

target=wasm32-unknown-unknown
folder=${CARGO_TARGET_DIR:-target}
packages="rustc-web rust-web-src lld-22"

missing() {
    ! { "$RUSTC" --version && ls /usr/lib/rustlib/src/rust/library/Cargo.lock && command -v wasm-ld-22; } >/dev/null 2>&1
}

install_packages
command -v node >/dev/null && command -v npm >/dev/null || not_tested "needs Node 18 or later with npm"
version=$(compiler_version) || not_tested "Debian's compiler is older than Cargo.toml asks for"
echo "rustc $version for $target, node $(node --version)"

# Both modules differ in one instruction: engines without relaxed SIMD refuse a module that contains it. The standard library
# is built with this option because the compiler has none for the target.
compile() {
    # Without the names of functions: half a megabyte.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-C target-feature=+simd128" CARGO_TARGET_DIR=$folder/wasm CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-22 \
        CARGO_PROFILE_RELEASE_PANIC=abort \
        cargo rustc -p maeum-ffi --lib --crate-type cdylib --release --target $target -Z build-std=std,panic_abort -Z build-std-features= --no-default-features "$@" -- -C link-arg=--strip-all
}
if [ "$steps" != test ]; then
    modules=$folder/wasm/modules
    mkdir -p "$modules"
    compile
    cp "$folder/wasm/$target/release/maeum_c.wasm" "$modules/maeum.wasm"
    compile --features relaxed-simd
    cp "$folder/wasm/$target/release/maeum_c.wasm" "$modules/maeum-relaxed.wasm"
    node wasm/build.mjs "$modules" "$folder/wasm"
    rm -f "$folder"/wasm/maeum-*.tgz
    (cd "$folder/wasm" && npm pack --silent ./package)
fi
[ "$steps" != build ] || exit 0

unset RUSTC
tools/host_build.sh
infer=$(realpath "$folder/debug/infer")
node wasm/tests/node.mjs "$folder/wasm/package" "$infer" "$@"
# Node 20 has relaxed SIMD behind a flag. The second flag is for processors without FMA3, on which it rounds twice.
if node --experimental-wasm-relaxed-simd -e 0 2>/dev/null; then
    node --experimental-wasm-relaxed-simd wasm/tests/node.mjs "$folder/wasm/package" "$infer" "$@"
    node --experimental-wasm-relaxed-simd --no-enable-fma3 wasm/tests/node.mjs "$folder/wasm/package" "$infer" "$@"
fi
wasm/tests/npm.sh "$folder"/wasm/maeum-*.tgz "$infer"

if ! /usr/bin/chromium --version >/dev/null 2>&1 || ! /usr/bin/chromedriver --version >/dev/null 2>&1; then
    not_tested "the page needs the Debian packages chromium and chromium-driver"
fi
venv=$folder/tmp/page-venv # also that of tests/page.rs
if ! "$venv/bin/python" -c "import selenium" 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-compile -r tests/page/requirements.txt
fi
downloads=$(mktemp -d)
trap 'rm -rf "$downloads"' EXIT
NO_PROXY='*' SE_OFFLINE=true SE_AVOID_STATS=true "$venv/bin/python" -B wasm/tests/browse.py \
    "$(realpath "$folder/debug/serve")" "$PWD/tests/data/voice.wav" "$downloads" "$folder/wasm/site"
