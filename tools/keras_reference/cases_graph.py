"""Graph models: sequential, nested, shared, several inputs and outputs, and file layout."""

import keras
from keras import layers as L

from .core import case


def sequential_layers():
    return [
        L.Conv2D(2, 3, activation="relu", input_shape=(6, 5, 1), name="conv"),
        L.MaxPooling2D(name="pool"),
        L.Flatten(name="flat"),
        L.Dense(3, name="dense"),
    ]


def as_list(config):
    """Sequential the way Keras up to 2.2.2 wrote it: `config` is the list of layers itself."""
    config["config"] = without_input(config["config"]["layers"])
    return config


def without_input(layers):
    return layers[1:] if layers[0]["class_name"] == "InputLayer" else layers


def nested_as_list(config):
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Sequential":
            layer["config"] = without_input(layer["config"]["layers"])
    return config


def no_input_layer(config):
    config["config"]["layers"] = without_input(config["config"]["layers"])
    return config


def sequential():
    def build():
        return keras.Sequential(sequential_layers(), name="sequential_1")

    case("sequential_dict", "Sequential, config is an object; input named conv_input", build=build, keep_layers=True)
    case(
        "sequential_no_input_layer",
        "Sequential whose first layer alone states the input shape",
        build=build,
        patch=no_input_layer,
    )
    case("sequential_list", "Sequential, config is a list (Keras 2.2.2 and before)", build=build, patch=as_list)
    case("sequential_dict_legacy", "Sequential, file of Keras 2.2.4", build=build, legacy=True)
    case(
        "sequential_list_legacy",
        "Sequential, config is a list, older layout of the file",
        build=build,
        legacy=True,
        patch=as_list,
    )

    def explicit():
        return keras.Sequential([L.InputLayer((4,), name="features"), L.Dense(3, name="a"), L.Dense(2, name="b")])

    case("sequential_input_layer", "Sequential that starts with a named InputLayer", build=explicit)

    def nested(x):
        inner = keras.Sequential(
            [L.Dense(4, input_shape=(3,), activation="tanh", name="a"), L.Dense(2, name="b")], name="inner"
        )
        return L.Dense(2, name="head")(inner(x))

    case("sequential_nested", "Sequential inside a functional model", (3,), nested, keep_layers=True)
    case(
        "sequential_nested_list",
        "Sequential inside a functional model, config is a list",
        (3,),
        nested,
        patch=nested_as_list,
    )
    case(
        "sequential_nested_legacy",
        "Sequential inside a functional model, file of Keras 2.2.4",
        (3,),
        nested,
        legacy=True,
    )

    def deferred(x):
        return keras.Sequential([L.Dense(4, activation="tanh", name="a"), L.Dense(2, name="b")], name="inner")(x)

    case("sequential_nested_no_shape", "Nested Sequential whose layers state no input shape", (3,), deferred)

    def outer():
        i = L.Input((3,), name="inner_input")
        inner = keras.Model(i, L.Dense(4, activation="relu", name="inner_dense")(i), name="inner")
        return keras.Sequential([inner, L.Dense(2, name="head")], name="sequential_1")

    case("sequential_of_models", "Sequential whose first layer is a model", build=outer)


def inner_model(outputs=1):
    i = L.Input((4,), name="inner_input")
    a = L.Dense(4, activation="relu", name="inner_dense")(i)
    b = L.BatchNormalization(name="inner_norm")(a)
    outs = [b, L.Dense(3, name="inner_side")(a), L.Dense(2, name="inner_other")(b)][:outputs]
    return keras.Model(i, outs if outputs > 1 else outs[0], name="inner")


def nested():
    case(
        "nested_model",
        "A model inside a model; weights under the nested model's name",
        (4,),
        lambda x: L.Dense(2, name="head")(inner_model()(x)),
        keep_layers=True,
    )

    def shared(x, y):
        inner = inner_model()
        return [L.Dense(2, name="head_1")(inner(x)), L.Dense(2, name="head_2")(inner(y))]

    def chained(x):
        inner = inner_model()
        return inner(inner(inner(x)))

    for tail, options in (("", {}), ("_legacy", {"legacy": True})):
        case(
            f"nested_model_shared{tail}",
            "A nested model called on two inputs",
            [(4,), (4,)],
            shared,
            keep_layers=not tail,
            **options,
        )
        case(
            f"nested_model_chained{tail}",
            "A nested model called three times in a row",
            (4,),
            chained,
            keep_layers=not tail,
            **options,
        )

    def several(x):
        a, b, c = inner_model(3)(x)
        return [L.Add(name="sum")([L.Dense(2, name="head")(b), c]), a]

    case("nested_model_outputs", "A nested model with three outputs", (4,), several, keep_layers=True)

    def two_in(x, y):
        i, j = L.Input((3,), name="left"), L.Input((2,), name="right")
        both = L.Concatenate(name="both")([j, i])
        inner = keras.Model([i, j], L.Dense(3, name="inner_dense")(both), name="inner")
        return inner([x, y])

    case("nested_model_inputs", "A nested model with two inputs", [(3,), (2,)], two_in)

    def deep(x):
        i = L.Input((4,), name="middle_input")
        inner = inner_model()
        middle = keras.Model(i, L.Dense(4, name="middle_dense")(inner(inner(i))), name="middle")
        return L.Add(name="sum")([middle(x), middle(middle(x))])

    case("nested_model_deep", "Models three deep, shared at two levels", (4,), deep, keep_layers=True)

    def frozen(x):
        inner = inner_model()
        inner.get_layer("inner_dense").trainable = False
        return inner(x)

    case("nested_model_frozen_layer", "A nested model with a frozen layer: its weights are listed last", (4,), frozen)

    def same_name(x):
        i = L.Input((4,), name="input_1")
        inner = keras.Model(i, L.Dense(4, activation="tanh", name="dense")(i), name="inner")
        return L.Dense(3, name="dense")(inner(x))

    case("nested_model_same_names", "Layers of one name inside and outside a nested model", (4,), same_name)

    def passing(x):
        i = L.Input((4,), name="inner_input")
        inner = keras.Model(i, [i, L.Dense(4, name="inner_dense")(i)], name="inner")
        a, b = inner(x)
        return L.Subtract(name="difference")([b, a])

    case("nested_model_passes_input", "A nested model one of whose outputs is its input", (4,), passing)


