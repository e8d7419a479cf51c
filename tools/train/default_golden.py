"""What Keras 2.15 computes with the default networks, for the tests.

    python tools/train/default_golden.py models/default tests/data/voice.wav tests/golden/default.npz

Per network `<role>.in.<k>` (three rows: one recorded, two drawn) and `<role>.out`; and `answer.emotion`,
`answer.gender`, `answer.age`: what the whole way gives for the recording, features by features.py.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import soundfile
from tensorflow import keras

import features


def main(models, recording, out):
    x, rate = soundfile.read(recording, dtype="float64")
    assert rate == features.RATE and x.ndim == 1
    stats, frames = features.extract(x)
    stats = stats.astype("f4")[None]
    windows = np.stack(features.windows(frames)).astype("f4")
    rng = np.random.default_rng(20200)
    net = {p.stem: keras.models.load_model(p, compile=False) for p in sorted(Path(models).glob("*.h5"))}
    arrays = {}

    def run(role, rows):
        """Rows of the recording, then two drawn ones around them."""
        drawn = [np.concatenate([r[:1], r[:1] + rng.normal(0, 0.3, (2, *r.shape[1:]))]).astype("f4") for r in rows]
        for k, d in enumerate(drawn):
            arrays[f"{role}.in.{k}"] = d
        arrays[f"{role}.out"] = net[role].predict(drawn if len(drawn) > 1 else drawn[0], verbose=0)
        return net[role].predict(rows if len(rows) > 1 else rows[0], verbose=0)

    w = run("emotion_windows", [windows]).mean(0, keepdims=True)
    s = run("emotion_features", [stats])
    arrays["answer.emotion"] = run("merge", [w, s])[0]
    arrays["answer.gender"] = run("gender", [stats])[0]
    arrays["answer.age"] = run("age", [stats])[0]
    np.savez_compressed(out, **arrays)
    for k in ("emotion", "gender", "age"):
        print(k, arrays[f"answer.{k}"])


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
