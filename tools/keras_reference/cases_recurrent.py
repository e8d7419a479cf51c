"""LSTM, GRU, Bidirectional and TimeDistributed."""

import keras
from keras import layers as L

from .cases_masks import padded
from .core import case

STEPS = (5, 3)


def one(name, covers, layer, shape=STEPS, **options):
    case(name, covers, shape, lambda x: layer()(x), **options)


def recurrent(kind, tag, fixed):
    """Registers the options of both kinds; `fixed` is set on every layer."""
    label = f"{kind.__name__} {fixed or ''}".strip()
    for name, covers, args in (
        ("last", "last step", {}),
        ("sequences", "every step", {"return_sequences": True}),
        ("go_backwards", "backwards, last step", {"go_backwards": True}),
        ("sequences_go_backwards", "backwards, every step in the order computed", {"return_sequences": True, "go_backwards": True}),
        ("hard_sigmoid", "gates hard_sigmoid", {"recurrent_activation": "hard_sigmoid", "return_sequences": True}),
        ("hard_sigmoid_go_backwards", "gates hard_sigmoid, backwards", {"recurrent_activation": "hard_sigmoid", "go_backwards": True}),
        ("relu", "activation relu", {"activation": "relu", "return_sequences": True}),
        ("linear", "activation linear", {"activation": "linear", "return_sequences": True}),
        ("no_bias", "without bias", {"use_bias": False, "return_sequences": True}),
    ):  # fmt: skip
        one(f"{tag}_{name}", f"{label}: {covers}", lambda args=args: kind(4, **fixed, **args))


def lstm_and_gru():
    recurrent(L.LSTM, "lstm", {})
    recurrent(L.GRU, "gru_reset_after", {"reset_after": True})
    recurrent(L.GRU, "gru", {"reset_after": False})
    hard = {"recurrent_activation": "hard_sigmoid", "return_sequences": True}
    one(
        "lstm_dropout_at_training",
        "LSTM with dropout rates: nothing at inference",
        lambda: L.LSTM(4, dropout=0.5, recurrent_dropout=0.3),
    )
    one("lstm_implementation1", "LSTM, implementation 1: same numbers", lambda: L.LSTM(4, implementation=1))
    one("lstm_unroll", "LSTM, unrolled: same numbers", lambda: L.LSTM(4, unroll=True))
    gates = ("tanh", "relu", "softsign", "linear")
    case(
        "recurrent_other_activations",
        "Activations that recurrent operators of other runtimes lack",
        STEPS,
        lambda x: [
            L.LSTM(3, activation="swish", return_sequences=True)(x),
            L.LSTM(3, recurrent_activation="softmax", go_backwards=True)(x),
            L.GRU(3, activation="selu", reset_after=False, return_sequences=True)(x),
            L.GRU(3, activation="gelu", use_bias=False)(x),
            L.GRU(3, activation=L.ReLU(max_value=1.0, negative_slope=0.1))(x),
            L.SimpleRNN(3, activation="gelu", go_backwards=True, return_sequences=True)(x),
        ],
    )
    for kind in (L.LSTM, L.GRU):
        build = lambda x, kind=kind: [kind(3, recurrent_activation=g, name=f"gates_{g}")(x) for g in gates]
        tag = kind.__name__
        case(f"{tag.lower()}_gates", f"{tag}, gates {', '.join(gates)}: an output each", STEPS, build)
    one(
        "lstm_legacy",
        "LSTM, file of Keras 2.2.4: weights straight under the layer",
        lambda: L.LSTM(4, name="lstm_1", **hard),
        legacy=True,
    )
    one(
        "gru_legacy", "GRU, file of Keras 2.2.4", lambda: L.GRU(4, name="gru_1", reset_after=False, **hard), legacy=True
    )
    one("lstm_one_step", "LSTM over a single step", lambda: L.LSTM(4), (1, 3))
    one("lstm_any_length", "LSTM over an unstated number of steps", lambda: L.LSTM(4), (None, 3), inputs=seven_steps)
    case("lstm_stacked", "LSTM on LSTM", STEPS, lambda x: L.LSTM(3)(L.LSTM(4, return_sequences=True)(x)))


def seven_steps(item, model):
    from .core import rng

    return [rng(item.name, "input").standard_normal((item.batch, 7, 3)).astype("float32")]


