#!/usr/bin/env bash
# Rebuilds the default model from a corpora folder (with manifest.csv), seeded, with a log:
#
#     tools/train/rebuild.sh CORPORA OUT [options of train.py]
#
# OUT gets the features, train.log, report.json (cross-validation), the five Keras files and the
# bundle. Needs Rust and Python 3.11; about half an hour on two cores. --no-cv takes an
# OUT/report.json that is there instead of cross-validating.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
corpora=$(realpath "$1")
mkdir -p "$2/features" "$2/augmented"
out=$(realpath "$2")
shift 2
cd "$here/../.."
cargo build --release --bin infer --bin convert
[ -d "$out/venv" ] || python3 -m venv "$out/venv"
"$out/venv/bin/pip" install --quiet --disable-pip-version-check -r tools/train/requirements.txt
dump() { target/release/infer --front-end utterance --dump-features "$out/features/$1.npz" "$2"; }
dump clean "$corpora/manifest.csv"
for view in room1 room2; do
    "$out/venv/bin/python" tools/train/augment.py "$corpora" "$out/augmented" "$view"
    dump "$view" "$out/augmented/$view"
done
"$out/venv/bin/python" tools/train/train.py "$corpora" "$out" --features "$out/features" "$@"
cp models/default/model.json "$out/"
target/release/convert "$out" -o "$out/maeum.safetensors"
