"""Degraded copies of the training recordings.

    python tools/train/augment.py CORPORA_DIR OUT_DIR VIEW [VIEW...]

writes OUT_DIR/VIEW/<path>.wav (16-bit, 16 kHz, peak 0.1 to 0.9) for every recording outside the test split.
CORPORA_DIR holds manifest.csv and, in the folder `noise`, recordings of noise. Everything is drawn from a
generator seeded by the view and the recording's path. Views:

  band   a band limit at 3.4, 4 or 5.5 kHz, half of them with a high-pass at 300 Hz, nothing else
  phone  300 to 3400 Hz at 8 kHz, through mu-law, GSM 06.10 or neither
  noise  speed, equaliser, noise or babble at 0 to 20 dB, half of them band-limited
  room   speed, equaliser, an impulse response of a room (image method, RT60 0.2 to 0.8 s), half of them with noise
  mixed  all of these at random, clipping, and MP3 or Vorbis at low rates

`vary` changes the windows that the window network trains on, as they are drawn.
"""

import argparse
import csv
import io
import zlib
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

import features

RATE = 16000
VIEWS = ("band", "phone", "noise", "room", "mixed")
# Share of the windows that are warped, and each mask's share.
VARIED = 0.5
# Largest |ln| of a warp's factor.
WARP = 0.12
# Shortest and longest mask, in bands and in frames.
MASKED_BANDS, MASKED_FRAMES = (1, 8), (5, 35)
CENTRES = features.mel_to_hz(np.linspace(0, features.hz_to_mel(RATE / 2), features.BANDS + 2))[1:-1]
ROOMS = 120
SOUND_SPEED = 343.0


def recordings(corpora, splits=("train", "valid")):
    with open(Path(corpora) / "manifest.csv", newline="") as f:
        return [r for r in csv.DictReader(f) if r["split"] in splits]


