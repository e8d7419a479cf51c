"""openSMILE's eGeMAPS functionals and an SVM as a contender of tools/compare.py, which describes the protocol.

usage: opensmile_contender.py

Responds to `recording PATH N` with nanoseconds per run from the file to the class, over N runs. The SVM is fitted to
noise, since the time of a prediction depends on its size only, not on the values of its support vectors.
"""

import sys
import time

import numpy as np
import opensmile
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

# Recordings and classes of the SVM, about those of a corpus of acted emotions.
RECORDINGS, CLASSES = 1000, 7


def main():
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    noise = np.random.default_rng(0)
    svm = make_pipeline(StandardScaler(), SVC())
    svm.fit(noise.normal(size=(RECORDINGS, len(smile.feature_names))), np.arange(RECORDINGS) % CLASSES)

    def run(path):
        features = smile.process_file(path).to_numpy()
        if features.shape != (1, len(smile.feature_names)) or not np.isfinite(features).all():
            sys.exit(f"openSMILE computes no functionals of {path}")
        return svm.predict(features)[0]

    print("ready", flush=True)
    for line in sys.stdin:
        command, path, iterations = line.rstrip("\n").split("\t")
        if command != "recording":
            sys.exit(f"unknown request {line!r}")
        start = time.perf_counter_ns()
        for _ in range(int(iterations)):
            run(path)
        print((time.perf_counter_ns() - start) // max(int(iterations), 1), flush=True)


main()
