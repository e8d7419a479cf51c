"""Marshalled Lambda code of several Python versions, each written by that version."""

import json
import subprocess
import sys

RECOGNISE = {
    "lambda x: K.sum(x, axis=1)": "sum_axis1",
    "lambda xin: K.sum(xin, axis=1)": "sum_axis1",
    "lambda x: Spatial_multiply(x)": "spatial_multiply",
    "lambda x: Channel_multiply(x)": "channel_multiply",
}
# Equivalent forms of the sum: a reader may accept or refuse them, but not as another function.
EITHER = {
    "lambda x: K.sum(x, 1)": "sum_axis1",
    "lambda x: K.sum(x, axis=2)": "sum_axis2",
    "lambda x: K.sum(x, axis=-2)": "sum_axis-2",
    "lambda x: tf.reduce_sum(x, axis=1)": "sum_axis1",
    "lambda x: tf.keras.backend.sum(x, axis=1)": "sum_axis1",
}
REFUSE = [
    "lambda x: x * 2 + 1",
    "lambda x: x",
    "lambda x: os.system('echo this must never run')",
    "lambda x: K.mean(x, axis=1)",
    "lambda x: K.sum(x * x, axis=1)",
    "lambda x: -K.sum(x, axis=1)",
    "lambda x: K.sum(-x, axis=1)",
    "lambda x: K.sum(x[1], axis=1)",
    "lambda x: K.sum(x, axis=1) + 1",
    "lambda x: K.sum(K.sum(x, axis=1), axis=1)",
    "lambda x: K.sum(x, axis=0)",
    "lambda x: K.sum(x, axis=None)",
    "lambda x, K=None: K.sum(x, axis=1)",
    "lambda x: not K.sum(x, axis=1)",
    "lambda x: [K.sum(x, axis=1)]",
    "lambda x: Spatial_multiply(x[::-1])",
    "lambda x: Spatial_multiply(x) + x",
    "lambda x: Spatial_multiply(x) * Spatial_multiply(x)",
    "lambda x: -Spatial_multiply(x)",
    "lambda x: Spatial_multiply",
    "lambda x: Spatial_multiply(Spatial_multiply)",
    "lambda x: Spatial_multiply(x=x)",
    "lambda x: Spatial_multiply(*x)",
    "lambda x: Channel_multiply(Spatial_multiply(x))",
    "lambda x: Channel_multiply()",
    "lambda x: Temporal_multiply(x)",
]

# Program for each Python version. Keras stores base64 with line breaks.
DUMP = """
import base64, json, marshal, platform, sys
sources = json.load(sys.stdin)
codes = [base64.encodebytes(marshal.dumps(eval(compile(s, "models.py", "eval")).__code__)).decode() for s in sources]
print(json.dumps({"version": platform.python_version(), "implementation": platform.python_implementation(), "codes": codes}))
"""


def write(folder, pythons):
    """Writes one file per Python, named by its minor version; leaves other files unchanged."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [("recognise", s, m) for s, m in RECOGNISE.items()]
    kinds += [("either", s, m) for s, m in EITHER.items()]
    kinds += [("refuse", s, None) for s in REFUSE]
    for python in pythons or [sys.executable]:
        sources = json.dumps([source for _, source, _ in kinds])
        run = subprocess.run([python, "-c", DUMP], input=sources.encode(), stdout=subprocess.PIPE, check=True)
        found = json.loads(run.stdout)
        minor = ".".join(found["version"].split(".")[:2])
        lambdas = []
        for (expect, source, meaning), code in zip(kinds, found["codes"]):
            entry = {"source": source, "expect": expect, "meaning": meaning, "code": code}
            lambdas.append({k: v for k, v in entry.items() if v is not None})
        content = {"python": found["version"], "implementation": found["implementation"], "lambdas": lambdas}
        (folder / f"python{minor}.json").write_text(json.dumps(content, indent=1) + "\n")
