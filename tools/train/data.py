"""The training data: recordings, their segments' features under every view, speakers' profiles."""

import csv
import zlib
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

import augment
import features

EMOTIONS = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
VIEWS = ("clean", *augment.VIEWS)
# The recordings of a speaker have one channel in these views, so that profiles can be made of them.
PROFILE_VIEWS = ("clean", "phone")
# What may be used commercially with attribution.
FREE = ("CREMA-D", "EmoDB", "speechocean762", "Duke")
FOLDS = 5
CHILD = 12
# Segments that the population's statistics count for beside a speaker's (see profile.rs).
MEAN_PRIOR, DEVIATION_PRIOR = 2.0, 10.0
LEAST_RATIO = 0.0625
BANDS = features.BANDS
PITCH, VOICED = BANDS, BANDS + 2


def _stem(path):
    return PurePosixPath(path.replace("\\", "/")).with_suffix("").parts


class View:
    """Features of all segments under one view: `rows[i]` are those of recording i."""

    def __init__(self, file, paths):
        z = np.load(file)
        names = z["paths_utf8"].tobytes().decode().split("\n")
        stems = {_stem(p): i for i, p in enumerate(paths)}
        lengths = sorted({len(s) for s in stems})
        self.stats = z["stats"]
        self.frames = z["frames"]
        self.end = np.cumsum(z["lengths"])
        self.begin = self.end - z["lengths"]
        self.rows = [[] for _ in paths]
        for row, name in enumerate(names):
            parts = _stem(name)
            found = [stems[parts[-n:]] for n in lengths if parts[-n:] in stems]
            if found:
                self.rows[found[0]].append(row)
        if not (np.isfinite(self.stats).all() and np.isfinite(self.frames).all()):
            raise SystemExit(f"{file}: features hold NaN or infinity")

    def sequence(self, row):
        return self.frames[self.begin[row] : self.end[row]]


class Data:
    def __init__(self, corpora, folder, splits=("train", "valid"), views=VIEWS):
        with open(Path(corpora) / "manifest.csv", newline="") as f:
            rows = [r for r in csv.DictReader(f) if r["split"] in splits]
        self.paths = [r["path"] for r in rows]
        self.split = np.array([r["split"] for r in rows])
        self.corpus = np.array([r["corpus"] for r in rows])
        self.speaker = np.array([r["corpus"] + "/" + r["speaker"] for r in rows])
        self.emotion = np.array([EMOTIONS.index(r["emotion"]) if r["emotion"] else -1 for r in rows])
        self.gender = np.array([{"male": 1, "female": 0}.get(r["gender"], -1) for r in rows])
        self.age = np.array([float(r["age"]) if r["age"] else np.nan for r in rows])
        self.child = (self.corpus == "speechocean762") & ~(self.age >= CHILD)
        self.free = np.isin(self.corpus, FREE)
        heard = [EMOTIONS.index(r["heard"]) if r.get("heard") else -1 for r in rows]
        share = [float(r["heard_share"]) if r.get("heard_share") else 0.0 for r in rows]
        self.heard, self.heard_share = np.array(heard), np.array(share)
        self.views = {v: View(Path(folder) / f"{v}.npz", self.paths) for v in views}
        clean = self.views["clean"]
        lost = [i for i, rows in enumerate(clean.rows) if not rows]
        if lost:
            print(f"{len(lost)} recordings without features, first {self.paths[lost[0]]}")
        self.present = np.array([bool(r) for r in clean.rows])
        self.fold = np.full(len(rows), -1)
        for c in np.unique(self.corpus):
            k = 0
            for g in (0, 1, -1):
                names = set(self.speaker[(self.corpus == c) & (self.gender == g)])
                for s in sorted(names, key=lambda s: zlib.crc32(s.split("/", 1)[1].encode())):
                    m = self.speaker == s
                    if self.fold[m][0] < 0:
                        self.fold[m] = k % FOLDS
                        k += 1
        self.speakers = {}
        for i in np.flatnonzero(self.present):
            self.speakers.setdefault(self.speaker[i], []).append(i)
        self.speakers = {s: np.array(i) for s, i in self.speakers.items()}
        self.frame_sums = {v: self._frame_sums(v) for v in PROFILE_VIEWS if v in self.views}

    def __len__(self):
        return len(self.paths)

    def _frame_sums(self, view):
        """Per recording: sums of the levels, frames, sum of the pitch, voiced frames."""
        out = np.zeros((len(self), BANDS + 3))
        v = self.views[view]
        for i, rows in enumerate(v.rows):
            for r in rows:
                f = v.sequence(r)
                voiced = f[:, VOICED] > 0
                out[i, :BANDS] += f[:, :BANDS].sum(0)
                out[i, BANDS:] += len(f), f[voiced, PITCH].sum(), voiced.sum()
        return out


