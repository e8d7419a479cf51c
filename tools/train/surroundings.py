"""Compares what `infer` answers about the same speech in other surroundings.

    python tools/train/surroundings.py CORPORA_DIR OUT_DIR INFER [ARGUMENT...]

takes 200 recordings of the test split, drawn by the hash of their paths, and writes each (16-bit, 16 kHz, 1 s of silence before and behind)
into folders of OUT_DIR: `alone`; with a recording of another speaker, of the same peak, `later` or `earlier`; `earlier by
half a frame` more; and alone, but `moved` by half a frame. INFER, with the ARGUMENTs, answers all of them. Prints, of
the segments and of the windows of 2 s of the recordings alone, the share whose strongest emotion is the same in each folder. A
segment's counterpart is the one that overlaps with it most, and without one it counts as changed. Windows are
compared where both have one at the same place.
"""

import csv
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import soundfile

import augment

RATE = augment.RATE
RECORDINGS = 200
FRAME = RATE // 100
# Windows that begin this close are at the same place, in seconds.
NEAR = 0.006


def surroundings(x, y):
    """Per folder its samples, and how many come before those of `alone`."""
    pause, half = np.zeros(RATE), np.zeros(FRAME // 2)
    alone = np.concatenate([pause, x, pause])
    whole = np.concatenate([y, np.zeros(-len(y) % FRAME)])
    return {
        "alone": (alone, 0),
        "later": (np.concatenate([alone, y]), 0),
        "earlier": (np.concatenate([whole, alone]), len(whole)),
        "earlier by half a frame": (np.concatenate([whole, half, alone]), len(whole) + len(half)),
        "moved": (np.concatenate([half, alone]), len(half)),
    }


def write(corpora, out):
    """Returns each recording's offsets in seconds."""
    with open(Path(corpora) / "manifest.csv", newline="") as f:
        rows = [r for r in csv.DictReader(f) if r["split"] == "test"]
    rows.sort(key=lambda r: zlib.crc32(r["path"].encode()))
    offsets = []
    for k, r in enumerate(rows[:RECORDINGS]):
        other = next(o for o in rows[RECORDINGS + k :] if o["speaker"] != r["speaker"])
        pair = (augment.load(corpora, p["path"]) for p in (r, other))
        places = surroundings(*(0.5 * x / max(np.abs(x).max(), 1e-9) for x in pair))
        for place, (x, _) in places.items():
            (out / place).mkdir(parents=True, exist_ok=True)
            soundfile.write(out / place / f"{k:03}.wav", x, RATE, subtype="PCM_16")
        offsets.append({place: n / RATE for place, (_, n) in places.items()})
    return offsets


def answers(command, folder):
    run = subprocess.run([*command, "--format", "jsonl", folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return {Path(a["file"]).stem: a for a in map(json.loads, run.stdout.splitlines())}


def strongest(window):
    return max(window["emotions"], key=window["emotions"].get)


def overlap(a, b, offset):
    return min(a["end"], b["end"] - offset) - max(a["start"], b["start"] - offset)


def main(corpora, out, *command):
    out = Path(out)
    offsets = write(corpora, out)
    said = {place: answers(command, out / place) for place in offsets[0]}
    for place in list(said)[1:]:
        segments, windows = [], []
        for k, offset in enumerate(offsets):
            alone, among = (said[p].get(f"{k:03}", {}) for p in ("alone", place))
            for s in alone.get("segments", []):
                near = [c for c in among.get("segments", []) if overlap(s, c, offset[place]) > 0]
                best = max(near, key=lambda c: overlap(s, c, offset[place]), default=None)
                segments.append(best is not None and best["strongest"] == s["strongest"])
            for w in alone.get("timeline", []):
                at = [c for c in among.get("timeline", []) if abs(c["start"] - offset[place] - w["start"]) < NEAR]
                windows += [strongest(c) == strongest(w) for c in at[:1]]
        print(f"{place}: {np.mean(segments):.3f} of {len(segments)} segments, {np.mean(windows):.3f} of {len(windows)} windows")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
