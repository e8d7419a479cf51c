"""The default networks' layers."""

import numpy as np

import features

# Standardised descriptors are clipped to this many standard deviations.
CLIP = 4.0
# A kernel of this many elements or more is rounded to 8 bits. Those of the recurrent layers and of the last layers, which
# together are small, keep 16.
LARGE_KERNEL = 20_000


def keras_modules():
    import tensorflow as tf
    from tensorflow import keras

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf, keras, keras.layers


def stats_trunk(inputs, outputs, cfg, mean, std):
    """Inputs, then one logit tensor per branch. (x - mean) / std clipped to +-4 is two frozen BatchNorms and a ReLU.

    Two inputs are the descriptors as they are and relative to a speaker. The first branches read both, which is better
    for voices like those of the training; the last `relative` ones read the second input alone, which is better for others.
    """
    tf, keras, L = keras_modules()
    names = ["stats"] if inputs == 1 else ["stats", "stats_of_speaker"]
    i = [L.Input((len(mean),), name=name) for name in names]

    def standardised(x, name):
        n = len(mean)
        norm = L.BatchNormalization(epsilon=1e-6, scale=False, trainable=False, name=f"standardise{name}")
        x = L.ReLU(max_value=2 * CLIP, name=f"clip{name}")(norm(x))
        centre = L.BatchNormalization(epsilon=1e-6, scale=False, center=False, trainable=False, name=f"centre{name}")
        x = centre(x)
        norm.set_weights([np.full(n, CLIP), mean, np.maximum(std**2, 1e-12)])
        centre.set_weights([np.full(n, CLIP), np.full(n, 1 - 1e-6)])
        return x

    parts = [standardised(x, f"_{name}") for x, name in zip(i, names)]
    whole = parts[0] if inputs == 1 else L.Concatenate(name="both")(parts)
    out = []
    for k in range(cfg["branches"]):
        x = parts[-1] if k >= cfg["branches"] - cfg.get("relative", 0) else whole
        y = L.Dropout(cfg["drop_in"])(x)
        y = L.Dense(cfg["units"], activation="relu", kernel_regularizer=keras.regularizers.l2(1e-4), name=f"hidden_{k}")(y)
        y = L.Dropout(cfg["drop"])(y)
        out.append(L.Dense(outputs, name=f"branch_{k}")(y))
    return i, out


def steps_of_frames(i, cfg):
    """Convolutions over time alone: every filter reads all bands and the pitch."""
    tf, keras, L = keras_modules()
    x = i
    for u in cfg["conv"]:
        x = L.Conv1D(u, 5, padding="same", kernel_regularizer=keras.regularizers.l2(1e-5))(x)
        x = L.Activation("relu")(L.BatchNormalization()(x))
        x = L.SpatialDropout1D(cfg["drop_conv"])(L.MaxPooling1D(2)(x))
    return x


def steps_of_plane(i, cfg):
    """Convolutions over time and bands, which find a pattern at any frequency, beside convolutions of the pitch over time."""
    tf, keras, L = keras_modules()
    l2 = keras.regularizers.l2(1e-5)
    bands, width = features.BANDS, features.BANDS + 4
    plane = L.Reshape((features.WINDOW, width, 1))(i)
    x = L.Cropping2D(((0, 0), (0, width - bands)))(plane)
    for k, u in enumerate(cfg["planes"]):
        x = L.Conv2D(u, 3, padding="same", use_bias=False, kernel_regularizer=l2)(x)
        x = L.Activation("relu")(L.BatchNormalization()(x))
        x = L.MaxPooling2D((2, 2) if k < 2 else (1, 2))(x)
    steps, high, wide = x.shape[1:]
    x = L.SpatialDropout1D(cfg["drop_conv"])(L.Reshape((steps, high * wide))(x))
    v = L.Reshape((features.WINDOW, width - bands))(L.Cropping2D(((0, 0), (bands, 0)))(plane))
    for _ in range(2):
        v = L.Conv1D(cfg["pitch"], 5, padding="same", use_bias=False)(v)
        v = L.MaxPooling1D(2)(L.Activation("relu")(L.BatchNormalization()(v)))
    x = L.Conv1D(cfg["mix"], 1, use_bias=False, kernel_regularizer=l2)(L.Concatenate()([x, v]))
    return L.SpatialDropout1D(cfg["drop_conv"])(L.Activation("relu")(L.BatchNormalization()(x)))


def window_model(cfg, outputs):
    tf, keras, L = keras_modules()
    i = L.Input((features.WINDOW, features.BANDS + 4), name="frames")
    x = steps_of_plane(i, cfg) if "planes" in cfg else steps_of_frames(i, cfg)
    x = L.Bidirectional(L.GRU(cfg["gru"], return_sequences=True, reset_after=True))(x)
    time_steps, width = x.shape[1:]
    a = L.Reshape((time_steps,))(L.Dense(1)(L.Dense(32, activation="tanh")(x)))
    a = L.Permute((2, 1))(L.RepeatVector(width)(L.Softmax()(a)))
    # The mean over time stands in for the sum: the BatchNorm after it absorbs the constant factor.
    a = L.BatchNormalization()(L.GlobalAveragePooling1D()(L.Multiply()([x, a])))
    y = L.Concatenate()([a, L.GlobalMaxPooling1D()(x), L.GlobalAveragePooling1D()(x)])
    y = L.Dense(cfg["units"], activation="relu")(L.Dropout(cfg["drop"])(y))
    return keras.Model(i, L.Dense(outputs, name="logits")(L.Dropout(cfg["drop"])(y)))


def predict_windows(model, frames):
    """Mean logits over the windows of each recording."""
    cut = [features.windows(f) for f in frames]
    p = model.predict(np.concatenate([np.stack(c) for c in cut]), batch_size=256, verbose=0)
    end = np.cumsum([len(c) for c in cut])
    return np.stack([p[e - len(c) : e].mean(0) for c, e in zip(cut, end)])


def round_kernel(kernel):
    """Rounds a kernel to elements that a bundle stores in one byte, or in two. Those of a large kernel become whole
    multiples, from -127 to 127, of one scale per output channel; a scale has 11 significant bits, so that every product
    is exact in float32. Those of other kernels become binary16."""
    if kernel.size < LARGE_KERNEL:
        return kernel.astype("f2").astype("f4")
    flat = kernel.reshape(-1, kernel.shape[-1]).astype("f8")
    fraction, exponent = np.frexp(np.abs(flat).max(axis=0) / 127)
    scale = np.ldexp(np.ceil(fraction * 2**11) / 2**11, exponent)
    # Adding 0 removes the sign of zeros.
    levels = np.rint(flat / np.where(scale == 0, 1, scale)) + 0.0
    return (levels * scale).astype("f4").reshape(kernel.shape)


def round_kernels(model):
    """Rounds the kernels of a model. Biases and the statistics of normalisations stay as they are."""
    model.set_weights([round_kernel(w) if w.ndim > 1 else w for w in model.get_weights()])
    return model


def finish(model, kernel, bias, activation, name):
    """The averaged logits through a fixed dense layer: temperature, or years."""
    tf, keras, L = keras_modules()
    kernel = np.asarray(kernel, "f4")
    dense = L.Dense(kernel.shape[1], activation=activation, name=name)
    out = keras.Model(model.input, dense(model.output))
    dense.set_weights([kernel, np.asarray(bias, "f4")])
    return out
