"""Sounds that are no speech, for the speech network.

    python tools/train/negatives.py CORPORA_DIR OUT_DIR [TUNES]

writes OUT_DIR/<kind>/<number>.wav (16-bit, 16 kHz): pieces of the noises in CORPORA_DIR/noise, synthetic tones, hum, clicks,
sweeps, sirens and coloured noise, and music and sound effects that `fluidsynth` plays with the FluidR3 General MIDI
sound font (Debian: fluidsynth, fluid-soundfont-gm) from scores made here. A third of them is band-limited.
"""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

import augment

RATE = augment.RATE
FONT = "/usr/share/sounds/sf2/FluidR3_GM.sf2"
PIECES = 120
TUNES = 700
# General MIDI's sound effects: from the guitar's fret noise to the gunshot.
EFFECTS = range(119, 128)


def time_axis(seconds):
    return np.arange(int(seconds * RATE)) / RATE


def tone(rng):
    t = time_axis(rng.uniform(0.5, 6))
    f = np.exp(rng.uniform(np.log(80), np.log(3000)))
    x = sum(np.sin(2 * np.pi * f * k * t) * rng.uniform(0, 1) / k for k in range(1, rng.integers(2, 9)))
    gate = (np.sin(2 * np.pi * rng.uniform(0.3, 8) * t) > rng.uniform(-1, 0.5)) if rng.random() < 0.6 else 1.0
    return x * gate


def hum(rng):
    t = time_axis(rng.uniform(1, 6))
    f = rng.choice([50, 60, 100, 120]) * rng.uniform(0.99, 1.01)
    x = sum(np.sin(2 * np.pi * (f * k * t + rng.random())) * rng.uniform(0, 1) for k in range(1, 20))
    return x + rng.standard_normal(len(t)) * rng.uniform(0, 0.5)


def clicks(rng):
    t = time_axis(rng.uniform(1, 6))
    x = np.zeros(len(t))
    every = rng.uniform(0.05, 1.2) if rng.random() < 0.5 else None
    at = np.arange(0, t[-1], every) if every else np.sort(rng.uniform(0, t[-1], rng.integers(3, 60)))
    x[(at * RATE).astype(int)] = rng.uniform(0.3, 1, len(at))
    f, width = rng.uniform(300, 5000), rng.uniform(0.001, 0.05)
    k = time_axis(6 * width)
    ring = np.exp(-k / width) * np.sin(2 * np.pi * f * k)
    return signal.fftconvolve(x, ring)[: len(t)]


def sweep(rng):
    t = time_axis(rng.uniform(1, 6))
    rate, depth, f = rng.uniform(0.1, 12), rng.uniform(0.05, 1.2), np.exp(rng.uniform(np.log(100), np.log(1500)))
    wave = np.sin(2 * np.pi * rate * t) if rng.random() < 0.5 else signal.sawtooth(2 * np.pi * rate * t)
    phase = 2 * np.pi * np.cumsum(f * 2 ** (depth * wave)) / RATE
    return sum(np.sin(k * phase) / k * rng.uniform(0, 1) for k in range(1, rng.integers(2, 12)))


def engine(rng):
    t = time_axis(rng.uniform(1.5, 6))
    f = rng.uniform(15, 160) * (1 + 0.1 * np.cumsum(rng.standard_normal(len(t))) / np.sqrt(len(t)))
    pulse = np.maximum(np.sin(2 * np.pi * np.cumsum(f) / RATE), 0) ** rng.integers(2, 12)
    colour = np.fft.rfft(rng.standard_normal(len(t)))
    noise = np.fft.irfft(colour / np.maximum(np.arange(len(colour)), 1) ** rng.uniform(0.2, 1), len(t))
    return pulse + noise / noise.std() * rng.uniform(0, 0.5) * (pulse + rng.uniform(0, 1))


def coloured(rng):
    n = int(rng.uniform(1, 6) * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    x = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** rng.uniform(0, 1.5), n)
    t = np.arange(n) / RATE
    return x * (1 + rng.uniform(0, 1) * np.sin(2 * np.pi * rng.uniform(0.2, 9) * t))


