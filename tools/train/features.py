"""The front end of the default models, in numpy: the exact specification of what a model sees.

Input: mono float samples at 16 kHz (int16 / 32768). Everything is float64. A recording is divided into stretches of
speech (`segments`), each of which gives
  frames  (T, 40) level-normalised log-mel after trimming,
  f0      (T,)    fundamental frequency in Hz, 0 where unvoiced,
  stats   (N,)    descriptors of the whole stretch, names in `stat_names()`.
Every step is scale invariant: multiplying the samples by a constant changes nothing.
"""

import numpy as np
from scipy.ndimage import maximum_filter1d

RATE = 16000
HOP = 160
WIN = 400
BANDS = 40
PRE_EMPHASIS = 0.97
# A frame is active when its energy lies within this many dB of the 95th percentile frame.
ACTIVE_DB = 30.0
# Frames kept before the first and after the last active one.
MARGIN = 5
# Soft floor under the log, relative to the mean band power of the active frames (-50 dB).
FLOOR = 1e-5

F0_WIN = 640
F0_FFT = 1024
F0_MIN, F0_MAX = 65.0, 600.0
F0_CANDIDATES = 5
VOICING_THRESHOLD = 0.45
SILENCE_THRESHOLD = 0.03
# A frame's loudness is relative to the loudest frame within this many (2.5 s).
NEAR = 250
OCTAVE_COST = 0.01
OCTAVE_JUMP_COST = 0.35
VOICED_UNVOICED_COST = 0.14


def hz_to_mel(f):
    """Slaney's scale: linear below 1 kHz (3 mel per 200 Hz), logarithmic above."""
    f = np.asarray(f, float)
    return np.where(f < 1000, f * 3 / 200, 15 + np.log(np.maximum(f, 1e-9) / 1000) * 27 / np.log(6.4))


def mel_to_hz(m):
    m = np.asarray(m, float)
    return np.where(m < 15, m * 200 / 3, 1000 * np.exp((m - 15) * np.log(6.4) / 27))


def mel_filters(bands=BANDS, n_fft=WIN, low=0.0, high=8000.0):
    """Triangles of unit area (Slaney normalisation), bands x (n_fft/2+1)."""
    edges = mel_to_hz(np.linspace(hz_to_mel(low), hz_to_mel(high), bands + 2))
    bins = np.arange(n_fft // 2 + 1) * RATE / n_fft
    up = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(up, down)) * (2 / (edges[2:] - edges[:-2]))[:, None]