def load(corpora, path):
    """Mono at 16 kHz."""
    x, rate = soundfile.read(Path(corpora) / path, dtype="float64", always_2d=True)
    x = x.mean(1)
    if rate != RATE:
        common = np.gcd(rate, RATE)
        x = signal.resample_poly(x, RATE // common, rate // common)
    return x


def band_limit(x, low, high):
    """A pass band with edges as steep as a resampler's. `low` may be 0."""
    n = len(x)
    spectrum = np.fft.rfft(x)
    f = np.arange(len(spectrum)) * RATE / n
    gain = 1 / (1 + (f / high) ** 80)
    if low:
        gain *= 1 / (1 + (low / np.maximum(f, 1e-9)) ** 12)
    return np.fft.irfft(spectrum * gain, n)


def equalise(x, rng):
    n = len(x)
    spectrum = np.fft.rfft(x)
    gain = np.interp(np.linspace(0, 1, len(spectrum)) ** 0.5, np.linspace(0, 1, 6), rng.uniform(-6, 6, 6))
    return np.fft.irfft(spectrum * 10 ** (gain / 20), n)


def change_speed(x, rng):
    return signal.resample_poly(x, 100, int(round(100 * rng.uniform(0.92, 1.08))))


def room(rng, rt60=None):
    """Impulse response of a box-shaped room, image method (Allen and Berkley 1979), one absorption for all walls (Eyring)."""
    size = rng.uniform([3, 3, 2.4], [9, 7, 4])
    rt60 = rt60 or rng.uniform(0.2, 0.8)
    volume, surface = size.prod(), 2 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    reflection = np.sqrt(np.exp(-0.161 * volume / (surface * rt60)))
    source, ear = rng.uniform(0.5, size - 0.5), rng.uniform(0.5, size - 0.5)
    length = int(RATE * min(rt60, 0.5))
    reach = [int(np.ceil(length / RATE * SOUND_SPEED / (2 * s))) for s in size]
    axes = []
    for k in range(3):
        n = np.arange(-reach[k], reach[k] + 1)
        d = np.concatenate([2 * n * size[k] + source[k] - ear[k], 2 * n * size[k] - source[k] - ear[k]])
        bounces = np.concatenate([np.abs(2 * n), np.abs(2 * n - 1)])
        axes.append((d, bounces))
    (dx, bx), (dy, by), (dz, bz) = axes
    plane = (dx[:, None] ** 2 + dy[None] ** 2).ravel()
    plane_bounces = (bx[:, None] + by[None]).ravel()
    out = np.zeros(length)
    for d, b in zip(dz, bz):
        distance = np.sqrt(plane + d * d)
        at = (distance / SOUND_SPEED * RATE).astype(int)
        k = at < length
        out += np.bincount(at[k], reflection ** (plane_bounces[k] + b) / np.maximum(distance[k], 0.1), length)
    out = out[np.flatnonzero(out)[0] :]
    return signal.lfilter([1, -1], [1, -0.98], out)


class Sources:
    """What is mixed into recordings: noises, other speakers, rooms."""

    def __init__(self, corpora):
        self.corpora = corpora
        self.noises = [load(corpora, p.relative_to(corpora)) for p in sorted(Path(corpora).glob("noise/*.wav"))]
        self.others = [r["path"] for r in recordings(corpora, ("train",))]
        rng = np.random.default_rng(1)
        self.rooms = [room(rng) for _ in range(ROOMS)]

    def babble(self, n, rng, voices):
        y = np.zeros(n)
        for _ in range(voices):
            other = load(self.corpora, self.others[rng.integers(len(self.others))])
            other = np.tile(other, -(-n // len(other)))[:n]
            y += np.roll(other, rng.integers(n)) / max(np.sqrt((other**2).mean()), 1e-6)
        return y

    def noise(self, n, rng):
        kind = rng.random()
        if kind < 0.4 and self.noises:
            y = self.noises[rng.integers(len(self.noises))]
        elif kind < 0.7:
            y = self.babble(n, rng, rng.integers(3, 7))
        else:
            spectrum = np.fft.rfft(rng.standard_normal(n))
            y = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** rng.uniform(0, 1.2), n)
        y = np.tile(y, -(-n // len(y)))
        start = rng.integers(len(y) - n + 1)
        return y[start : start + n]


def add_noise(x, sources, rng, low, high):
    return at_ratio(x, sources.noise(len(x), rng), rng.uniform(low, high))


def at_ratio(x, y, snr):
    """x with y `snr` dB under it."""
    return x + y * np.sqrt((x**2).mean() / max((y**2).mean(), 1e-20)) * 10 ** (-snr / 20)


def random_band(x, rng):
    return band_limit(x, 300 * (rng.random() < 0.5), rng.choice([3400, 4000, 5500]))


def through_codec(x, kind, rng):
    """Written and read again; the coders' delays do not matter to labels of whole recordings."""
    file = io.BytesIO()
    x = x * (0.9 / max(np.abs(x).max(), 1e-9))
    if kind in ("mu-law", "gsm"):
        narrow = signal.resample_poly(x, 1, 2)
        subtype = {"mu-law": "ULAW", "gsm": "GSM610"}[kind]
        soundfile.write(file, narrow, RATE // 2, format="WAV", subtype=subtype)
        file.seek(0)
        return signal.resample_poly(soundfile.read(file)[0], 2, 1)
    if kind == "mp3":
        soundfile.write(file, x, RATE, format="MP3", compression_level=rng.uniform(0.6, 0.99))
    else:
        soundfile.write(file, x, RATE, format="OGG", subtype="VORBIS", compression_level=rng.uniform(0.6, 0.99))
    file.seek(0)
    return soundfile.read(file)[0]


def degrade(x, view, path, sources):
    rng = np.random.default_rng(zlib.crc32(f"{view}/{path}".encode()))
    if view == "band":
        x = random_band(x, rng)
    elif view == "phone":
        x = band_limit(x, 300, 3400)
        kind = rng.choice(["mu-law", "gsm", "none"])
        x = x if kind == "none" else through_codec(x, kind, rng)
    elif view == "noise":
        x = add_noise(equalise(change_speed(x, rng), rng), sources, rng, 0, 20)
        x = random_band(x, rng) if rng.random() < 0.5 else x
    elif view == "room":
        x = equalise(change_speed(x, rng), rng)
        n = len(x)
        x = signal.fftconvolve(x, sources.rooms[rng.integers(len(sources.rooms))])[:n]
        x = add_noise(x, sources, rng, 10, 30) if rng.random() < 0.5 else x
        x = random_band(x, rng) if rng.random() < 0.3 else x
    elif view == "mixed":
        x = equalise(change_speed(x, rng), rng)
        n = len(x)
        if rng.random() < 0.3:
            x = signal.fftconvolve(x, sources.rooms[rng.integers(len(sources.rooms))])[:n]
        if rng.random() < 0.5:
            x = add_noise(x, sources, rng, 5, 30)
        if rng.random() < 0.3:
            top = np.abs(x).max() * 10 ** (-rng.uniform(3, 20) / 20)
            x = np.clip(x, -top, top)
        if rng.random() < 0.5:
            x = random_band(x, rng)
        if rng.random() < 0.5:
            x = through_codec(x, rng.choice(["mp3", "ogg", "mu-law", "gsm"]), rng)
    else:
        raise SystemExit(f"no such view: {view}; there are {', '.join(VIEWS)}")
    return x * (10 ** rng.uniform(-1, -0.05) / max(np.abs(x).max(), 1e-9))


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


def main(corpora, out, views):
    sources = Sources(corpora)
    for view in views:
        for r in recordings(corpora):
            x = degrade(load(corpora, r["path"]), view, r["path"], sources)
            target = (Path(out) / view / r["path"]).with_suffix(".wav")
            target.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(target, x, RATE, subtype="PCM_16")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora")
    parser.add_argument("out")
    parser.add_argument("views", nargs="+", choices=VIEWS, metavar="VIEW")
    a = parser.parse_args()
    main(a.corpora, a.out, a.views)
