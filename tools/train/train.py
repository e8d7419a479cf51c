"""Trains the default networks.

    python tools/train/train.py CORPORA_DIR OUT_DIR [--features DIR] [--no-cv] [--jobs N]

Features come from DIR/<view>.npz when given, as `infer --dump-features` writes them (keys: paths_utf8, stats
(n, N), lengths (n,), frames (sum T, 44)), else from features.py, cached in OUT_DIR/features. Cross-validation
by speaker (5 folds over train + valid) gives the numbers of the log and the merge network's two weights; then
every network is trained on all of train + valid. Writes emotion_windows.h5, emotion_features.h5, merge.h5,
gender.h5, age.h5, report.json.
"""

import argparse
import json
import os
import time
import zlib
from multiprocessing import Pool, get_context
from pathlib import Path, PurePosixPath

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
from scipy.optimize import minimize

import augment
import features
from measures import calibration_error, fit_merge, softmax, uar
from networks import average_windows, finish, keras_modules, predict_windows, round_kernels, stats_trunk, window_model

EMOTIONS = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
FREE = ("EmoDB", "speechocean762")
VIEWS = ("clean", "room1", "room2")
# The statistics networks learn from these; the window network draws from all.
STATS_VIEWS = ("clean", "room1")
FOLDS = 5
SEED = 20200
# Between the seeds of networks that are averaged.
MEMBER = 1000
PARTS = ("emotion_windows", "emotion_features", "gender", "age")
# The years that the age network's branches are scaled by while they train.
AGE_CENTRE, AGE_SCALE = 21.0, 9.0
CHILD = 12

STATS = dict(branches=3, units=112, drop_in=0.4, drop=0.4, smoothing=0.1, epochs=30, batch=64, rate=2e-3)
WINDOWS = dict(members=2, conv=(64, 96), gru=48, units=64, drop_conv=0.1, drop=0.3, smoothing=0.05, epochs=80, batch=32, rate=2e-3)
GENDER = dict(branches=2, units=64, drop_in=0.5, drop=0.3, smoothing=0.05, epochs=20, batch=32, rate=2e-3)
AGE = dict(branches=2, units=64, drop_in=0.2, drop=0.3, epochs=40, batch=32, rate=2e-3)
# Share of training windows drawn from a degraded view.
DEGRADED = 0.4
# Sample weight: (recordings in the corpus)^-a * (share of the class in the corpus)^-b.
CORPUS_POWER, CLASS_POWER = 0.7, 0.5

LOG = None


def say(*words):
    line = " ".join(str(w) for w in words)
    print(line, flush=True)
    LOG.write(line + "\n")
    LOG.flush()


# ---- data -------------------------------------------------------------------------------------------


class Data:
    def __init__(self, corpora):
        rows = augment.recordings(corpora)
        self.paths = [r["path"] for r in rows]
        self.corpus = np.array([r["corpus"] for r in rows])
        self.speaker = np.array([r["corpus"] + "/" + r["speaker"] for r in rows])
        self.emotion = np.array([EMOTIONS.index(r["emotion"]) if r["emotion"] else -1 for r in rows])
        self.gender = np.array([{"male": 1, "female": 0}.get(r["gender"], -1) for r in rows])
        self.age = np.array([float(r["age"]) if r["age"] else np.nan for r in rows])
        self.child = (self.corpus == "speechocean762") & ~(self.age >= CHILD)
        self.free = np.isin(self.corpus, FREE)
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

    def __len__(self):
        return len(self.paths)


def _extract(job):
    corpora, view, path = job
    s, f = features.extract(augment.degrade(augment.load(corpora, path), view, path))
    return s.astype("f4"), f.astype("f4")


def recorded_paths(z):
    """The recordings of an npz of features, in the order of its rows."""
    if "paths_utf8" in z:
        return z["paths_utf8"].tobytes().decode().split("\n")
    return z["paths"].tolist()