def hann(n):
    """Periodic Hann window."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)


def framed(x, size, hop, frames):
    """`frames` windows of `size` samples; frame t is centred on sample t*hop. Zero outside the signal."""
    need = (frames - 1) * hop + size
    padded = np.zeros(max(need, size // 2 + len(x)))
    padded[size // 2 : size // 2 + len(x)] = x
    return np.lib.stride_tricks.as_strided(
        padded, (frames, size), (padded.strides[0] * hop, padded.strides[0]), writeable=False
    )


_FILTERS = {}


def mel_power(x, bands=BANDS):
    """(T, bands) mel power, T = 1 + floor(n/160): pre-emphasis, Hann 400, hop 160, |FFT 400|^2, mel."""
    if bands not in _FILTERS:
        _FILTERS[bands] = mel_filters(bands)
    y = np.concatenate([x[:1], x[1:] - PRE_EMPHASIS * x[:-1]])
    y[0] = 0.0
    frames = 1 + len(x) // HOP
    spectrum = np.abs(np.fft.rfft(framed(y, WIN, HOP, frames) * hann(WIN), axis=1)) ** 2
    return spectrum @ _FILTERS[bands].T


def track_f0(x):
    """F0 per 10 ms frame: autocorrelation divided by the window's (Boersma 1993), path by Viterbi.

    The autocorrelation is the inverse transform of the power spectrum's lower half (0 to 4 kHz), so it is
    sampled at 8 kHz. Returns f0 in Hz (0 = unvoiced) and the peak height r in 0..1.
    """
    frames = 1 + len(x) // HOP
    w = hann(F0_WIN)
    seg = framed(x, F0_WIN, HOP, frames)
    seg = seg - seg.mean(1, keepdims=True)
    peak = np.abs(seg).max(1)
    top = maximum_filter1d(peak, 2 * NEAR + 1, mode="constant")
    half = F0_FFT // 4 + 1

    def autocorrelation(f):
        return np.fft.irfft((np.abs(np.fft.rfft(f, F0_FFT, axis=-1)) ** 2)[..., :half], F0_FFT // 2, axis=-1)

    wr = autocorrelation(w)
    ac = autocorrelation(seg * w)
    rate = RATE / 2
    lag_min, lag_max = int(rate / F0_MAX), int(np.ceil(rate / F0_MIN))
    lags = np.arange(lag_max + 2)
    r = ac[:, lags] / np.maximum(ac[:, :1], 1e-20) / (wr[lags] / wr[0])
    mid = r[:, lag_min : lag_max + 1]
    left = r[:, lag_min - 1 : lag_max]
    right = r[:, lag_min + 1 : lag_max + 2]
    is_peak = (mid > left) & (mid >= right) & (mid > 0.5 * VOICING_THRESHOLD)
    curve = left - 2 * mid + right
    shift = np.where(is_peak, 0.5 * (left - right) / np.where(curve == 0, -1, curve), 0)
    height = np.clip(mid - 0.25 * (left - right) * shift, 0, 1)
    freq = rate / (np.arange(lag_min, lag_max + 1) + shift)
    strength = np.where(is_peak, height - OCTAVE_COST * np.log2(F0_MAX / freq), -np.inf)
    order = np.argsort(-strength, axis=1, kind="stable")[:, :F0_CANDIDATES]
    cs = np.take_along_axis(strength, order, 1)
    cf = np.take_along_axis(freq, order, 1)
    ch = np.take_along_axis(height, order, 1)
    loud = np.where(top > 0, peak / np.where(top > 0, top, 1), 0)
    unvoiced = VOICING_THRESHOLD + np.maximum(0, 2 - loud * (1 + VOICING_THRESHOLD) / SILENCE_THRESHOLD)
    lf = np.log2(np.concatenate([np.ones((frames, 1)), cf], 1))
    local = np.concatenate([unvoiced[:, None], cs], 1)
    k = local.shape[1]
    switch = np.zeros((k, k))
    switch[0, 1:] = switch[1:, 0] = VOICED_UNVOICED_COST
    score = local[0].copy()
    back = np.zeros((frames, k), int)
    for t in range(1, frames):
        jump = OCTAVE_JUMP_COST * np.abs(lf[t - 1][:, None] - lf[t][None])
        jump[0, :] = 0
        jump[:, 0] = 0
        total = score[:, None] - jump - switch
        back[t] = total.argmax(0)
        score = total[back[t], np.arange(k)] + local[t]
    path = np.zeros(frames, int)
    path[-1] = score.argmax()
    for t in range(frames - 1, 0, -1):
        path[t - 1] = back[t, path[t]]
    at = np.arange(frames)
    voiced = path > 0
    f0 = np.where(voiced, cf[at, np.maximum(path - 1, 0)], 0.0)
    best = np.where(voiced, ch[at, np.maximum(path - 1, 0)], height.max(1))
    return f0, best


def percentile(v, q):
    return np.percentile(v, q, axis=0)  # linear interpolation between order statistics


def analyse(x, bands=BANDS):
    """Trimmed frames: dict of mel (T, bands), active (T,), f0 (T,), r (T,), energy_db (T,)."""
    x = np.asarray(x, float)
    x = x - x.mean()
    return describe(mel_power(x, bands), *track_f0(x))


def analyse_segments(x):
    """(start, analysis) of each stretch of speech, counted in frames before it is trimmed; whether there is a voice."""
    x = np.asarray(x, float)
    x = x - x.mean()
    s = mel_power(x)
    f0, r = track_f0(x)
    found = segments(f0)
    ranges = found
    if not found:
        e = 10 * np.log10(s.sum(1) + 1e-20)
        on = np.flatnonzero(e > np.percentile(e, 95) - ACTIVE_DB)
        a, b = max(0, on[0] - MARGIN), min(len(e), on[-1] + 1 + MARGIN)
        ranges = [(t, min(t + LONGEST_SEGMENT, b)) for t in range(a, b, LONGEST_SEGMENT)]
    return [(a, describe(s[a:b], f0[a:b], r[a:b])) for a, b in ranges], bool(found)


# Frames in a row with a pitch that count as voice; voiced frames that a segment has at least; frames kept around it;
# frames without a voice that part two segments; the longest segment; either part of a divided one.
VOICED_RUN, LEAST_VOICED, SEGMENT_MARGIN, PAUSE, LONGEST_SEGMENT, LEAST_PART = 5, 10, 25, 70, 1500, 500


def segments(f0):
    """(start, end) of each stretch of speech, from the pitch of a recording's frames."""
    stretches = []
    for a, b in zip(*runs(f0 > 0)):
        if b - a < VOICED_RUN:
            continue
        if stretches and a - stretches[-1][1] <= PAUSE:
            stretches[-1] = (stretches[-1][0], b, stretches[-1][2] + b - a)
        else:
            stretches.append((a, b, b - a))
    out = []
    for a, b, voiced in stretches:
        if voiced < LEAST_VOICED:
            continue
        a, b = max(0, a - SEGMENT_MARGIN), min(len(f0), b + SEGMENT_MARGIN)
        while b - a > LONGEST_SEGMENT:
            start, end = a + LEAST_PART, a + LONGEST_SEGMENT
            s, e = runs(f0[start:end] == 0)
            at = end
            if len(s):
                k = int((e - s).argmax())
                at = start + int(s[k]) + int(e[k] - s[k]) // 2
            out.append((a, at))
            a = at
        out.append((a, b))
    return out