def graphs():
    def dense_twice(x, y):
        d = L.Dense(3, activation="tanh", name="shared")
        return [d(x), d(y)]

    def conv_twice(x, y):
        c = L.Conv2D(2, 3, padding="same", activation="relu", name="shared")
        return [L.GlobalMaxPooling2D(name="max")(c(x)), c(y)]

    def late_node_first(x, y):
        d = L.Dense(3, name="shared")
        first, second = d(x), d(y)
        return L.Subtract(name="difference")([second, first])

    case("shared_dense", "One Dense at two nodes", [(4,), (4,)], dense_twice, keep_layers=True)
    case("shared_conv2d_sizes", "One Conv2D at two nodes of different sizes", [(5, 4, 1), (3, 6, 1)], conv_twice)
    case("shared_node_order", "The second node of a layer is used before the first", [(4,), (4,)], late_node_first)

    def several(x, y, z):
        a = L.Dense(3, activation="relu", name="a")(x)
        b = L.Concatenate(name="b")([a, y])
        c = L.Dense(2, name="c")(b)
        d = L.Multiply(name="d")([c, z])
        return [d, a, L.Activation("softmax", name="e")(c)]

    case(
        "multi_input_output",
        "Three inputs, three outputs",
        [(4,), (2,), (2,)],
        several,
        names=["zeta", "alpha", "mid"],
        keep_layers=True,
    )

    def early(x):
        a = L.Dense(3, name="late")(L.Dense(3, name="early")(x))
        return [a, L.Activation("tanh", name="side")(x), a]

    case("output_order", "Outputs in an order of their own, one of them twice", (3,), early)
    case("input_passthrough", "An input that is also an output", (3,), lambda x: [x, L.Dense(2)(x)])
    case("no_weights", "No layer has weights", (4, 4, 1), lambda x: L.Flatten()(L.MaxPooling2D()(x)))

    def diamond(x):
        a = L.Conv2D(2, 3, padding="same", activation="relu", name="a")(x)
        b = L.Conv2D(2, 1, name="b")(a)
        c = L.BatchNormalization(name="c")(a)
        return L.Add(name="d")([a, b, c])

    case("residual", "A block with a way around it", (5, 4, 2), diamond, keep_layers=True)


def forced_dropout():
    def twice(x, y):
        drop = L.Dropout(0.5, name="dropout_1")
        return [drop(x, training=True), drop(y, training=True)]

    case(
        "dropout_shared_training_true", "One forced Dropout at two nodes: a mask each", [(6,), (6,)], twice, masks=True
    )

    def mixed(x, y):
        drop = L.Dropout(0.5, name="dropout_1")
        return [drop(x), drop(y, training=True)]

    case(
        "dropout_one_node_training_true",
        "A Dropout forced at the second of two nodes alone",
        [(6,), (6,)],
        mixed,
        masks=True,
    )

    def inside(x):
        i = L.Input((6,), name="inner_input")
        a = L.Dropout(0.5, name="dropout_1")(L.Dense(6, name="inner_dense")(i), training=True)
        inner = keras.Model(i, a, name="model_5")
        return L.Add(name="sum")([inner(x), inner(inner(x))])

    for tail, options in (("", {}), ("_legacy", {"legacy": True})):
        case(
            f"nested_dropout_training_true{tail}",
            "Forced Dropout in a nested model that runs three times",
            (6,),
            inside,
            masks=True,
            **options,
        )

    def from_outside(x):
        i = L.Input((6,), name="inner_input")
        inner = keras.Model(i, L.Dropout(0.5, name="dropout_1")(L.Dense(6, name="inner_dense")(i)), name="inner")
        return [inner(x), inner(x, training=True)]

    case(
        "nested_call_training_true",
        "training=True at the call of a nested model: the Dropout inside runs",
        (6,),
        from_outside,
        masks=True,
        refused="training",
        may_run=True,
    )


LONG = "a_name_" + 8100 * "x"


def layout():
    def long_layer(x):
        for k in range(6):
            x = L.Activation("tanh", name=f"step_{k}")(x)
        return L.Dense(2, name=LONG)(x)

    # Names are stored padded to the longest, so one long name is enough to pass 64 KB.
    case("split_layer_names", "layer_names over 64 KB: split into layer_names0, layer_names1", (3,), long_layer)

    def long_weights(x):
        i = L.Input((3,), name="inner_input")
        y = L.Dense(3, name=LONG)(i)
        for k in range(3):
            y = L.Dense(3, activation="tanh", name=f"step_{k}")(y)
        return keras.Model(i, y, name="inner")(x)

    case("split_weight_names", "weight_names over 64 KB: split into weight_names0, weight_names1", (3,), long_weights)


for register in (sequential, nested, graphs, forced_dropout, layout):
    register()
