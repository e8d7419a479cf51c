"""Prints compiled lambdas of the running Python version, one per line, for codes.tsv:

    for v in 3.6 3.7 3.8 3.9 3.10 3.11 3.12 3.13; do python$v tests/keras/lambda/make.py; done > tests/keras/lambda/codes.tsv

Columns: version, meaning (or "refused"), source, marshalled code in base64.
"""

import base64
import marshal
import sys

RECOGNISED = [
    ("sum 1", "lambda x: K.sum(x, axis=1)"),
    ("sum 1", "lambda x: K.sum(x, 1)"),
    ("sum -1", "lambda x: K.sum(x, axis=-1)"),
    ("sum -2", "lambda t: K.sum(t, -2)"),
    ("sum 2", "lambda x: tf.reduce_sum(x, axis=2)"),
    ("sum 1", "lambda x: tf.math.reduce_sum(x, 1)"),
    ("sum 300", "lambda x: keras.backend.sum(x, axis=300)"),
    ("spatial", "lambda x: Spatial_multiply(x)"),
    ("channel", "lambda x: Channel_multiply(x)"),
]
REFUSED = [
    "lambda x: x",
    "lambda x: None",
    "lambda x: K.sum(x)",
    "lambda x: K.sum(x, axis=None)",
    "lambda x: K.sum(x, axis=1.0)",
    "lambda x: K.sum(x, axis=True)",
    "lambda x: K.sum(x, axis=(1, 2))",
    "lambda x: K.sum(x, axis=1, keepdims=True)",
    "lambda x: K.sum(x, 1, True)",
    "lambda x: K.sum(x, keepdims=1)",
    "lambda x: K.sum(x, axis=1) + 1",
    "lambda x: K.sum(x, axis=1) * K.sum(x, axis=1)",
    "lambda x: -K.sum(x, axis=1)",
    "lambda x: K.sum(-x, axis=1)",
    "lambda x: K.sum(x[1], axis=1)",
    "lambda x: K.sum(K.sum(x, axis=1), axis=1)",
    "lambda x: K.mean(x, axis=1)",
    "lambda x: np.sum(x, axis=1)",
    "lambda x: sum(x, 1)",
    "lambda x: K.sum.x(x, axis=1)",
    "lambda x: K.sum(x, axis=n)",
    "lambda x, y: K.sum(x, axis=1)",
    "lambda x, *y: K.sum(x, axis=1)",
    "lambda x, **y: K.sum(x, axis=1)",
    "lambda x, y: K.sum(y, axis=1)",
    "lambda *, x: K.sum(x, axis=1)",
    "lambda x: (lambda y: K.sum(x, axis=1))",
    "lambda x: K.sum(x, **axis)",
    "lambda x: Spatial_multiply(x, 1)",
    "lambda x: Spatial_multiply(x) * Spatial_multiply(x)",
    "lambda x: Spatial_multiply(Channel_multiply(x))",
    "lambda x: Spatial_multiply",
    "lambda x: Multiply(x)",
    "lambda x: os.system('true')",
    "lambda x: (K.sum(x, axis=1), 1)[0]",
    "lambda x: K.sum(x, axis=1) if x else x",
]

for meaning, source in RECOGNISED + [("refused", s) for s in REFUSED]:
    code = eval(compile(source, "models.py", "eval")).__code__
    version = "%d.%d" % sys.version_info[:2]
    print(version, meaning, source, base64.b64encode(marshal.dumps(code)).decode(), sep="\t")
