"""Writes the Keras test models of tests/golden; see tests/golden/README.md."""

import os

# Set before TensorFlow loads: one thread and no alternative kernels keep the summation order.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
