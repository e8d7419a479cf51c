"""Writes the Keras test models of tests/golden; see tests/golden/README.md."""

import os

# Before TensorFlow loads: one thread and no alternative kernels, so that sums keep their order.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