def bidirectional():
    for mode in ("concat", "sum", "mul", "ave"):
        for sequences in (False, True):
            tail = "_sequences" if sequences else ""
            note = "every step" if sequences else "last step"
            args = {"return_sequences": sequences}
            one(
                f"bidirectional_lstm_{mode}{tail}",
                f"Bidirectional LSTM, {mode}, {note}",
                lambda m=mode, a=args: L.Bidirectional(L.LSTM(3, **a), merge_mode=m),
            )
            if mode in ("concat", "sum"):
                one(
                    f"bidirectional_gru_{mode}{tail}",
                    f"Bidirectional GRU, {mode}, {note}",
                    lambda m=mode, a=args: L.Bidirectional(L.GRU(3, **a), merge_mode=m),
                )
    one(
        "bidirectional_gru_reset_before",
        "Bidirectional GRU, reset_after=False",
        lambda: L.Bidirectional(L.GRU(3, reset_after=False)),
    )
    one(
        "bidirectional_lstm_hard_sigmoid",
        "Bidirectional LSTM, gates hard_sigmoid",
        lambda: L.Bidirectional(L.LSTM(3, recurrent_activation="hard_sigmoid", return_sequences=True)),
    )
    one(
        "bidirectional_go_backwards",
        "Bidirectional around a layer that already runs backwards",
        lambda: L.Bidirectional(L.LSTM(3, go_backwards=True, return_sequences=True)),
        refused="go_backwards",
        may_run=True,
    )
    one(
        "bidirectional_backward_layer",
        "Bidirectional with a backward layer of its own",
        lambda: L.Bidirectional(L.LSTM(3), backward_layer=L.GRU(2, go_backwards=True)),
        refused="backward_layer",
        may_run=True,
    )
    case(
        "bidirectional_merge_none",
        "Bidirectional that does not merge: two outputs",
        STEPS,
        lambda x: L.Bidirectional(L.LSTM(3), merge_mode=None)(x),
    )
    case(
        "bidirectional_merge_none_sequences",
        "Bidirectional that does not merge sequences; its outputs are read apart",
        STEPS,
        lambda x: [L.Dense(2)(y) for y in L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode=None)(x)],
    )
    case(
        "bidirectional_merge_none_states",
        "Bidirectional that does not merge, with states",
        STEPS,
        lambda x: L.Bidirectional(L.LSTM(3, return_state=True), merge_mode=None)(x),
    )


def time_distributed():
    def wrap(name, covers, shape, layer):
        one(f"time_distributed_{name}", f"TimeDistributed {covers}", lambda: L.TimeDistributed(layer()), shape)

    def body():
        i = L.Input((4, 3, 2), name="inner_input")
        x = L.Conv2D(3, 2, activation="relu", name="inner_conv")(i)
        return keras.Model(i, L.Dense(2, name="inner_dense")(L.Flatten(name="inner_flatten")(x)), name="inner")

    wrap("dense", "Dense", (3, 4), lambda: L.Dense(2, activation="relu"))
    wrap("flatten", "Flatten", (3, 4, 2), L.Flatten)
    wrap("conv2d", "Conv2D", (3, 5, 4, 2), lambda: L.Conv2D(2, 3, padding="same"))
    wrap("max_pooling2d", "MaxPooling2D", (3, 5, 4, 2), L.MaxPooling2D)
    wrap("batch_normalization", "BatchNormalization", (3, 4), L.BatchNormalization)
    wrap("activation", "Activation softmax", (3, 4), lambda: L.Activation("softmax"))
    wrap("global_average_pooling2d", "GlobalAveragePooling2D", (3, 4, 5, 2), L.GlobalAveragePooling2D)
    wrap("model", "nested Model", (3, 4, 3, 2), body)
    wrap(
        "sequential",
        "nested Sequential",
        (3, 4),
        lambda: keras.Sequential([L.Dense(5, activation="tanh", input_shape=(4,)), L.Dense(2)], name="inner"),
    )
    wrap("lstm", "LSTM: a sequence of sequences", (2, 4, 3), lambda: L.LSTM(3))


def stateful():
    def network():
        i = L.Input(batch_shape=(2, 4, 3), name="input_1")
        x = L.Bidirectional(L.LSTM(2, return_sequences=True, stateful=True))(i)
        return keras.Model(i, L.GRU(2, stateful=True)(x), name="model")

    case("stateful", "Stateful layers, the first call", build=network, batch=2)

    def of_each_kind():
        i = L.Input(batch_shape=(3, 6, 3), name="input_1")
        x = L.Bidirectional(L.LSTM(2, return_sequences=True, stateful=True))(L.Masking()(i))
        steps, h, c = L.LSTM(3, stateful=True, return_sequences=True, return_state=True)(x)
        last = L.GRU(4, stateful=True, go_backwards=True)(x)
        inner = keras.Sequential(
            [
                L.Input(batch_shape=(3, 6, 3), name="inner_input"),
                L.SimpleRNN(2, stateful=True, return_sequences=True),
                L.GRU(2, stateful=True, reset_after=False),
                L.Dense(2),
            ],
            name="inner",
        )
        return keras.Model(i, [steps, h, c, last, inner(i)], name="model")

    case("stateful_second_call", "Stateful layers, two calls", build=of_each_kind, inputs=padded(), second=True)

    def shared():
        i = L.Input(batch_shape=(3, 6, 3), name="input_1")
        layer = L.GRU(2, stateful=True, name="gru")
        return keras.Model(i, [layer(i), layer(i)], name="model")

    case(
        "refused_stateful_twice",
        "A stateful layer that is used twice",
        build=shared,
        refused="used more than once",
        layer="gru",
    )

    def steps_of_steps():
        i = L.Input(batch_shape=(3, 2, 6, 3), name="input_1")
        return keras.Model(i, L.TimeDistributed(L.GRU(2, stateful=True, name="gru"))(i), name="model")

    case(
        "refused_stateful_time_distributed",
        "A stateful layer in TimeDistributed",
        build=steps_of_steps,
        refused="TimeDistributed",
    )


for register in (lstm_and_gru, bidirectional, time_distributed, stateful):
    register()