class Population:
    """What profiles are relative to: mean and deviation of descriptors and frames over recordings."""

    def __init__(self, data, mask, views=VIEWS):
        rows = np.concatenate([data.views[v].stats[[r for i in np.flatnonzero(mask) for r in data.views[v].rows[i]]] for v in views])
        self.mean, self.deviation = rows.mean(0, dtype="f8"), np.maximum(rows.std(0, dtype="f8"), 1e-6)
        sums = data.frame_sums["clean"][mask].sum(0)
        self.frames = np.append(sums[:BANDS] / sums[BANDS], sums[BANDS + 1] / sums[BANDS + 2])


class Profile:
    """Mean and spread over recordings of one speaker; `None` for the population."""

    def __init__(self, data, view, recordings, population):
        v = data.views[view]
        rows = [r for i in recordings for r in v.rows[i]]
        n = self.n = len(rows)
        if n == 0:
            return
        share = n / (n + MEAN_PRIOR)
        self.of_stats = v.stats, rows, population, share
        sums = data.frame_sums[view][recordings].sum(0)
        frames = np.append(sums[:BANDS] / max(sums[BANDS], 1), sums[BANDS + 1] / max(sums[BANDS + 2], 1))
        self.shift = (share * (population.frames - frames)).astype("f4")

    @cached_property
    def centre_and_spread(self):
        """Of the descriptors; what reads frames alone does not need them."""
        stats, rows, p, share = self.of_stats
        own = stats[rows].astype("f8")
        mean = own.mean(0)
        squares = ((own - mean) ** 2).sum(0)
        ratio = (DEVIATION_PRIOR + squares / p.deviation**2) / (DEVIATION_PRIOR + self.n - 1)
        return p.mean + share * (mean - p.mean), np.sqrt(np.maximum(ratio, LEAST_RATIO))

    def stats(self, x):
        if self.n == 0:
            return x
        centre, spread = self.centre_and_spread
        return self.of_stats[2].mean + (x - centre) / spread

    def both(self, x):
        """Descriptors as they are, and relative to the speaker."""
        return np.concatenate([x, self.stats(x)], -1)

    def frames(self, f):
        if self.n == 0:
            return f
        f = f.copy()
        f[:, :BANDS] += self.shift[:BANDS]
        f[f[:, VOICED] > 0, PITCH] += self.shift[BANDS]
        return f


SIZES = (0, 1, 3, 10, None)


def draw_profile(data, i, view, population, rng, size, neutral=False):
    """A profile of `size` other recordings of i's speaker (None: all), of neutral ones where there are some and
    `neutral` is set."""
    if size == 0 or view not in PROFILE_VIEWS:
        return Profile(data, "clean", np.array([], int), population)
    others = data.speakers[data.speaker[i]]
    others = others[others != i]
    if neutral and (data.emotion[others] == EMOTIONS.index("neutral")).any():
        others = others[data.emotion[others] == EMOTIONS.index("neutral")]
    if size is not None and len(others) > size:
        others = rng.choice(others, size, replace=False)
    return Profile(data, view, others, population)
