"""Degraded copies of the training recordings.

    python tools/train/augment.py CORPORA_DIR OUT_DIR VIEW

writes OUT_DIR/VIEW/<path>.wav (16-bit, 16 kHz, peak 0.9) for every recording outside the test split.
A view is `clean` (the recording itself) or `room<k>`: speed 0.9 to 1.1, an equaliser of six random gains
within 6 dB, then a room (decaying noise, 0.15 to 0.5 s) with probability 0.35 and coloured noise at 10 to
35 dB with probability 0.7, everything drawn from a generator seeded by the view and the recording's path.

`vary` changes the windows that the window network trains on, as they are drawn.
"""

import csv
import sys
import zlib
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

import features

RATE = 16000
# Share of the windows that are warped, and each mask's share.
VARIED = 0.5
# Largest |ln| of a warp's factor.
WARP = 0.12
# Shortest and longest mask, in bands and in frames.
MASKED_BANDS, MASKED_FRAMES = (1, 8), (5, 35)
CENTRES = features.mel_to_hz(np.linspace(0, features.hz_to_mel(RATE / 2), features.BANDS + 2))[1:-1]


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


def vary(x, rng):
    """A window (200, 44) as a vocal tract of another length would give it (the bands' centre frequencies and F0
    divided by one factor; Jaitly and Hinton 2013), with bands and frames hidden (Park et al. 2019)."""
    x, bands = x.copy(), features.BANDS
    if rng.random() < VARIED:
        factor = np.exp(rng.uniform(-WARP, WARP))
        at = np.interp(CENTRES * factor, CENTRES, np.arange(bands))
        low = np.minimum(at.astype(int), bands - 2)
        part = (at - low).astype("f4")
        x[:, :bands] = x[:, low] * (1 - part) + x[:, low + 1] * part
        x[x[:, bands + 2] > 0, bands] -= np.float32(np.log2(factor))
    mean = x[:, :bands].mean()
    if rng.random() < VARIED:
        n = rng.integers(MASKED_BANDS[0], MASKED_BANDS[1] + 1)
        start = rng.integers(0, bands + 1 - n)
        x[:, start : start + n] = mean
    if rng.random() < VARIED:
        n = rng.integers(MASKED_FRAMES[0], MASKED_FRAMES[1] + 1)
        start = rng.integers(0, len(x) - n)
        x[start : start + n, :bands] = mean
        x[start : start + n, bands:] = 0
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
