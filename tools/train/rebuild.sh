#!/usr/bin/env bash
# Rebuilds a model from a corpora folder (with manifest.csv and the folder `noise`), seeded:
#
#     tools/train/rebuild.sh CORPORA OUT               models/default
#     tools/train/rebuild.sh CORPORA OUT commercial    models/commercial, from the freely licensed corpora alone
#
# OUT gets the degraded copies, the features, report.json (what is fitted on the valid split), the Keras
# files and the bundle. Needs Rust, Python 3.11, fluidsynth and the FluidR3 sound font (Debian: fluidsynth,
# fluid-soundfont-gm). Takes hours on two cores.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
corpora=$(realpath "$1")
kind=${3:-default}
mkdir -p "$2/features" "$2/augmented"
out=$(realpath "$2")
cd "$here/../.."
cargo build --release --bin infer --bin convert
[ -d "$out/venv" ] || python3 -m venv "$out/venv"
"$out/venv/bin/pip" install --quiet --disable-pip-version-check -r tools/train/requirements.txt
python="$out/venv/bin/python"
steps=(windows held final)
case $kind in
default) ;;
commercial)
    "$python" tools/train/free.py "$corpora" "$out/corpora"
    corpora=$out/corpora
    steps+=(--commercial)
    ;;
*) echo "no such model: $kind; there are default and commercial" >&2; exit 2 ;;
esac
# Recordings that hold nothing but silence are left out, and make the exit status 1.
dump() { target/release/infer --front-end utterance --dump-features "$out/features/$1.npz" "$2" || [ $? -eq 1 ]; }
dump clean "$corpora/manifest.csv"
for view in band phone noise room mixed; do
    "$python" tools/train/augment.py "$corpora" "$out/augmented" "$view"
    dump "$view" "$out/augmented/$view"
done
"$python" tools/train/negatives.py "$corpora" "$out/negatives"
dump negatives "$out/negatives"
"$python" tools/train/train.py "$corpora" "$out/features" "$out" "${steps[@]}"
target/release/convert "$out" -o "$out/maeum.safetensors"
