"""Degraded copies of the training recordings.

    python tools/train/augment.py CORPORA_DIR OUT_DIR VIEW

writes OUT_DIR/VIEW/<path>.wav (16-bit, 16 kHz, peak 0.9) for every recording outside the test split.
A view is `clean` (the recording itself) or `room<k>`: speed 0.9 to 1.1, an equaliser of six random gains
within 6 dB, then a room (decaying noise, 0.15 to 0.5 s) with probability 0.35 and coloured noise at 10 to
35 dB with probability 0.7, everything drawn from a generator seeded by the view and the recording's path.
"""

import csv
import sys
import zlib
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

RATE = 16000


def recordings(corpora, splits=("train", "valid")):
    with open(Path(corpora) / "manifest.csv", newline="") as f:
        return [r for r in csv.DictReader(f) if r["split"] in splits]


def degrade(x, view, path):
    if view == "clean":
        return x
    rng = np.random.default_rng(zlib.crc32(f"{view}/{path}".encode()))
    x = signal.resample_poly(x, 100, int(round(100 * rng.uniform(0.9, 1.1))))
    n = len(x)
    spectrum = np.fft.rfft(x)
    gain = np.interp(np.linspace(0, 1, len(spectrum)) ** 0.5, np.linspace(0, 1, 6), rng.uniform(-6, 6, 6))
    x = np.fft.irfft(spectrum * 10 ** (gain / 20), n)
    kind = rng.random()
    if kind < 0.35:
        t = np.arange(4800)
        tail = rng.standard_normal(4800) * np.exp(-t / RATE * 6.9 / rng.uniform(0.15, 0.5))
        tail *= 10 ** (-rng.uniform(5, 15) / 20) / np.sqrt((tail**2).sum())
        tail[0] = 1.0
        x = signal.fftconvolve(x, tail)[:n]
    if kind > 0.3:
        colour = rng.uniform(0, 1.2)
        noise = np.fft.rfft(rng.standard_normal(n))
        noise = np.fft.irfft(noise / np.maximum(np.arange(len(noise)), 1) ** colour, n)
        snr = rng.uniform(10, 35)
        x = x + noise * np.sqrt((x**2).mean() / (noise**2).mean()) * 10 ** (-snr / 20)
    return x


def load(corpora, path):
    x, rate = soundfile.read(Path(corpora) / path, dtype="float64")
    if rate != RATE or x.ndim != 1:
        raise SystemExit(f"{path}: expected mono at {RATE} Hz")
    return x


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    corpora, out, view = sys.argv[1:]
    for r in recordings(corpora):
        x = degrade(load(corpora, r["path"]), view, r["path"])
        target = (Path(out) / view / r["path"]).with_suffix(".wav")
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(target, x * (0.9 / max(np.abs(x).max(), 1e-9)), RATE, subtype="PCM_16")
