"""Test recordings under hard conditions, for `infer --eval`.

    python tools/train/conditions.py CORPORA_DIR OUT_DIR

writes OUT_DIR/<condition>/<path>.wav and OUT_DIR/manifest.csv, whose column `condition` tells them apart, for every recording
of the test split that has an emotion (of CREMA-D, which has most, every third one). Everything is drawn from a generator seeded by the condition and the path.
"""

import csv
import sys
import zlib
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

import augment

RATE = augment.RATE


def room_noise(n, rng):
    """Brownish noise with a little hum, as an empty room has."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    y = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** 0.6, n)
    return y / y.std() + 0.1 * np.sin(2 * np.pi * 50 * np.arange(n) / RATE)


def telephone(x, rng, sources):
    x = augment.band_limit(x, 300, 3400)
    kind = rng.choice(["mu-law", "gsm", "none"])
    return x if kind == "none" else augment.through_codec(x, kind, rng)


def reverberant(x, rng, sources):
    return signal.fftconvolve(x, augment.room(rng, 0.6))[: len(x)]


def surrounded(x, rng, sources):
    level = np.sqrt((x**2).mean()) * 0.1
    noise = level * room_noise(len(x) + 6 * RATE, rng)
    noise[3 * RATE : 3 * RATE + len(x)] += x
    return noise


def white(snr):
    return lambda x, rng, sources: augment.at_ratio(x, rng.standard_normal(len(x)), snr)


def babble(snr):
    return lambda x, rng, sources: augment.at_ratio(x, sources.babble(len(x), rng, 5), snr)


CONDITIONS = {
    "clean": lambda x, rng, sources: x,
    "telephone": telephone,
    "11,025 Hz": lambda x, rng, sources: augment.band_limit(x, 0, 5200),
    "babble 20 dB": babble(20),
    "babble 10 dB": babble(10),
    "white noise 20 dB": white(20),
    "white noise 10 dB": white(10),
    "RT60 0.6 s": reverberant,
    "3 s of noise at -20 dB around": surrounded,
    "first 2 s": lambda x, rng, sources: x[: 2 * RATE],
    "first 1 s": lambda x, rng, sources: x[:RATE],
}


def main(corpora, out):
    sources, out = augment.Sources(corpora), Path(out)
    rows = [r for r in augment.recordings(corpora, ("test",)) if r["emotion"]]
    rows = [r for r in rows if r["corpus"] != "CREMA-D" or zlib.crc32(r["path"].encode()) % 3 == 0]
    written = []
    for number, (condition, change) in enumerate(CONDITIONS.items()):
        for r in rows:
            rng = np.random.default_rng(zlib.crc32(f"{condition}/{r['path']}".encode()))
            x = change(augment.load(corpora, r["path"]), rng, sources)
            path = Path(str(number)) / Path(r["path"]).with_suffix(".wav")
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(out / path, x * (0.5 / max(np.abs(x).max(), 1e-9)), RATE, subtype="PCM_16")
            written.append(dict(r, path=path, condition=condition))
    with open(out / "manifest.csv", "w", newline="") as f:
        writer = csv.DictWriter(f, list(written[0]))
        writer.writeheader()
        writer.writerows(written)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