def describe(s, f0, r):
    """Trimmed frames of a stretch of speech, from the mel power, pitch and peak height of its frames."""
    e = 10 * np.log10(s.sum(1) + 1e-20)
    ref = np.percentile(e, 95)
    active = e > ref - ACTIVE_DB
    on = np.flatnonzero(active)
    a, b = max(0, on[0] - MARGIN), min(len(e), on[-1] + 1 + MARGIN)
    level = s[active].mean()
    mel = np.log(s / max(level, 1e-20) + FLOOR)
    return dict(first=a, mel=mel[a:b], active=active[a:b], f0=f0[a:b], r=r[a:b], energy=np.maximum(e - ref, -60.0)[a:b])


def runs(mask):
    """(start, end) of each run of True."""
    d = np.diff(np.concatenate([[0], mask.astype(int), [0]]))
    return np.flatnonzero(d == 1), np.flatnonzero(d == -1)


def delta(v):
    """Slope over five frames: sum k (v[t+k] - v[t-k]) / 10, k = 1, 2, edges repeated."""
    p = np.concatenate([v[:1], v[:1], v, v[-1:], v[-1:]])
    n = len(v)
    return ((p[3 : 3 + n] - p[1 : 1 + n]) + 2 * (p[4 : 4 + n] - p[0:n])) / 10


def dct_matrix(n, k):
    """Orthonormal DCT-II, k x n."""
    i = np.arange(n)
    m = np.sqrt(2 / n) * np.cos(np.pi * np.arange(k)[:, None] * (2 * i + 1) / (2 * n))
    m[0] /= np.sqrt(2)
    return m