def rows_of(wanted, names, file):
    """The row of each wanted recording. Folders before the manifest's path and the extension do not count:
    degraded copies are WAV files in another folder than the FLAC files that they were made from."""

    def stem(path):
        return PurePosixPath(path.replace("\\", "/")).with_suffix("").parts

    stems = {stem(p) for p in wanted}
    if len(stems) < len(wanted):
        raise SystemExit("the manifest has recordings that differ in their extension alone")
    lengths = sorted({len(s) for s in stems})
    at = {}
    for row, name in enumerate(names):
        parts = stem(name)
        for key in (parts[-n:] for n in lengths):
            if key in stems and at.setdefault(key, row) != row:
                raise SystemExit(f"{file}: two rows for {'/'.join(key)}: {names[at[key]]} and {name}")
    missing = [p for p in wanted if stem(p) not in at]
    if missing:
        raise SystemExit(f"{file}: no features for {missing[0]} and {len(missing) - 1} more")
    return [at[stem(p)] for p in wanted]


def load_views(data, corpora, folder, computed, jobs):
    stats, frames = {}, {}
    for view in VIEWS:
        file = Path(folder) / f"{view}.npz"
        if computed and not file.exists():
            start = time.time()
            with Pool(jobs) as pool:
                out = pool.map(_extract, [(corpora, view, p) for p in data.paths], chunksize=16)
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(
                file,
                paths=np.array(data.paths),
                stats=np.stack([s for s, _ in out]),
                lengths=np.array([len(f) for _, f in out]),
                frames=np.concatenate([f for _, f in out]),
            )
            say(f"features {view}: {time.time() - start:.0f} s")
        z = np.load(file)
        order = rows_of(data.paths, recorded_paths(z), file)
        stats[view] = z["stats"].astype("f8")[order]
        end = np.cumsum(z["lengths"])
        begin = end - z["lengths"]
        all_frames = z["frames"]
        frames[view] = [np.asarray(all_frames[begin[i] : end[i]], "f4") for i in order]
        if not (np.isfinite(stats[view]).all() and np.isfinite(all_frames).all()):
            raise SystemExit(f"{file}: features hold NaN or infinity")
    return stats, frames


def emotion_weights(data, mask):
    w = np.zeros(len(data))
    for c in np.unique(data.corpus[mask]):
        n = float((mask & (data.corpus == c)).sum())
        for e in range(len(EMOTIONS)):
            k = mask & (data.corpus == c) & (data.emotion == e)
            if k.any():
                w[k] = n**-CORPUS_POWER * (k.sum() / n) ** -CLASS_POWER
    return w / w[mask].mean()


def gender_weights(data, mask):
    """Every corpus and gender weighs the same."""
    w = np.zeros(len(data))
    for c in np.unique(data.corpus[mask]):
        for g in (0, 1):
            k = mask & (data.corpus == c) & (data.gender == g)
            w[k] = 1 / max(k.sum(), 1)
    return w / w[mask].mean()


def corpus_weights(data, mask):
    w = np.zeros(len(data))
    for c in np.unique(data.corpus[mask]):
        k = mask & (data.corpus == c)
        w[k] = float(k.sum()) ** -0.5
    return w / w[mask].mean()


# ---- training ---------------------------------------------------------------------------------------


def fit_stats(stats, target, mask, weight, outputs, loss, cfg, seed):
    """Trains the branches side by side on every view; returns a model of one averaged output."""
    tf, keras, L = keras_modules()
    keras.utils.set_random_seed(seed)
    clean = stats[VIEWS[0]][mask]
    i, branches = stats_trunk(clean.shape[1], outputs, cfg, clean.mean(0), clean.std(0))
    model = keras.Model(i, branches)
    x = np.concatenate([stats[v][mask] for v in STATS_VIEWS]).astype("f4")
    y = np.tile(target[mask], (len(STATS_VIEWS), 1)).astype("f4")
    w = np.tile(weight[mask], len(STATS_VIEWS)).astype("f4")
    k = cfg["branches"]
    d = tf.data.Dataset.from_tensor_slices((x, y, w)).shuffle(len(x), seed=seed).batch(cfg["batch"])
    d = d.map(lambda x, y, w: (x, (y,) * k, (w,) * k)).prefetch(2)
    rate = keras.optimizers.schedules.CosineDecay(cfg["rate"], cfg["epochs"] * len(d))
    model.compile(keras.optimizers.Adam(rate), loss=[loss(keras, "sum_over_batch_size")] * k)
    model.fit(d, epochs=cfg["epochs"], verbose=0)
    return keras.Model(i, L.Average(name="logits")(branches))


