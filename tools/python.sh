#!/usr/bin/env bash
# Builds the Python package and tests it:
#   tools/python.sh [PYTEST ARGUMENTS]
#   tools/python.sh packages        only installs the packages of the tests
# Needs Python 3.9 or later; the packages of tools/requirements-python.txt are installed in target/python-venv, and Azurite in
# target/azurite.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
venv=$target/python-venv

# Run by one script at a time.
packages() {
    flock 9
    [ -d "$venv" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-compile -r tools/requirements-python.txt
    # The emulator of Azure's storage; without npm its test is skipped, and fails if CI is true.
    if command -v npm >/dev/null; then
        npm install --silent --no-audit --no-fund --prefix "$target/azurite" azurite@3.37.0
    fi
}

mkdir -p "$target"
packages 9>"$target/python-venv.lock"
[ "${1:-}" != packages ] || exit 0

tools/host_build.sh
cp "$target/debug/lib_maeum.so" python/maeum/_maeum.abi3.so
azurite=$target/azurite/node_modules/.bin/azurite-blob
[ ! -e "$azurite" ] || export MAEUM_AZURITE=$(realpath "$azurite")
infer=$(realpath "$target/debug/infer")
python=$(realpath -s "$venv/bin/python")
cd python
DAFT_ANALYTICS_ENABLED=0 MAEUM_INFER=$infer "$python" -m pytest -q --doctest-modules maeum tests "$@"
"$python" -m mypy maeum
"$python" -m mypy.stubtest --mypy-config-file pyproject.toml maeum._maeum
