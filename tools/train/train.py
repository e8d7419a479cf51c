"""Trains the default networks.

    python tools/train/train.py CORPORA_DIR FEATURES_DIR OUT_DIR STEP...

FEATURES_DIR holds <view>.npz of every view and negatives.npz, written by `infer --dump-features` (rebuild.sh does it all).
Steps, each of which leaves its result in OUT_DIR for the next:

  compare   cross-validation of the emotion statistics network: leave-speakers-out and leave-one-corpus-out, with and
            without speaker profiles, per condition; `--set KEY=VALUE` changes its recipe, `--name` its name in the log
  temperature  calibration of the networks of `compare`, with one temperature and with one per condition
  held      networks trained on the train split alone, for what is fitted on the valid split: merge weights, temperatures,
            age interval, threshold of the speech check (report.json)
  without   both emotion networks trained without the corpus `--corpus NAME`, evaluated on it
  windows   the window network
  final     all other networks, trained on train + valid, and the model's description (model.json)

`--only emotion_features`, `--only emotion_windows` (both with the merge) or `--only speech` renews that network in an
OUT_DIR that holds a whole model.
`--commercial` describes the model of the freely licensed corpora and refuses recordings of any other (free.py).
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
from scipy.optimize import minimize, minimize_scalar

import augment
import features
from data import DEVIATION_PRIOR, EMOTIONS, FOLDS, MEAN_PRIOR, PROFILE_VIEWS, SIZES, VIEWS, Data, Population, View, draw_profile
from measures import calibration_error, fit_merge, softmax, uar
from networks import finish, keras_modules, predict_windows, round_kernels, stats_trunk, window_model

SEED = 20261
# How often a training sample is taken from each view, and with a profile of each size of `SIZES`.
VIEW_SHARES = dict(clean=0.35, band=0.13, phone=0.13, noise=0.13, room=0.13, mixed=0.13)
SIZE_SHARES = (0.5, 0.1, 0.13, 0.14, 0.13)
# Share of the profiles that are made of neutral recordings where there are any.
NEUTRAL = 0.3
# Draws of every recording that the statistics networks are trained with.
DRAWS = 24

EMOTION = dict(branches=4, relative=2, units=192, drop_in=0.35, drop=0.4, smoothing=0.1, epochs=80, batch=128, rate=2e-3, corpus=0.7, label=0.5, heard=0.0, missing_below=-9.5)
WINDOWS = dict(planes=(16, 32, 64), pitch=16, mix=96, gru=48, units=64, drop_conv=0.1, drop=0.3, smoothing=0.05, epochs=90, batch=64, rate=2e-3, seed=SEED + 1000)
# The window network of the commercial model.
COMMERCIAL_WINDOWS = dict(conv=(64, 96), gru=48, units=64, drop_conv=0.1, drop=0.3, smoothing=0.05, epochs=45, batch=64, rate=2e-3, seed=SEED)
GENDER = dict(branches=2, units=128, drop_in=0.25, drop=0.3, smoothing=0.05, epochs=60, batch=128, rate=2e-3)
AGE = dict(branches=2, units=96, drop_in=0.2, drop=0.3, epochs=60, batch=128, rate=2e-3)
SPEECH = dict(branches=1, units=32, drop_in=0.3, drop=0.2, smoothing=0.02, epochs=25, batch=128, rate=2e-3)
AGE_CENTRE, AGE_SCALE = 30.0, 15.0
QUANTILES = (0.1, 0.5, 0.9)
COVERAGE = 0.8
# Names and licences of the two models.
DEFAULT = dict(
    name="maeum default 8",
    licences=[
        {"estimates": ["emotion"], "licence": "CC-BY-NC-SA-4.0", "terms": "non-commercial use only"},
        {"estimates": ["age", "gender"], "licence": "CC-BY-4.0", "terms": "any use with attribution"},
    ],
)
COMMERCIAL = dict(
    name="maeum commercial 2",
    licences=[{"estimates": ["age", "emotion", "gender"], "licence": "CC-BY-4.0", "terms": "any use with attribution"}],
)


def say(*words):
    print(*words, flush=True)


# ---- samples ----------------------------------------------------------------------------------------


def draw(data, i, population, rng, profiles):
    """A view, a segment's row in it and a speaker profile for recording i."""
    view = rng.choice(list(VIEW_SHARES), p=list(VIEW_SHARES.values()))
    rows = data.views[view].rows[i]
    if not rows:
        view, rows = "clean", data.views["clean"].rows[i]
    size = SIZES[rng.choice(len(SIZES), p=SIZE_SHARES)] if profiles else 0
    profile = draw_profile(data, i, view, population, rng, size, neutral=rng.random() < NEUTRAL)
    return view, rows[rng.integers(len(rows))], profile