def fit_windows(frames, target, mask, weight, loss, cfg, seed):
    tf, keras, L = keras_modules()
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = window_model(cfg, target.shape[1])
    index = np.flatnonzero(mask)
    steps = len(index) // cfg["batch"]
    rate = keras.optimizers.schedules.CosineDecay(cfg["rate"], cfg["epochs"] * steps)
    optimiser = keras.optimizers.Adam(rate, clipnorm=1.0)
    loss = loss(keras, "none")

    @tf.function
    def step(x, y, w):
        with tf.GradientTape() as tape:
            total = tf.reduce_mean(loss(y, model(x, training=True)) * w) + tf.add_n(model.losses)
        grads = tape.gradient(total, model.trainable_variables)
        optimiser.apply_gradients(zip(grads, model.trainable_variables))

    target = target.astype("f4")
    for _ in range(cfg["epochs"]):
        order = rng.permutation(index)
        for b in range(steps):
            chosen = order[b * cfg["batch"] : (b + 1) * cfg["batch"]]
            x = []
            for r in chosen:
                view = VIEWS[rng.integers(1, len(VIEWS))] if rng.random() < DEGRADED else VIEWS[0]
                f = frames[view][r]
                if len(f) < features.WINDOW:
                    f = features.windows(f)[0]
                else:
                    s = rng.integers(0, len(f) - features.WINDOW + 1)
                    f = f[s : s + features.WINDOW]
                x.append(augment.vary(f, rng))
            step(np.stack(x), target[chosen], weight[chosen].astype("f4"))
    return model


# ---- measures ---------------------------------------------------------------------------------------


def emotion_report(data, p, name):
    m = data.emotion >= 0
    out = {"pooled": uar(data.emotion[m], p[m].argmax(1)), "ece": calibration_error(p[m], data.emotion[m])}
    for c in np.unique(data.corpus[m]):
        k = m & (data.corpus == c)
        out[c] = uar(data.emotion[k], p[k].argmax(1))
    say(name, json.dumps({k: round(v, 3) for k, v in out.items()}))
    return out


# ---- the whole --------------------------------------------------------------------------------------


def categorical(smoothing):
    return lambda keras, how: keras.losses.CategoricalCrossentropy(True, label_smoothing=smoothing, reduction=how)


def binary(smoothing):
    return lambda keras, how: keras.losses.BinaryCrossentropy(True, label_smoothing=smoothing, reduction=how)


def absolute(keras, how):
    return keras.losses.MeanAbsoluteError(reduction=how)


class Trainer:
    def __init__(self, data, stats, frames):
        self.data, self.stats, self.frames = data, stats, frames
        self.one_hot = np.eye(len(EMOTIONS))[np.maximum(data.emotion, 0)]
        self.years = ((data.age - AGE_CENTRE) / AGE_SCALE)[:, None]

    def emotion_features(self, mask, seed):
        w = emotion_weights(self.data, mask)
        return fit_stats(self.stats, self.one_hot, mask, w, len(EMOTIONS), categorical(STATS["smoothing"]), STATS, seed)

    def emotion_windows(self, mask, seed):
        w = emotion_weights(self.data, mask)
        return fit_windows(self.frames, self.one_hot, mask, w, categorical(WINDOWS["smoothing"]), WINDOWS, seed)

    def gender(self, mask, seed):
        w = gender_weights(self.data, mask)
        return fit_stats(self.stats, self.data.gender[:, None], mask, w, 1, binary(GENDER["smoothing"]), GENDER, seed)

    def age(self, mask, seed):
        return fit_stats(self.stats, self.years, mask, corpus_weights(self.data, mask), 1, absolute, AGE, seed)

    def masks(self):
        d = self.data
        return dict(emotion=d.emotion >= 0, gender=(d.gender >= 0) & ~d.child, age=~np.isnan(d.age) & d.free)