def chirps(rng):
    """Birds and insects: short whistles over a little noise."""
    t = time_axis(rng.uniform(1.5, 6))
    x = rng.standard_normal(len(t)) * rng.uniform(0, 0.03)
    for _ in range(rng.integers(2, 25)):
        k = time_axis(rng.uniform(0.03, 0.4))
        f = rng.uniform(400, 4000) * np.exp(np.linspace(0, rng.uniform(-0.7, 0.7), len(k)))
        note = np.sin(2 * np.pi * np.cumsum(f) / RATE + rng.uniform(0, 5) * np.sin(2 * np.pi * rng.uniform(5, 60) * k))
        at = rng.integers(0, max(1, len(t) - len(k)))
        x[at : at + len(k)] += (note * np.hanning(len(k)))[: len(t) - at]
    return x


SYNTHETIC = dict(tone=tone, hum=hum, clicks=clicks, sweep=sweep, engine=engine, coloured=coloured, chirps=chirps)


def variable(n):
    out = [n & 127]
    while n := n >> 7:
        out.insert(0, n & 127 | 128)
    return bytes(out)


def score(rng):
    """A MIDI file of one to three parts, or of a sound effect."""
    events = []
    parts = rng.integers(1, 4)
    for channel in range(parts):
        drums = rng.random() < 0.15
        on = 9 if drums else channel
        program = rng.choice(list(EFFECTS)) if rng.random() < 0.4 else rng.integers(0, 119)
        events.append((0, bytes([0xC0 | on, program])))
        scale = np.array([0, 2, 4, 5, 7, 9, 11]) if rng.random() < 0.5 else np.array([0, 2, 3, 5, 7, 8, 10])
        at, root = 0, rng.integers(36, 72)
        while at < 480 * rng.integers(6, 12):
            length = int(480 * rng.choice([0.25, 0.5, 1, 2]))
            for _ in range(rng.integers(1, 4)):
                note = rng.integers(35, 60) if drums else root + rng.choice(scale) + 12 * rng.integers(0, 2)
                events += [(at, bytes([0x90 | on, note, rng.integers(50, 127)])), (at + length, bytes([0x80 | on, note, 0]))]
            at += length if rng.random() < 0.85 else 2 * length
    body, last = b"\x00\xff\x51\x03" + int(rng.uniform(3e5, 9e5)).to_bytes(3, "big"), 0
    for at, event in sorted(events, key=lambda e: e[0]):
        body += variable(at - last) + event
        last = at
    body += b"\x00\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480) + b"MTrk" + struct.pack(">I", len(body)) + body


def write(target, x, rng):
    x = augment.random_band(x, rng) if rng.random() < 0.33 else x
    target.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(target, x * (10 ** rng.uniform(-1, -0.05) / max(np.abs(x).max(), 1e-9)), RATE, subtype="PCM_16")


def main(corpora, out, tunes=TUNES):
    out, rng = Path(out), np.random.default_rng(7)
    for file in sorted(Path(corpora).glob("noise/*.wav")):
        x = augment.load(corpora, file.relative_to(corpora))
        for k in range(PIECES):
            n = int(rng.uniform(1, 6) * RATE)
            start = rng.integers(0, len(x) - n)
            write(out / f"noise_{file.stem}" / f"{k}.wav", augment.equalise(x[start : start + n], rng), rng)
    for name, make in SYNTHETIC.items():
        for k in range(PIECES):
            write(out / name / f"{k}.wav", make(rng), rng)
    (out / "tune").mkdir(parents=True, exist_ok=True)
    scores = [out / "tune" / f"{k}.mid" for k in range(int(tunes))]
    for file in scores:
        file.write_bytes(score(rng))
    for file in scores:
        wav = file.with_suffix(".wav")
        subprocess.run(["fluidsynth", "-ni", "-q", "-r", "16000", "-F", wav, FONT, file], check=True, capture_output=True)
        x, _ = soundfile.read(wav, always_2d=True)
        x = x.mean(1)
        n = int(rng.uniform(1.5, 6) * RATE)
        start = rng.integers(0, max(1, len(x) - n))
        write(wav, x[start : start + n], rng)
        file.unlink()


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