def bank(data, index, population, seed, profiles, draws=DRAWS):
    """(draws, recordings, descriptors): every recording under random views; with `profiles`, the descriptors as they
    are and then relative to a speaker."""
    rng = np.random.default_rng(seed)
    out = np.zeros((draws, len(index), len(population.mean) * (1 + profiles)), "f4")
    for rows in out:
        for row, i in zip(rows, index):
            view, at, profile = draw(data, i, population, rng, profiles)
            x = data.views[view].stats[at]
            row[:] = profile.both(x) if profiles else x
    return out


def evaluation(data, index, population, seed, view, size, neutral=False):
    """Descriptors of all segments of the recordings under one condition, as they are and relative to a speaker; the
    place of each segment's recording; and the recordings' profiles."""
    rng = np.random.default_rng(seed)
    out, places, profiles = [], [], []
    for place, i in enumerate(index):
        profile = draw_profile(data, i, view, population, rng, size, neutral)
        profiles.append(profile)
        for row in data.views[view].rows[i]:
            out.append(profile.both(data.views[view].stats[row]))
            places.append(place)
    return np.array(out, "f4"), np.array(places), profiles


def answer(net, rows, places, count):
    """A statistics network's mean outputs per recording."""
    width = net.inputs[0].shape[1]
    parts = [rows[:, width * k : width * (k + 1)] for k in range(len(net.inputs))]
    return by_recording(net.predict(parts if len(parts) > 1 else parts[0], batch_size=4096, verbose=0), places, count)


def by_recording(z, places, count):
    out, n = np.zeros((count, z.shape[1])), np.zeros((count, 1))
    np.add.at(out, places, z)
    np.add.at(n, places, 1)
    return out / np.maximum(n, 1)


def without_missing_bands(rows, population, cfg=EMOTION):
    """Descriptors as they are and relative to a speaker, with the population's means for missing mel bands."""
    if cfg["missing_below"] is None:
        return rows
    return features.without_missing_bands(rows, population.mean, cfg["missing_below"])


def balanced(corpus, label, corpus_power, label_power):
    """(recordings of the corpus)^-a * (share of the label in it)^-b, with mean 1."""
    w = np.zeros(len(corpus))
    for c in np.unique(corpus):
        n = float((corpus == c).sum())
        for e in np.unique(label[corpus == c]):
            k = (corpus == c) & (label == e)
            w[k] = n**-corpus_power * (k.sum() / n) ** -label_power
    return w / w.mean()


def emotion_targets(data, index, heard):
    """Intended emotions, mixed with the share of those that listeners heard in the voice."""
    y = np.eye(len(EMOTIONS))[data.emotion[index]]
    votes, share = data.heard[index], data.heard_share[index]
    known = votes >= 0
    soft = np.repeat((1 - share)[:, None] / 5, len(EMOTIONS), 1)
    soft[:, EMOTIONS.index("surprise")] = 0
    soft[np.arange(len(index)), np.maximum(votes, 0)] = share
    return np.where(known[:, None], (1 - heard) * y + heard * soft, y)


# ---- training ---------------------------------------------------------------------------------------


def fit_stats(x, y, w, population, outputs, loss, cfg, seed):
    """Branches side by side on (draws, samples, descriptors); returns a model of their mean."""
    tf, keras, L = keras_modules()
    keras.utils.set_random_seed(seed)
    width = len(population.mean)
    inputs = x.shape[2] // width
    i, branches = stats_trunk(inputs, outputs, cfg, population.mean, population.deviation)
    model = keras.Model(i, branches)
    steps = x.shape[1] // cfg["batch"]
    optimiser = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(cfg["rate"], cfg["epochs"] * steps))
    loss = loss(keras)

    @tf.function
    def step(x, y, w):
        with tf.GradientTape() as tape:
            out = model(tf.split(x, inputs, 1) if inputs > 1 else x, training=True)
            out = out if isinstance(out, list) else [out]
            total = tf.add_n([tf.reduce_mean(loss(y, z) * w) for z in out] + model.losses)
        grads = tape.gradient(total, model.trainable_variables)
        optimiser.apply_gradients(zip(grads, model.trainable_variables))

    rng = np.random.default_rng(seed)
    y, w = y.astype("f4"), w.astype("f4")
    for _ in range(cfg["epochs"]):
        rows, order = x[rng.integers(len(x))], rng.permutation(x.shape[1])
        for b in range(steps):
            c = order[b * cfg["batch"] : (b + 1) * cfg["batch"]]
            step(rows[c], y[c], w[c])
    out = branches[0] if len(branches) == 1 else L.Average(name="logits")(branches)
    return keras.Model(i, out)