def stats_groups(a):
    """Whole-recording descriptors as an ordered dict of name -> 1-d array."""
    mel, active, f0, r, e = a["mel"], a["active"], a["f0"], a["r"], a["energy"]
    voiced = (f0 > 0) & active
    out = {}
    act = mel[active]
    dm = delta(mel)
    out["mel_mean"] = act.mean(0)
    out["mel_std"] = act.std(0)
    out["mel_p10"], out["mel_p50"], out["mel_p90"] = percentile(act, [10, 50, 90])
    out["mel_dstd"] = dm[active].std(0)
    out["mel_dabs"] = np.abs(dm[active]).mean(0)
    ddm = delta(dm)
    out["mel_ddstd"] = ddm[active].std(0)
    v = mel[voiced] if voiced.sum() >= 5 else act
    out["mel_vmean"] = v.mean(0)
    out["mel_vstd"] = v.std(0)
    c = act.std(0)
    z = (act - act.mean(0)) / np.maximum(c, 1e-3)
    out["mel_skew"] = (z**3).mean(0)
    out["mel_kurt"] = (z**4).mean(0)
    # MFCC-like contour statistics
    ceps = mel @ dct_matrix(mel.shape[1], 20).T
    ca = ceps[active]
    out["cep_mean"], out["cep_std"] = ca.mean(0), ca.std(0)
    out["cep_p10"], out["cep_p90"] = percentile(ca, [10, 90])
    dc = delta(ceps)
    out["cep_dstd"] = dc[active].std(0)
    out["cep_vmean"] = (ceps[voiced] if voiced.sum() >= 5 else ca).mean(0)
    out["cep_vstd"] = (ceps[voiced] if voiced.sum() >= 5 else ca).std(0)
    # first to last third trend
    n = len(act)
    t3 = max(1, n // 3)
    g = act.reshape(n, 8, -1).mean(2)
    out["trend"] = g[-t3:].mean(0) - g[:t3].mean(0)
    # energy
    ea = e[active]
    de = delta(e)
    p = percentile(ea, [5, 25, 50, 75])
    out["energy"] = np.concatenate([
        [ea.mean(), ea.std()], p,
        [de[active].std(), np.abs(de[active]).mean(), de[active & (de > 0)].mean() if (active & (de > 0)).any() else 0,
         percentile(de, 95), percentile(de, 5)]])
    # modulation spectrum of 8 band groups + energy, on the trimmed contour: power share at 2..16 Hz
    full = np.concatenate([mel.reshape(len(mel), 8, -1).mean(2), np.maximum(e, -40)[:, None] / 8.7], 1)
    full = full - full.mean(0)
    w = 128
    if len(full) < w:
        full = np.concatenate([full, np.zeros((w - len(full), full.shape[1]))])
    starts = range(0, len(full) - w + 1, w // 2)
    ps = np.mean([np.abs(np.fft.rfft(full[s : s + w] * hann(w)[:, None], axis=0)) ** 2 for s in starts], axis=0)
    edges = [1, 2, 3, 5, 8, 12, 18, 28, 64]
    out["modulation"] = np.log(np.array([ps[i:j].mean(0) for i, j in zip(edges[:-1], edges[1:])]) + 1e-2).ravel()
    # rhythm
    s0, s1 = runs(voiced)
    keep = (s1 - s0) >= 3
    s0, s1 = s0[keep], s1[keep]
    ln = (s1 - s0) / 100.0
    dur = len(mel) / 100.0
    gaps = (s0[1:] - s1[:-1]) / 100.0
    i0, i1 = runs(~active)
    out["rhythm"] = np.array([
        np.log(dur), voiced.mean(), active.mean(), voiced.sum() / max(1, active.sum()), len(ln) / dur,
        ln.mean() if len(ln) else 0, ln.std() if len(ln) else 0, ln.max() if len(ln) else 0,
        gaps.mean() if len(gaps) else 0, gaps.std() if len(gaps) else 0, len(i0) / dur,
        ((i1 - i0).max() / 100.0) if len(i0) else 0])
    # pitch
    if len(ln):
        mask = np.zeros(len(f0), bool)
        for s, t in zip(s0, s1):
            mask[s:t] = True
        lf = 12 * np.log2(f0[mask] / 100.0)
        d, segm, slope = [], [], []
        for s, t in zip(s0, s1):
            seg = 12 * np.log2(f0[s:t] / 100.0)
            d.append(np.diff(seg))
            segm.append(seg.mean())
            x = np.arange(t - s) - (t - s - 1) / 2
            slope.append(100 * (x * seg).sum() / (x * x).sum())
        d = np.concatenate(d)
        dd = np.abs(d[1:] - d[:-1])
        slope = np.clip(slope, -100, 100)
        wgt = ln / ln.sum()
        q = percentile(lf, [5, 20, 50, 80, 95])
        third = max(1, len(lf) // 3)
        out["f0"] = np.concatenate([
            [lf.mean(), lf.std()], q, [q[4] - q[0], q[3] - q[1]],
            [np.clip(np.abs(d), 0, 6).mean(), np.clip(d, -6, 6).std(), np.clip(dd, 0, 6).mean(),
             np.clip(np.median(np.abs(d)), 0, 6)],
            [(wgt * slope).sum(), (wgt * np.abs(slope)).sum(), np.std(segm), slope[-1], slope.max(), slope.min()],
            [lf[-third:].mean() - lf[:third].mean(), ((lf - lf.mean()) ** 3).mean() / max(lf.std(), 0.3) ** 3]])
        rr = np.minimum(r[mask], 0.9999)
        h = 10 * np.log10(np.maximum(rr, 1e-3) / (1 - rr))
        em = e[mask]
        co = np.corrcoef(lf, em)[0, 1] if lf.std() > 1e-6 and em.std() > 1e-6 else 0.0
        out["hnr"] = np.array([h.mean(), h.std(), *percentile(h, [10, 50, 90]), co, r[active].mean(), r[active].std()])
        vm = mel[mask]
    else:
        out["f0"] = np.zeros(21)
        out["hnr"] = np.zeros(8)
        vm = act
    # spectral balance of voiced frames: slope over bands, low/high ratios, centroid, flux
    power = np.exp(vm)
    tot = power.sum(1) + 1e-9
    idx = np.linspace(-1, 1, mel.shape[1])
    cen = (power * idx).sum(1) / tot
    nb = mel.shape[1]
    lo = np.log((power[:, : nb // 4].sum(1) + 1e-6) / (power[:, nb // 4 : nb // 2].sum(1) + 1e-6))
    hi = np.log((power[:, : nb // 2].sum(1) + 1e-6) / (power[:, nb // 2 :].sum(1) + 1e-6))
    sl = (vm * idx).mean(1) / (idx * idx).mean()
    flux = np.sqrt((np.diff(act, axis=0) ** 2).mean(1)) if len(act) > 1 else np.zeros(1)
    out["balance"] = np.concatenate([[q.mean(), q.std(), *percentile(q, [10, 90])] for q in (cen, lo, hi, sl)] + [[flux.mean(), flux.std()]])
    return out


def stat_names(bands=BANDS):
    rng = np.random.default_rng(0)
    return {k: len(v) for k, v in stats_groups(analyse(rng.standard_normal(RATE), bands)).items()}


# Groups of descriptors with a value per mel band; they come first, beginning with the mean levels.
MEL_GROUPS = 12


def without_missing_bands(rows, means, below):
    """Descriptors (and, behind them, the same relative to a speaker) with `means` for the mel bands above the recording's
    band limit: those from the highest one down whose mean level is less than `below`. The floor of a level is
    ln(FLOOR) = -11.5."""
    rows, means = np.array(rows), np.asarray(means)
    nothing = rows[..., :BANDS] < below
    missing = np.logical_and.accumulate(nothing[..., ::-1], -1)[..., ::-1]
    for start in range(0, rows.shape[-1], len(means)):
        for group in range(MEL_GROUPS):
            values = rows[..., start + group * BANDS :][..., :BANDS]
            values[missing] = np.broadcast_to(means[group * BANDS :][:BANDS], values.shape)[missing]
    return rows


def window_frames(a):
    """(T, 44) input of the window network: scaled log-mel (40), log F0, log F0 relative, voiced, r."""
    f0 = a["f0"]
    voiced = f0 > 0
    absolute = np.where(voiced, np.log2(np.where(voiced, f0, 1.0) / 200.0), 0.0)
    middle = np.median(absolute[voiced]) if voiced.any() else 0.0
    relative = np.where(voiced, 2 * (absolute - middle), 0.0)
    return np.column_stack([(a["mel"] + 5) / 4, absolute, relative, voiced, a["r"]])


WINDOW = 200
WINDOW_HOP = 100


def windows(frames):
    """Windows of 200 frames every 100; a last one ends at the end when 50 frames or more would be left over.

    A recording shorter than 200 frames is repeated from its start until it fills one window.
    """
    n = len(frames)
    if n < WINDOW:
        frames = np.tile(frames, (-(-WINDOW // n), 1))[:WINDOW]
        n = WINDOW
    starts = list(range(0, n - WINDOW + 1, WINDOW_HOP))
    if n - WINDOW - starts[-1] >= WINDOW_HOP // 2:
        starts.append(n - WINDOW)
    return [frames[s : s + WINDOW] for s in starts]


def extract(x):
    """(stats (N,), frames (T, 44)) of each stretch of speech in mono samples at 16 kHz."""
    found = [a for _, a in analyse_segments(x)[0]]
    return [(np.concatenate(list(stats_groups(a).values())), window_frames(a)) for a in found]
