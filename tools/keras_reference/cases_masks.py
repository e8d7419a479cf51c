"""Masks, initial states and returned states."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers as L

from .core import case, rng

STEPS = (6, 3)


def padded(value=0.0):
    """Returns sequences with skipped steps: none, the last ones, and some at both ends and between."""

    def inputs(item, model):
        found = []
        for k, tensor in enumerate(model.inputs):
            x = rng(item.name, "input", k).standard_normal((item.batch, *tensor.shape[1:])).astype(np.float32)
            if len(tensor.shape) == 3:
                x[1, 4 - k :] = value
                x[2, [0, 3 - k, tensor.shape[1] - 1]] = value
            found.append(x)
        return found

    return inputs


def indices(item, model):
    """Returns indices below 5, among them 0 at the end, at the start and between."""
    found = []
    for k, tensor in enumerate(model.inputs):
        x = rng(item.name, "input", k).integers(1, 5, (item.batch, *tensor.shape[1:]))
        x[1, 3 + k :] = 0
        x[2, [0, 2 + k]] = 0
        found.append(x.astype(np.float32))
    return found


def masked(name, covers, build, shapes=STEPS, value=0.0, **options):
    case(f"mask_{name}", covers, shapes, build, inputs=padded(value), **options)


def recurrent_layers():
    for tag, layer in (
        ("lstm", lambda **a: L.LSTM(4, **a)),
        ("gru", lambda **a: L.GRU(4, reset_after=False, **a)),
        ("gru_reset_after", lambda **a: L.GRU(4, **a)),
        ("simple_rnn", lambda **a: L.SimpleRNN(4, **a)),
    ):
        masked(tag, f"{tag}, last step, with a mask", lambda x, f=layer: f()(L.Masking()(x)))
        masked(
            f"{tag}_sequences",
            f"{tag}, every step, with a mask",
            lambda x, f=layer: f(return_sequences=True)(L.Masking()(x)),
        )
    masked(
        "lstm_go_backwards",
        "LSTM backwards with a mask",
        lambda x: L.LSTM(4, return_sequences=True, go_backwards=True)(L.Masking()(x)),
    )
    masked("lstm_unroll", "LSTM, unrolled, with a mask", lambda x: L.LSTM(4, unroll=True)(L.Masking()(x)))
    masked(
        "lstm_zero_output",
        "LSTM whose skipped steps give zeros",
        lambda x: L.LSTM(4, return_sequences=True, zero_output_for_mask=True)(L.Masking()(x)),
    )
    masked("value", "Masking of another value", lambda x: L.LSTM(4)(L.Masking(-1.5)(x)), value=-1.5)
    masked(
        "lstm_stacked",
        "A mask through LSTM into LSTM",
        lambda x: L.LSTM(3)(L.LSTM(4, return_sequences=True)(L.Masking()(x))),
    )
    for mode, sequences in (("concat", True), ("concat", False), ("sum", True)):
        masked(
            f"bidirectional_{mode}{'_sequences' if sequences else ''}",
            f"Bidirectional LSTM with a mask, {mode}",
            lambda x, m=mode, s=sequences: L.Bidirectional(L.LSTM(3, return_sequences=s), merge_mode=m)(L.Masking()(x)),
        )
    masked(
        "bidirectional_into_gru",
        "A mask through Bidirectional into GRU",
        lambda x: L.GRU(3)(L.Bidirectional(L.LSTM(3, return_sequences=True))(L.Masking()(x))),
    )


def propagation():
    def passing(x):
        x = L.Dense(4)(L.Masking()(x))
        x = L.LeakyReLU()(L.Activation("tanh")(L.Dropout(0.5)(x)))
        x = L.LayerNormalization()(L.BatchNormalization()(x))
        return L.LSTM(3)(L.SpatialDropout1D(0.2)(x))

    masked("passes", "A mask through layers that keep it", passing)
    masked(
        "stops",
        "Masks that convolution and reshaping drop",
        lambda x: [L.LSTM(3)(L.Conv1D(4, 2)(L.Masking()(x))), L.LSTM(2)(L.Reshape((6, 3))(L.Masking()(x)))],
    )
    masked(
        "time_distributed",
        "A mask through TimeDistributed",
        lambda x: L.LSTM(3)(L.TimeDistributed(L.Dense(4, activation="relu"))(L.Masking()(x))),
    )
    pair = [STEPS, STEPS]
    masked(
        "merges",
        "Masks of both inputs of Add, of one input, and of concatenated channels",
        lambda x, y: [
            L.LSTM(3)(L.Add()([L.Masking()(x), L.Masking()(y)])),
            L.LSTM(3)(L.Multiply()([L.Masking()(x), y])),
            L.LSTM(3)(L.Concatenate()([L.Masking()(x), L.Masking()(y)])),
            L.LSTM(3)(L.Concatenate()([x, L.Masking()(y)])),
            L.LSTM(3)(L.Concatenate(axis=1)([L.Masking()(x), L.Masking()(y)])),
        ],
        shapes=pair,
    )
    masked(
        "global_average_pooling1d",
        "Mean and maximum over the steps of a masked sequence",
        lambda x: [L.GlobalAveragePooling1D()(L.Masking()(x)), L.GlobalMaxPooling1D()(L.Masking()(x))],
    )
    masked(
        "attention",
        "Attention with masks of query and value",
        lambda q, v: [
            L.Attention()([L.Masking()(q), L.Masking()(v)]),
            L.Attention()([q, L.Masking()(v)]),
            L.LSTM(2)(L.Attention()([L.Masking()(q), v])),
        ],
        shapes=[STEPS, (5, 3)],
    )

    masked(
        "multi_head_attention",
        "MultiHeadAttention with masks of query, value and key, passed on",
        lambda q, v: [
            L.MultiHeadAttention(2, 3)(L.Masking()(q), L.Masking()(v)),
            L.MultiHeadAttention(2, 3, dropout=0.1)(q, L.Masking()(v)),
            L.MultiHeadAttention(2, 3)(q, v, key=L.Masking()(v)),
            (lambda x: L.LSTM(2)(L.MultiHeadAttention(2, 2)(x, x)))(L.Masking()(q)),
        ],
        shapes=[STEPS, (5, 3)],
    )
    case(
        "mask_softmax",
        "Softmax of a vector with a mask that is an argument",
        [(6,), (6,)],
        lambda x, scores: L.Softmax()(scores, mask=tf.not_equal(x, 0.0)),
        inputs=lambda item, model: [indices(item, model)[0], rng(item.name, "scores").standard_normal((3, 6)).astype(np.float32)],
    )

    def nested(x):
        i = L.Input(STEPS)
        inner = keras.Model(i, L.LSTM(4, return_sequences=True)(L.Dense(3)(i)), name="inner")
        return L.GRU(3)(inner(L.Masking()(x)))

    masked("nested", "A mask into a model and out of it", nested)
    case(
        "mask_sequential",
        "A mask in a Sequential",
        (),
        lambda: keras.Sequential([L.Input(STEPS, name="input_1"), L.Masking(), L.LSTM(4, return_sequences=True), L.Dense(2), L.GRU(3)]),
        inputs=padded(),
    )
    case(
        "mask_embedding",
        "Embedding that masks index 0, into LSTM, mean and convolution",
        (6,),
        lambda x: [
            L.LSTM(4)(L.Embedding(5, 3, mask_zero=True)(x)),
            L.GlobalAveragePooling1D()(L.Embedding(5, 3, mask_zero=True)(x)),
            L.Conv1D(2, 3)(L.Embedding(5, 3, mask_zero=True)(x)),
        ],
        inputs=indices,
    )


def states():
    def encoder_decoder(x, y):
        _, h, c = L.LSTM(4, return_state=True)(x)
        out, h2, c2 = L.LSTM(4, return_sequences=True, return_state=True)(y, initial_state=[h, c])
        return [L.Dense(2)(out), h2, c2]

    pair = [(5, 3), (4, 2)]
    case("states_lstm", "LSTM from the states of another", pair, encoder_decoder)

    def gru(x, y):
        out, h = L.GRU(4, return_sequences=True, return_state=True, go_backwards=True)(x)
        return [L.GRU(4)(y, initial_state=h), out]

    case("states_gru", "GRU from the state of another, backwards", pair, gru)

    def simple(x, h):
        out, last = L.SimpleRNN(4, return_state=True)(x, initial_state=h)
        return [out, last]

    case("states_simple_rnn", "SimpleRNN from an input as its state", [(5, 3), (4,)], simple)
    def bidirectional(x, y):
        out, *states = L.Bidirectional(L.LSTM(4, return_state=True))(x)
        both = L.Bidirectional(L.LSTM(4, return_sequences=True), merge_mode="sum")(y, initial_state=states)
        return [both, out, states[3]]

    case("states_bidirectional", "Bidirectional LSTM from the states of another", pair, bidirectional)
    case(
        "states_any_length",
        "Returned states of a sequence of unstated length",
        (None, 3),
        lambda x: L.LSTM(4, return_sequences=True, return_state=True)(x),
        inputs=lambda item, model: [rng(item.name, "input").standard_normal((item.batch, 7, 3)).astype(np.float32)],
    )

    def with_masks(x, y):
        rows = L.Embedding(5, 3, mask_zero=True)
        _, h, c = L.LSTM(4, return_state=True)(rows(x))
        out = L.LSTM(4, return_sequences=True)(rows(y), initial_state=[h, c])
        return L.TimeDistributed(L.Dense(2))(out)

    case("states_with_masks", "LSTM with a mask from the states of another", [(5,), (6,)], with_masks, inputs=indices)


for register in (recurrent_layers, propagation, states):
    register()