def fit_windows(data, index, y, w, population, cfg):
    tf, keras, L = keras_modules()
    keras.backend.clear_session()
    keras.utils.set_random_seed(cfg["seed"])
    rng = np.random.default_rng(cfg["seed"])
    model = window_model(cfg, y.shape[1])
    steps = len(index) // cfg["batch"]
    rate = keras.optimizers.schedules.CosineDecay(cfg["rate"], cfg["epochs"] * steps)
    optimiser = keras.optimizers.Adam(rate, clipnorm=1.0)
    loss = keras.losses.CategoricalCrossentropy(True, label_smoothing=cfg["smoothing"], reduction="none")

    @tf.function
    def step(x, y, w):
        with tf.GradientTape() as tape:
            total = tf.reduce_mean(loss(y, model(x, training=True)) * w) + tf.add_n(model.losses)
        grads = tape.gradient(total, model.trainable_variables)
        optimiser.apply_gradients(zip(grads, model.trainable_variables))

    y, w = y.astype("f4"), w.astype("f4")
    start = time.time()
    for epoch in range(cfg["epochs"]):
        order = rng.permutation(len(index))
        for b in range(steps):
            c = order[b * cfg["batch"] : (b + 1) * cfg["batch"]]
            step(np.stack([window(data, index[k], population, rng) for k in c]), y[c], w[c])
        if epoch in (0, cfg["epochs"] // 2):
            say(f"epoch {epoch + 1} of {cfg['epochs']}: {time.time() - start:.0f} s")
    return model


def window(data, i, population, rng):
    view, row, profile = draw(data, i, population, rng, True)
    f = data.views[view].sequence(row)
    if len(f) < features.WINDOW:
        f = np.tile(f, (-(-features.WINDOW // len(f)), 1))[: features.WINDOW]
    else:
        s = rng.integers(0, len(f) - features.WINDOW + 1)
        f = f[s : s + features.WINDOW]
    return augment.vary(profile.frames(f), rng)


def categorical(smoothing):
    return lambda keras: keras.losses.CategoricalCrossentropy(True, label_smoothing=smoothing, reduction="none")


def binary(smoothing):
    return lambda keras: keras.losses.BinaryCrossentropy(True, label_smoothing=smoothing, reduction="none")


def pinball(keras):
    import tensorflow as tf

    q = tf.constant([QUANTILES])
    return lambda y, z: tf.reduce_mean(tf.maximum(q * (y - z), (q - 1) * (y - z)), axis=1)


def emotion_features(data, index, population, seed, cfg=EMOTION, x=None):
    x = bank(data, index, population, seed, True) if x is None else x
    x = np.stack([without_missing_bands(rows, population, cfg) for rows in x])
    y = emotion_targets(data, index, cfg["heard"])
    w = balanced(data.corpus[index], data.emotion[index], cfg["corpus"], cfg["label"])
    return fit_stats(x, y, w, population, len(EMOTIONS), categorical(cfg["smoothing"]), cfg, seed)


def emotion_windows(data, index, population):
    y = emotion_targets(data, index, EMOTION["heard"])
    w = balanced(data.corpus[index], data.emotion[index], EMOTION["corpus"], EMOTION["label"])
    return fit_windows(data, index, y, w, population, WINDOWS)


def gender(data, index, population, seed):
    x = bank(data, index, population, seed, False)
    w = balanced(data.corpus[index], data.gender[index], 0.5, 1)
    y = data.gender[index][:, None]
    return fit_stats(x, y, w, population, 1, binary(GENDER["smoothing"]), GENDER, seed)


def age(data, index, population, seed):
    x = bank(data, index, population, seed, False)
    w = balanced(data.corpus[index], (data.age[index] // 10).astype(int), 0.5, 0.5)
    y = ((data.age[index] - AGE_CENTRE) / AGE_SCALE)[:, None]
    return fit_stats(x, y, w, population, len(QUANTILES), pinball, AGE, seed)


def speech(data, index, negatives, population, seed):
    """Speech under every view against the sounds of negatives.py."""
    x = bank(data, index, population, seed, False, 6)
    rng = np.random.default_rng(seed)
    noise = np.stack([negatives[rng.integers(len(negatives), size=len(index) // 2)] for _ in range(len(x))])
    x = np.concatenate([x, noise], 1)
    y = (np.arange(x.shape[1]) < len(index)).astype("f4")[:, None]
    return fit_stats(x, y, np.ones(len(y)), population, 1, binary(SPEECH["smoothing"]), SPEECH, seed)


def subset(data, what, splits):
    known = {
        "emotion": data.emotion >= 0,
        "gender": (data.gender >= 0) & ~data.child & data.free,
        "age": ~np.isnan(data.age) & data.free,
        "speech": np.ones(len(data), bool),
    }[what]
    return np.flatnonzero(data.present & known & np.isin(data.split, splits))


# ---- steps ------------------------------------------------------------------------------------------

CONDITIONS = [("clean", s, False) for s in SIZES] + [("clean", 10, True)] + [(v, 0, False) for v in VIEWS[1:]] + [("phone", 10, False)]
CORPORA = ("CREMA-D", "RAVDESS", "EmoDB", "nEMO", "KoreanEmotion")


def name_of(view, size, neutral):
    return f"{view}, profile {'all' if size is None else size}{' neutral' if neutral else ''}"


def table(label, corpus, truth, logits):
    out = {c: round(float(uar(truth[corpus == c], logits[corpus == c].argmax(1))), 3) for c in CORPORA if (corpus == c).any()}
    out["mean"] = round(float(np.mean(list(out.values()))), 3)
    say(label, json.dumps(out))
    return out


def compare(data, out, name, cfg):
    """Every recording is answered by a network that has not been trained on its speaker, or on its corpus."""
    index = subset(data, "emotion", ("train", "valid"))
    corpus, truth, fold = data.corpus[index], data.emotion[index], data.fold[index]
    population = Population(data, np.isin(np.arange(len(data)), index))
    cache = out / "bank.npy"
    if not cache.exists():
        np.save(cache, bank(data, index, population, SEED, True))
    x = np.load(cache, mmap_mode="r")
    tests = [evaluation(data, index, population, SEED, *c)[:2] for c in CONDITIONS]
    tests = [(without_missing_bands(rows, population, cfg), places) for rows, places in tests]
    splits = {
        "speakers left out": [fold == f for f in range(FOLDS)],
        "corpus left out": [corpus == c for c in CORPORA],
        "free corpora alone": [~data.free[index]],
    }
    result, logits = {}, {}
    for how, parts in splits.items():
        z = np.zeros((len(CONDITIONS), len(index), len(EMOTIONS)))
        for held in parts:
            net = emotion_features(data, index[~held], population, SEED, cfg, x[:, ~held])
            for k, (rows, places) in enumerate(tests):
                own = held[places]
                part = answer(net, rows[own], places[own], len(index))
                z[k][held] = part[held]
        logits[how] = z
        for k, c in enumerate(CONDITIONS):
            any_held = np.any(parts, axis=0)
            label = f"{how}: {name_of(*c)}"
            result[label] = table(f"{name}, {label}:", corpus[any_held], truth[any_held], z[k][any_held])
    (out / f"compare_{name}.json").write_text(json.dumps(dict(recipe=cfg, result=result), indent=1) + "\n")
    np.savez(out / f"compare_{name}.npz", truth=truth, fold=fold, **logits)


def temperature(out, name):
    """Calibration of the logits of `compare` with one temperature for all conditions, and with one per condition, each
    fitted on the other folds' speakers. A condition is known here; a recogniser would have to estimate it."""
    saved = np.load(out / f"compare_{name}.npz")
    truth, fold, z = saved["truth"], saved["fold"], saved["speakers left out"]

    def fit(z, truth):
        cost = lambda s: -np.log(softmax(s * z)[np.arange(len(truth)), truth] + 1e-12).mean()
        return minimize_scalar(cost, bounds=(0.1, 5), method="bounded").x

    one, each = np.zeros(z.shape), np.zeros(z.shape)
    for f in range(FOLDS):
        rest = fold != f
        s = fit(np.concatenate(z[:, rest]), np.tile(truth[rest], len(z)))
        for k in range(len(z)):
            one[k][~rest] = softmax(s * z[k][~rest])
            each[k][~rest] = softmax(fit(z[k][rest], truth[rest]) * z[k][~rest])
    for k, c in enumerate(CONDITIONS):
        row = [f"{calibration_error(p[k], truth):.3f} {-np.log(p[k][np.arange(len(truth)), truth] + 1e-12).mean():.3f}" for p in (one, each)]
        say(f"{name_of(*c)}: calibration error and mean negative log likelihood {row[0]}, per condition {row[1]}")


def window_logits(net, data, index, view, profiles):
    """Mean over the segments of the mean over their windows."""
    sequences, places = [], []
    for place, i in enumerate(index):
        for row in data.views[view].rows[i]:
            sequences.append(profiles[place].frames(data.views[view].sequence(row)))
            places.append(place)
    return by_recording(predict_windows(net, sequences), np.array(places), len(index))


def held(data, negatives, out, only):
    """What is fitted on the valid split, which these networks have not seen."""
    report = json.loads((out / "report.json").read_text()) if only else {}
    if only in (None, "emotion_features", "emotion_windows"):
        held_emotion(data, out, report)
    if only is None:
        held_gender(data, report)
        held_age(data, report)
    if only in (None, "speech"):
        held_speech(data, Negatives(negatives), report)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")


def held_population(data):
    return Population(data, np.isin(np.arange(len(data)), subset(data, "emotion", ("train",))))


def emotion_logits(data, out, name, train, held, population):
    """Per condition, the two emotion networks' logits of the recordings `held`, with their corpora and emotions; the
    networks are trained on `train`."""
    windows_net = windows(data, train, population, out / f"{name}_windows.h5")
    features_net = emotion_features(data, train, population, SEED)
    z = {}
    for c in CONDITIONS:
        # Those that have a copy in this view.
        there = held[[bool(data.views[c[0]].rows[i]) for i in held]]
        rows, places, profiles = evaluation(data, there, population, SEED, *c)
        zf = answer(features_net, without_missing_bands(rows, population), places, len(there))
        zw = window_logits(windows_net, data, there, c[0], profiles)
        z[name_of(*c)] = zw, zf, data.corpus[there], data.emotion[there]
    np.savez(out / f"{name}.npz", **{f"{n}|{k}": v for n, of in z.items() for k, v in zip(("windows", "features", "corpus", "truth"), of)})
    return z


def emotion_tables(z, merge, report):
    wa, wb = merge
    for name, (zw, zf, corpus, truth) in z.items():
        p = softmax(wa * zw + wb * zf)
        report[name] = dict(
            windows=table(f"windows, {name}:", corpus, truth, zw),
            features=table(f"features, {name}:", corpus, truth, zf),
            merged=table(f"merged, {name}:", corpus, truth, p),
            calibration_error=round(float(calibration_error(p, truth)), 3),
        )
        say("calibration error", report[name]["calibration_error"])


def held_emotion(data, out, report):
    train, valid = subset(data, "emotion", ("train",)), subset(data, "emotion", ("valid",))
    z = emotion_logits(data, out, "held", train, valid, held_population(data))
    # One merge for all conditions: every one counts alike.
    report["merge"] = [float(w) for w in fit_merge(*(np.concatenate([of[k] for of in z.values()]) for k in (0, 1, 3)))]
    emotion_tables(z, report["merge"], report)


def without(data, out, corpus):
    """Both emotion networks on a corpus that they have not seen, merged as `held` has fitted."""
    index = all_of(data, "emotion")
    train, held = index[data.corpus[index] != corpus], index[data.corpus[index] == corpus]
    population = Population(data, np.isin(np.arange(len(data)), train))
    z = emotion_logits(data, out, f"without_{corpus}", train, held, population)
    report = {}
    emotion_tables(z, json.loads((out / "report.json").read_text())["merge"], report)
    (out / f"without_{corpus}.json").write_text(json.dumps(report, indent=1) + "\n")


def held_gender(data, report):
    population = held_population(data)
    train = subset(data, "gender", ("train",))
    net = gender(data, train, population, SEED)
    everyone = np.flatnonzero(data.present & (data.gender >= 0) & ~data.child & (data.split == "valid"))
    report["gender"] = {}
    for view in ("clean", "phone", "noise", "room"):
        some = np.array([i for i in everyone if data.views[view].rows[i]])
        rows, places, _ = evaluation(data, some, population, SEED, view, 0)
        zg = answer(net, rows, places, len(some))[:, 0]
        g, c = data.gender[some], data.corpus[some]
        report["gender"][view] = {q: round(float(uar(g[c == q], (zg[c == q] > 0).astype(int))), 3) for q in np.unique(c)}
        say("gender", view, json.dumps(report["gender"][view]))
        if view == "clean":
            scale = minimize(lambda s: np.log1p(np.exp(-np.where(g == 1, 1, -1) * s[0] * zg)).mean(), [1.0], method="Nelder-Mead").x[0]
            report["gender_scale"] = float(scale)


def held_age(data, report):
    population = held_population(data)
    train, valid = subset(data, "age", ("train",)), subset(data, "age", ("valid",))
    net = age(data, train, population, SEED)
    rows, places, _ = evaluation(data, valid, population, SEED, "clean", 0)
    years = answer(net, rows, places, len(valid)) * AGE_SCALE + AGE_CENTRE
    low, mid, high = years.T
    truth = data.age[valid]
    # The interval is stretched until it covers the share that it states.
    score = np.maximum((mid - truth) / np.maximum(mid - low, 0.1), (truth - mid) / np.maximum(high - mid, 0.1))
    stretch = float(np.quantile(score, COVERAGE))
    report["age_stretch"] = stretch
    error = np.abs(mid - truth)
    report["age"] = {c: round(float(error[data.corpus[valid] == c].mean()), 2) for c in np.unique(data.corpus[valid])}
    report["age_error"] = round(float(error.mean()), 1)
    say("age", json.dumps(report["age"]), "stretch", stretch)


def held_speech(data, negatives, report):
    population = held_population(data)
    train, valid = subset(data, "speech", ("train",)), subset(data, "speech", ("valid",))
    kinds = np.array([n.split("/")[-2] for n in negatives.names])
    rates, thresholds = {}, []
    for part in range(3):
        out_kinds = sorted(set(kinds))[part::3]
        left = np.isin(kinds, out_kinds)
        net = speech(data, train, negatives.stats[~left], population, SEED + part)
        rows, places, _ = evaluation(data, valid, population, SEED, "clean", 0)
        positive = net.predict(rows[:, : len(population.mean)], verbose=0)[:, 0]
        negative = net.predict(negatives.stats[left], verbose=0)[:, 0]
        thresholds.append(np.quantile(positive, 0.005))
        for k in out_kinds:
            rates[k] = round(float((negative[kinds[left] == k] >= thresholds[-1]).mean()), 3)
    report["speech_from"] = float(1 / (1 + np.exp(-np.mean(thresholds))))
    report["non-speech of kinds left out that passes"] = rates
    say("speech", report["speech_from"], json.dumps(rates))


def all_of(data, what):
    return subset(data, what, ("train", "valid"))


def windows(data, index, population, file):
    """The window network, trained unless the file holds it already."""
    tf, keras, L = keras_modules()
    if not file.exists():
        emotion_windows(data, index, population).save(file, include_optimizer=False)
    return keras.models.load_model(file, compile=False)


def final(data, negatives, out, about, only):
    tf, keras, L = keras_modules()
    numbers = json.loads((out / "report.json").read_text())
    index = all_of(data, "emotion")
    population = Population(data, np.isin(np.arange(len(data)), index))

    def save(net, name):
        round_kernels(net).save(out / f"{name}.h5", include_optimizer=False)
        say(f"{name}: {net.count_params()} parameters")

    if only in (None, "emotion_windows"):
        save(windows(data, index, population, out / "windows.h5"), "emotion_windows")
    if only in (None, "emotion_features"):
        keras.backend.clear_session()
        save(emotion_features(data, index, population, SEED), "emotion_features")
    if only in (None, "emotion_features", "emotion_windows"):
        merge(numbers["merge"]).save(out / "merge.h5", include_optimizer=False)
    if only is None:
        scale = numbers["gender_scale"]
        save(finish(gender(data, all_of(data, "gender"), population, SEED), [[scale, -scale]], [0, 0], "sigmoid", "male_female"), "gender")
        s = numbers["age_stretch"]
        # Quantiles to years: low = middle - s (middle - low), and so on.
        kernel = AGE_SCALE * np.array([[s, 0, 0], [1 - s, 1, 1 - s], [0, 0, s]])
        save(finish(age(data, all_of(data, "age"), population, SEED), kernel, [AGE_CENTRE] * 3, None, "years"), "age")
    if only in (None, "speech"):
        save(finish(speech(data, all_of(data, "speech"), Negatives(negatives).stats, population, SEED), [[1.0]], [0], "sigmoid", "speech"), "speech")
    describe(population, numbers, out, about)


def merge(weights):
    """Softmax of the weighted sum of the two emotion networks' logits."""
    tf, keras, L = keras_modules()
    inputs = [L.Input((len(EMOTIONS),), name="windows"), L.Input((len(EMOTIONS),), name="features")]
    dense = L.Dense(len(EMOTIONS), activation="softmax", name="emotion")
    net = keras.Model(inputs, dense(L.Concatenate()(inputs)))
    eye = np.eye(len(EMOTIONS))
    dense.set_weights([np.concatenate([w * eye for w in weights]), np.zeros(len(EMOTIONS))])
    return net


def describe(population, numbers, out, about):
    """model.json: what the networks mean."""
    round6 = lambda v: [float(f"{x:.6g}") for x in v]
    info = {
        "name": about["name"],
        "preprocessing": "utterance",
        "emotions": EMOTIONS,
        "genders": ["male", "female"],
        "age": {"mean": 0.0, "deviation": 1.0, "valid": [8.0, 74.0], "error": numbers["age_error"], "coverage": COVERAGE},
        "speaker": {
            "mean": round6(population.mean),
            "deviation": round6(population.deviation),
            "frames": round6(population.frames),
            "mean_prior": MEAN_PRIOR,
            "deviation_prior": DEVIATION_PRIOR,
            **({} if EMOTION["missing_below"] is None else {"missing_below": EMOTION["missing_below"]}),
        },
        "speech_from": float(f"{numbers['speech_from']:.4g}"),
        "unsure_below": 0.4,
        "licences": about["licences"],
    }
    (out / "model.json").write_text(json.dumps(info, indent=1) + "\n")


class Negatives:
    def __init__(self, file):
        z = np.load(file)
        self.names = z["paths_utf8"].tobytes().decode().split("\n")
        self.stats = z["stats"]


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("corpora")
    a.add_argument("features", type=Path)
    a.add_argument("out", type=Path)
    a.add_argument("steps", nargs="+", choices=["compare", "temperature", "held", "without", "windows", "final"])
    a.add_argument("--corpus", choices=CORPORA)
    a.add_argument("--name", default="kept")
    a.add_argument("--only", choices=["emotion_features", "emotion_windows", "speech"])
    a.add_argument("--commercial", action="store_true")
    a.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = a.parse_args()
    if "without" in args.steps and not args.corpus:
        a.error("the step `without` needs --corpus")
    args.out.mkdir(parents=True, exist_ok=True)
    data = Data(args.corpora, args.features)
    if args.commercial and not data.free.all():
        raise SystemExit(f"not free: {', '.join(sorted(set(data.corpus[~data.free])))}")
    if args.commercial:
        EMOTION["missing_below"] = None
        WINDOWS.clear()
        WINDOWS.update(COMMERCIAL_WINDOWS)
    say(f"{len(data)} recordings, {(data.emotion >= 0).sum()} with an emotion")
    negatives = args.features / "negatives.npz"
    for step in args.steps:
        start = time.time()
        if step == "compare":
            compare(data, args.out, args.name, EMOTION | {k: json.loads(v) for k, v in (s.split("=") for s in args.set)})
        elif step == "temperature":
            temperature(args.out, args.name)
        elif step == "held":
            held(data, negatives, args.out, args.only)
        elif step == "without":
            without(data, args.out, args.corpus)
        elif step == "windows":
            index = all_of(data, "emotion")
            windows(data, index, Population(data, np.isin(np.arange(len(data)), index)), args.out / "windows.h5")
        else:
            final(data, negatives, args.out, COMMERCIAL if args.commercial else DEFAULT, args.only)
        say(f"{step}: {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
