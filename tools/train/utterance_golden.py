"""Writes tests/golden/utterance/*.npz: made signals and what features.py computes from them.

    python tools/train/utterance_golden.py tests/golden/utterance

Keys: samples (int16, 16 kHz), kept (first frame, number of frames of the whole recording), active (T,), f0 (T,),
frames (T, 44), stats (770,), windows (k, 200): the frame in each place of each window; groups: names and sizes as text.
segments/*.npz: samples, kept (k, 2): first frame and end of each stretch of speech, stats (k, 770), voiced (1,).
Needs numpy and scipy; written with numpy 1.26.4.
"""

import sys
from pathlib import Path

import numpy as np

import features

RATE = features.RATE


def voice(f0, formant=600.0):
    """Harmonics of a pitch track in Hz, stronger near a formant."""
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    out = np.zeros(len(f0))
    for h in range(1, 16):
        out += np.sin(h * phase) / (1 + ((h * f0 - formant) / 400) ** 2)
    return out


def cases():
    rng = np.random.default_rng(20200)
    time = lambda seconds: np.arange(int(seconds * RATE)) / RATE
    t = time(4.63)
    loud = np.maximum(0, np.sin(2 * np.pi * 1.7 * t)) ** 0.5
    hiss = rng.standard_normal(len(t))
    yield "syllables", 0.15 * voice(140 + 40 * np.sin(2 * np.pi * 0.9 * t)) * loud + 0.002 * hiss
    t = time(2.4)
    yield "high_voice", 0.1 * voice(330 * 2 ** (0.4 * np.sin(2 * np.pi * 1.3 * t)), 900) * (0.3 + t / 2.4) + 0.01 * rng.standard_normal(len(t))
    t = time(0.6)
    yield "short_rise", 0.2 * voice(90 + 80 * t)
    t = time(1.5)
    burst = (t > 0.5) & (t < 0.9)
    yield "burst_in_silence", 0.02 + 0.2 * voice(0 * t + 220) * burst
    yield "noise", 0.1 * rng.standard_normal(int(1.2 * RATE))
    yield "least_bits", np.round(rng.uniform(-1, 1, RATE)) / 32768
    # On digital silence, the pitch of a click would be decided by rounding.
    click = rng.standard_normal(RATE // 2) / 32768
    click[4000] = 0.9
    yield "click", click
    yield "shortest", 0.3 * voice(np.full(400, 200.0))


def long_cases():
    """Recordings of several stretches of speech."""
    rng = np.random.default_rng(20201)
    time = lambda seconds: np.arange(int(seconds * RATE)) / RATE
    t = time(9)
    spoken = ((t > 1) & (t < 2.2)) | ((t > 2.6) & (t < 3.5)) | ((t > 5.5) & (t < 7))
    syllables = np.maximum(0.1, np.sin(2 * np.pi * 2.3 * t)) ** 0.5
    yield "in_noise", 0.15 * voice(150 + 30 * np.sin(2 * np.pi * 0.7 * t)) * syllables * spoken + 0.004 * rng.standard_normal(len(t))
    t = time(18)
    pauses = (np.abs(t - 6) > 0.15) & (np.abs(t - 11) > 0.25)
    yield "long", 0.2 * voice(210 + 50 * np.sin(2 * np.pi * 0.5 * t), 800) * pauses + 0.0003 * rng.standard_normal(len(t))
    yield "noise", 0.1 * rng.standard_normal(2 * RATE)


def write_segments(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, x in long_cases():
        samples = np.clip(np.round(x * 32768), -32768, 32767).astype(np.int16)
        found, voiced = features.analyse_segments(samples / 32768)
        kept = [(start + a["first"], start + a["first"] + len(a["f0"])) for start, a in found]
        stats = np.stack([np.concatenate(list(features.stats_groups(a).values())) for _, a in found])
        np.savez_compressed(
            folder / f"{name}.npz",
            samples=samples,
            kept=np.array(kept, np.uint32),
            stats=stats,
            voiced=np.array([voiced], np.uint8),
        )


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, x in cases():
        samples = np.clip(np.round(x * 32768), -32768, 32767).astype(np.int16)
        a = features.analyse(samples / 32768)
        groups = features.stats_groups(a)
        frames = features.window_frames(a)
        places = features.windows(np.arange(len(frames))[:, None])
        energy = 10 * np.log10(features.mel_power(samples / 32768 - (samples / 32768).mean()).sum(1) + 1e-20)
        active = energy > np.percentile(energy, 95) - features.ACTIVE_DB
        first = max(0, np.flatnonzero(active)[0] - features.MARGIN)
        np.savez_compressed(
            folder / f"{name}.npz",
            samples=samples,
            kept=np.array([first, len(energy)], np.uint32),
            active=a["active"].astype(np.uint8),
            f0=a["f0"],
            frames=frames.astype(np.float32),
            stats=np.concatenate(list(groups.values())),
            windows=np.array(places)[..., 0].astype(np.uint32),
            groups=np.frombuffer("\n".join(f"{k} {len(v)}" for k, v in groups.items()).encode(), np.uint8),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    write_segments(Path(sys.argv[1]) / "segments")
