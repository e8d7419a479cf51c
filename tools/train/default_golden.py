"""The outputs of Keras 2.15 for the built-in networks, for the tests.

    python tools/train/default_golden.py models/default tests/data/voice.wav tests/golden/default.npz
    python tools/train/default_golden.py models/commercial tests/data/voice.wav tests/golden/commercial.npz

Per network `<role>.in.<k>` (three rows: one recorded, two drawn) and `<role>.out`; and `answer.emotion`,
`answer.gender`, `answer.age`, `answer.speech`: what the whole way gives for the recording, features by features.py,
segments weighted by their active frames. `narrow.emotion` is the same for the recording with nothing above 4 kHz.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import soundfile
from tensorflow import keras

import features


def low_pass(x):
    """A filter of 511 taps, 4 kHz times a Blackman window; samples of 16 bits, as recordings have."""
    n = np.arange(511) - 255
    taps = 2 * 4000 / features.RATE * np.sinc(2 * 4000 / features.RATE * n) * np.blackman(511)
    return np.round(np.convolve(x, taps, "same") * 32768) / 32768


def segments(x, speaker):
    """Of each segment: its weight, its descriptors, the same for the emotion networks, its windows."""
    found = [a for _, a in features.analyse_segments(x)[0]]
    weights = np.array([a["active"].sum() for a in found], float)
    weights /= weights.sum()
    stats = np.stack([np.concatenate(list(features.stats_groups(a).values())) for a in found]).astype("f4")
    cut = [np.stack(features.windows(features.window_frames(a))).astype("f4") for a in found]
    emotion = stats
    if (below := speaker.get("missing_below")) is not None:
        emotion = features.without_missing_bands(stats, speaker["mean"], below)
    return weights, stats, emotion, cut


def main(models, recording, out):
    x, rate = soundfile.read(recording, dtype="float64")
    assert rate == features.RATE and x.ndim == 1
    speaker = json.loads((Path(models) / "model.json").read_text())["speaker"]
    rng = np.random.default_rng(20200)
    net = {p.stem: keras.models.load_model(p, compile=False) for p in sorted(Path(models).glob("*.h5"))}
    arrays = {}

    def predict(role, rows):
        return net[role].predict(rows if len(rows) > 1 else rows[0], verbose=0)

    def run(role, rows):
        """Rows of the recording, then two drawn ones around them."""
        drawn = [np.concatenate([r[:1], r[:1] + rng.normal(0, 0.3, (2, *r.shape[1:]))]).astype("f4") for r in rows]
        for k, d in enumerate(drawn):
            arrays[f"{role}.in.{k}"] = d
        arrays[f"{role}.out"] = predict(role, drawn)
        return predict(role, rows)

    def emotions(run, emotion, cut):
        of_windows = run("emotion_windows", [np.concatenate(cut)])
        ends = np.cumsum([len(c) for c in cut])
        w = np.stack([of_windows[end - len(c) : end].mean(0) for c, end in zip(cut, ends)])
        return run("merge", [w, run("emotion_features", [emotion, emotion])])

    weights, stats, emotion, cut = segments(x, speaker)
    arrays["answer.emotion"] = weights @ emotions(run, emotion, cut)
    arrays["answer.gender"] = weights @ run("gender", [stats])
    arrays["answer.age"] = weights @ run("age", [stats])
    arrays["answer.speech"] = run("speech", [stats])[:, 0]
    weights, stats, emotion, cut = segments(low_pass(x), speaker)
    arrays["narrow.emotion"] = weights @ emotions(predict, emotion, cut)
    if "missing_below" in speaker and np.array_equal(stats, emotion):
        raise SystemExit("no band is missing from the filtered recording")
    np.savez_compressed(out, **arrays)
    for k in [k for k in arrays if k.startswith(("answer", "narrow"))]:
        print(k, arrays[k])


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
