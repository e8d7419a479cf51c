"""Sounds that are no speech, for the speech network.

    python tools/train/negatives.py CORPORA_DIR OUT_DIR [TUNES]

writes OUT_DIR/<kind>/<number>.wav (16-bit, 16 kHz): pieces of the noises in CORPORA_DIR/noise, synthetic tones, hum, clicks,
sweeps, sirens and coloured noise, calls of animals and babies, sneezes, and music and sound effects that `fluidsynth` plays with the FluidR3 General MIDI
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


def smooth(n, points, low, high, rng):
    """A curve of n values through random points between `low` and `high`."""
    return np.interp(np.linspace(0, 1, n), np.linspace(0, 1, points), rng.uniform(low, high, points))


def resonant(x, rng, low, high, count):
    """Through resonances of a throat."""
    y = np.zeros(len(x))
    for _ in range(count):
        f, width = np.exp(rng.uniform(np.log(low), np.log(high))), rng.uniform(60, 400)
        r = np.exp(-np.pi * width / RATE)
        y += signal.lfilter([1 - r], [1, -2 * r * np.cos(2 * np.pi * f / RATE), r * r], x) * rng.uniform(0.3, 1)
    return y


def voiced(f, rough, rng):
    """Pulses of a larynx with the frequencies `f`, `rough` of 0 to 1."""
    f = f * (1 + rough * 0.1 * rng.standard_normal(len(f)).cumsum() / np.sqrt(len(f)))
    phase = np.cumsum(f) / RATE
    x = (phase % 1) ** rng.uniform(1, 4)
    x = x * (1 - rough * rng.uniform(0, 1) * (phase % 2 < 1))
    return np.diff(x, prepend=0) + rng.standard_normal(len(f)) * rng.uniform(0.01, 0.3) * rough


def placed(calls, rng, seconds):
    """Calls one after the other, with pauses between them."""
    x = rng.standard_normal(int(rng.uniform(*seconds) * RATE)) * rng.uniform(0, 0.01)
    at = int(rng.uniform(0, 0.3) * RATE)
    for call, pause in calls:
        if at + len(call) > len(x):
            break
        x[at : at + len(call)] += call / max(np.abs(call).max(), 1e-9) * rng.uniform(0.4, 1)
        at += len(call) + int(pause * RATE)
    return x


def barks(rng):
    """Dogs: short calls with a steep start, growls, howls."""
    middle, kind = np.exp(rng.uniform(np.log(150), np.log(1000))), rng.random()
    calls = []
    for _ in range(30):
        howl = kind > 0.85
        k = time_axis(rng.uniform(0.6, 2) if howl else rng.uniform(0.06, 0.3))
        f = middle * rng.uniform(0.8, 1.2) * 2 ** smooth(len(k), 4, -0.4, 0.4, rng)
        f = rng.uniform(40, 120) * np.ones(len(k)) if kind < 0.15 else f
        envelope = np.minimum(k / rng.uniform(0.002, 0.03), 1) * np.minimum((k[-1] - k) / (0.6 * k[-1]), 1)
        x = resonant(voiced(f, rng.uniform(0.2, 1), rng), rng, 350, 3000, rng.integers(2, 5)) * envelope
        calls.append((x, rng.uniform(0.05, 0.25) if rng.random() < 0.6 else rng.uniform(0.3, 1.5)))
    return placed(calls, rng, (1.5, 6))


def cries(rng):
    """Babies: long high calls that rise and fall, between breaths."""
    middle = rng.uniform(300, 650)
    calls = []
    for _ in range(12):
        k = time_axis(rng.uniform(0.3, 1.8))
        arch = np.sin(np.pi * np.linspace(0, 1, len(k)) ** rng.uniform(0.5, 1.5))
        f = middle * (0.75 + rng.uniform(0.2, 0.6) * arch) * 2 ** smooth(len(k), 5, -0.1, 0.1, rng)
        f = f * (1 + rng.uniform(0, 0.04) * np.sin(2 * np.pi * rng.uniform(4, 12) * k))
        f = f * (2 if rng.random() < 0.1 else 1)
        x = resonant(voiced(f, rng.uniform(0, 0.7), rng), rng, 900, 5000, rng.integers(2, 5)) * arch**0.3
        calls.append((x, rng.uniform(0.05, 0.2)))
        if rng.random() < 0.6:
            n = int(rng.uniform(0.1, 0.4) * RATE)
            calls.append((resonant(rng.standard_normal(n), rng, 1000, 4000, 2) * np.hanning(n) * 0.3, rng.uniform(0, 0.3)))
    return placed(calls, rng, (2, 6))


def crows(rng):
    """Roosters, hens, gulls: bright calls of several notes."""
    calls = []
    middle = rng.uniform(350, 1100)
    for _ in range(20):
        k = time_axis(rng.uniform(0.1, 1.3))
        f = middle * rng.uniform(0.7, 1.3) * 2 ** smooth(len(k), rng.integers(2, 6), -0.5, 0.3, rng)
        x = resonant(voiced(f, rng.uniform(0, 0.6), rng), rng, 800, 4500, rng.integers(2, 5)) * np.hanning(len(k)) ** 0.4
        calls.append((x, rng.uniform(0.02, 0.4) if rng.random() < 0.8 else rng.uniform(0.5, 1.5)))
    return placed(calls, rng, (1.5, 6))


def sneezes(rng):
    """Sneezes and coughs: a breath, then bursts of air with a short voice behind them."""
    calls = []
    for _ in range(8):
        n = int(rng.uniform(0.1, 0.8) * RATE)
        breath = resonant(rng.standard_normal(n), rng, 500, 3000, 2) * np.linspace(0.05, 1, n) ** 2 * rng.uniform(0.05, 0.4)
        k = time_axis(rng.uniform(0.08, 0.4))
        air = resonant(rng.standard_normal(len(k)), rng, 700, 6000, 4) * np.exp(-k / rng.uniform(0.03, 0.15))
        f = rng.uniform(120, 500) * np.exp(-k * rng.uniform(0, 3))
        voice = resonant(voiced(f, 0.8, rng), rng, 400, 2500, 3) * np.exp(-k / 0.1)
        burst = air / np.abs(air).max() + voice / max(np.abs(voice).max(), 1e-9) * rng.uniform(0, 0.8)
        if rng.random() < 0.5:
            calls.append((breath, 0))
        calls.append((burst, rng.uniform(0.02, 0.3) if rng.random() < 0.4 else rng.uniform(0.5, 2)))
    return placed(calls, rng, (1, 6))


SYNTHETIC = dict(tone=tone, hum=hum, clicks=clicks, sweep=sweep, engine=engine, coloured=coloured, chirps=chirps, barks=barks, cries=cries, crows=crows, sneezes=sneezes)


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