TRAINER = None


def _start(corpora, folder):
    global TRAINER
    data = Data(corpora)
    TRAINER = Trainer(data, *load_views(data, corpora, folder, False, 1))


def members_of(part):
    return WINDOWS["members"] if part == "emotion_windows" else 1


def _fold(job):
    """Held-out outputs of one network for one fold."""
    part, f, k = job
    start, t = time.time(), TRAINER
    held, seed = t.data.fold == f, SEED + f + MEMBER * k
    mask = t.masks()[part.split("_")[0]] & ~held
    net = getattr(t, part)(mask, seed)
    if part.endswith("windows"):
        rows = np.flatnonzero(held)
        z = predict_windows(net, [t.frames[VIEWS[0]][r] for r in rows])
    else:
        z = net.predict(t.stats[VIEWS[0]][held].astype("f4"), verbose=0)
    return part, f, k, z, time.time() - start


def forget_names():
    """Layers are named by counting; files must not depend on what a process built before."""
    keras_modules()[1].backend.clear_session()


def _network(job):
    """One final network: saved, or its weights where it is a member of an average."""
    part, k, file, *last = job
    start, t = time.time(), TRAINER
    forget_names()
    net = getattr(t, part)(t.masks()[part.split("_")[0]], SEED + MEMBER * k)
    if file is None:
        return part, k, net.get_weights(), 0, time.time() - start
    if last:
        net = finish(net, *last)
    round_kernels(net).save(file, include_optimizer=False)
    return part, k, None, net.count_params(), time.time() - start


def cross_validate(pool, data):
    """Held-out outputs by part, (members, recordings, outputs)."""
    out = {p: np.zeros((members_of(p), len(data), 7 if p.startswith("emotion") else 1)) for p in PARTS}
    jobs = [(p, f, k) for p in PARTS for k in range(members_of(p)) for f in range(FOLDS)]
    for part, f, k, z, seconds in pool.imap_unordered(_fold, jobs, chunksize=1):
        out[part][k, data.fold == f] = z
        say(f"{part} {k} fold {f}: {seconds:.0f} s")
    return out


def report(data, members, zs, zg, za):
    m = data.emotion >= 0
    zw = members.mean(0)
    wa, wb = fit_merge(zw[m], zs[m], data.emotion[m])
    out = {"merge": [float(wa), float(wb)]}
    for k, z in enumerate(members):
        out[f"windows_{k}"] = emotion_report(data, softmax(z), f"cv windows {k}")
    out["windows"] = emotion_report(data, softmax(zw), "cv windows")
    out["features"] = emotion_report(data, softmax(zs), "cv features")
    out["merged"] = emotion_report(data, softmax(wa * zw + wb * zs), "cv merged")
    # Honest calibration: each fold's weights come from the other folds.
    p = np.zeros((len(data), 7))
    for f in range(FOLDS):
        k, held = m & (data.fold != f), data.fold == f
        a, b = fit_merge(zw[k], zs[k], data.emotion[k])
        p[held] = softmax(a * zw[held] + b * zs[held])
    out["merged_nested"] = emotion_report(data, p, "cv merged, weights from the other folds")
    known = (data.gender >= 0) & ~data.child
    scale = minimize(
        lambda w: np.log1p(np.exp(-np.where(data.gender == 1, 1, -1) * w[0] * zg))[known].mean(), [1.0], method="Nelder-Mead"
    ).x[0]
    out["gender_scale"] = float(scale)
    out["gender"] = {}
    for c in np.unique(data.corpus):
        k = known & (data.corpus == c)
        out["gender"][c] = uar(data.gender[k], (zg[k] > 0).astype(int))
    k = (data.gender >= 0) & data.child
    out["gender"]["children under 12"] = uar(data.gender[k], (zg[k] > 0).astype(int))
    out["age"] = {}
    for c in np.unique(data.corpus[~np.isnan(data.age)]):
        k = ~np.isnan(data.age) & (data.corpus == c)
        out["age"][c] = float(np.abs(za - data.age)[k].mean())
    say("cv gender", json.dumps({k: round(v, 3) for k, v in out["gender"].items()}))
    say("cv age MAE", json.dumps({k: round(v, 2) for k, v in out["age"].items()}))
    return out


