"""How good outputs are, and the weights that merge two networks' logits."""

import numpy as np
from scipy.optimize import minimize


def softmax(z):
    z = np.exp(z - z.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)


def uar(truth, guess):
    return float(np.mean([(guess[truth == c] == c).mean() for c in np.unique(truth)]))


def calibration_error(p, truth, bins=15):
    top, hit = p.max(1), p.argmax(1) == truth
    b = np.minimum((top * bins).astype(int), bins - 1)
    return float(sum((b == k).mean() * abs(top[b == k].mean() - hit[b == k].mean()) for k in np.unique(b)))


def fit_merge(a, b, truth):
    """The two weights of softmax(wa*a + wb*b) of least cross-entropy."""

    def cost(w):
        return -np.log(softmax(w[0] * a + w[1] * b)[np.arange(len(truth)), truth] + 1e-12).mean()

    return minimize(cost, [0.5, 0.5], method="Nelder-Mead").x
