"""ONNX Runtime or Keras as a contender of tools/compare.py, which describes the protocol.

usage: contender.py onnxruntime ONNX_DIR GOLDEN_DIR THREADS
       contender.py keras H5_DIR GOLDEN_DIR THREADS
"""

import os
import pathlib
import sys
import time

import numpy as np

BRANCHES = ("dct", "dst", "hist", "moments")


def onnxruntime_networks(folder, threads):
    """Returns an ONNX Runtime function from crops and branches to the merged emotion weights."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1

    def load(name):
        path = str(folder / f"{name}.onnx")
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    emotion, age, gender = (load(f"{name}_crop") for name in ("emotion", "age", "gender"))
    features, merge = load("emotion_features"), load("emotion_merge")
    branch_names = [i.name for i in features.get_inputs()]
    merge_names = [i.name for i in merge.get_inputs()]

    def prepare(golden):
        crops = np.ascontiguousarray(golden["crops"][:, None].astype("f4"))
        branches = {n: golden[k][None, :, :, None].astype("f4") for n, k in zip(branch_names, BRANCHES)}

        def run():
            windows, _, _ = (net.run(None, {"x": crops})[0] for net in (emotion, age, gender))
            inputs = [windows.mean(0)[None], *features.run(None, branches)]
            return merge.run(None, dict(zip(merge_names, inputs)))[0]

        return run

    return prepare


def keras_networks(folder, threads):
    """Returns the same function in Keras, all five networks compiled into one TensorFlow function."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    from compare import keras_networks as networks

    emotion, age, gender, features, merge = (
        networks.load(folder / f"Model_{name}.h5")
        for name in ("Emotion_crop", "Age_crop", "Gender_crop", "Emotion_Features", "Emotion_Merge")
    )

    @tf.function
    def everything(crops, branches):
        windows = emotion(crops, training=False)
        inputs = [tf.reduce_mean(windows, 0, keepdims=True), *features(branches, training=False)]
        # Age and gender are returned too, or TensorFlow would prune them.
        others = age(crops, training=False), gender(crops, training=False)
        return merge(inputs, training=False), others

    def prepare(golden):
        crops = tf.constant(golden["crops"][..., None].astype("f4"))
        branches = [tf.constant(golden[k][None, :, :, None].astype("f4")) for k in BRANCHES]
        return lambda: everything(crops, branches)[0].numpy()

    return prepare


def main():
    kind, folder, golden_folder, threads = sys.argv[1:]
    make = {"onnxruntime": onnxruntime_networks, "keras": keras_networks}[kind]
    prepare = make(pathlib.Path(folder), int(threads))
    goldens, prepared = {}, {}
    print("ready", flush=True)
    for line in sys.stdin:
        command, recording, *rest = line.rstrip("\n").split("\t")
        if recording not in prepared:
            goldens[recording] = np.load(pathlib.Path(golden_folder) / f"{recording}.npz")
            prepared[recording] = prepare(goldens[recording])
        run = prepared[recording]
        if command == "answer":
            print(*map(float, run()[0]), flush=True)
        elif command == "golden":
            print(*map(float, goldens[recording]["final_det"][0]), flush=True)
        elif command == "networks":
            iterations = int(rest[0])
            start = time.perf_counter_ns()
            for _ in range(iterations):
                run()
            print((time.perf_counter_ns() - start) // max(iterations, 1), flush=True)
        else:
            sys.exit(f"unknown request {line!r}")


main()