def final(pool, numbers, out):
    scale = numbers["gender_scale"]
    last = {
        "gender": ([[scale, -scale]], [0.0, 0.0], "sigmoid", "male_female"),
        "age": ([[AGE_SCALE]], [AGE_CENTRE], None, "years"),
    }
    jobs = [("emotion_windows", k, None) for k in range(WINDOWS["members"])]
    jobs += [(p, 0, str(out / f"{p}.h5"), *last.get(p, ())) for p in PARTS[1:]]
    total, windows = 0, [None] * WINDOWS["members"]
    for part, k, weights, n, seconds in pool.imap_unordered(_network, jobs):
        total += n
        if weights is not None:
            windows[k] = weights
        say(f"{part} {k}: {seconds:.0f} s" + (f", {n} parameters" if n else ""))
    forget_names()
    tf, keras, L = keras_modules()
    both = round_kernels(average_windows(WINDOWS, len(EMOTIONS), windows))
    both.save(out / "emotion_windows.h5", include_optimizer=False)
    say(f"emotion_windows: {both.count_params()} parameters")
    inputs = [L.Input((len(EMOTIONS),), name="windows"), L.Input((len(EMOTIONS),), name="features")]
    dense = L.Dense(len(EMOTIONS), activation="softmax", name="emotion")
    merge = keras.Model(inputs, dense(L.Concatenate()(inputs)))
    eye = np.eye(len(EMOTIONS))
    dense.set_weights([np.concatenate([w * eye for w in numbers["merge"]]), np.zeros(len(EMOTIONS))])
    merge.save(out / "merge.h5", include_optimizer=False)
    total += both.count_params() + merge.count_params()
    say(f"all: {total} parameters")


def main():
    global LOG
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("corpora")
    a.add_argument("out", type=Path)
    a.add_argument("--features", help="folder with one npz per view")
    a.add_argument("--no-cv", action="store_true", help="reuse OUT_DIR/report.json instead of cross-validating")
    a.add_argument("--jobs", type=int, default=2)
    args = a.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    LOG = open(args.out / "train.log", "a")
    say("start", time.strftime("%Y-%m-%d %H:%M:%S"), "seed", SEED)
    for name in ("STATS", "WINDOWS", "GENDER", "AGE", "VIEWS"):
        say(name, json.dumps(globals()[name]))
    data = Data(args.corpora)
    folder = args.features or args.out / "features"
    load_views(data, args.corpora, folder, args.features is None, args.jobs)
    pool = get_context("spawn").Pool(args.jobs, _start, (args.corpora, str(folder)))
    if not args.no_cv:
        held = cross_validate(pool, data)
        members, stats, gender = held["emotion_windows"], held["emotion_features"][0], held["gender"][0, :, 0]
        z = members, stats, gender, held["age"][0, :, 0] * AGE_SCALE + AGE_CENTRE
        np.savez(args.out / "cv.npz", paths=np.array(data.paths), **dict(zip(("windows", "stats", "gender", "age"), z)))
        (args.out / "report.json").write_text(json.dumps(report(data, *z), indent=1) + "\n")
    numbers = json.loads((args.out / "report.json").read_text())
    start = time.time()
    final(pool, numbers, args.out)
    say(f"final networks: {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
