"""One model per convolution, pooling, dense, normalisation, reshaping and merging option."""

from keras import layers as L

from .core import case


def one(name, covers, shape, layer, **options):
    """Registers a model of a single layer, returned by `layer`."""
    case(name, covers, shape, lambda x: layer()(x), **options)


def convolutions():
    def conv(name, covers, shape=(7, 6, 2), filters=3, kernel=3, **kw):
        one(f"conv2d_{name}", covers, shape, lambda: L.Conv2D(filters, kernel, **kw))

    conv("valid", "Conv2D, padding valid")
    conv("same", "Conv2D, padding same", padding="same")
    conv("kernel_rect_same", "Conv2D, 4x3 kernel, same: uneven padding", kernel=(4, 3), padding="same")
    conv("kernel_even_same", "Conv2D, 2x2 kernel, same", kernel=2, padding="same")
    conv("kernel_1x1", "Conv2D, 1x1 kernel", kernel=1)
    conv("kernel_over_input_same", "Conv2D, kernel larger than the input", (2, 3, 1), kernel=5, padding="same")
    conv("same_stride2_odd", "Conv2D, same, stride 2, odd sizes", (7, 5, 2), strides=2, padding="same")
    conv(
        "same_stride2_even",
        "Conv2D, same, stride 2, even sizes: padding only behind",
        (8, 6, 2),
        strides=2,
        padding="same",
    )
    conv("same_stride_1_3", "Conv2D, same, stride (1, 3)", (7, 8, 2), strides=(1, 3), padding="same")
    conv(
        "same_stride_over_kernel",
        "Conv2D, same, stride larger than the kernel",
        (7, 8, 2),
        kernel=2,
        strides=3,
        padding="same",
    )
    conv("valid_stride2_odd", "Conv2D, valid, stride 2, odd sizes", (7, 9, 2), strides=2)
    conv("valid_stride2_even", "Conv2D, valid, stride 2, even sizes: a row is left over", (8, 6, 2), strides=2)
    conv("dilation2_valid", "Conv2D, valid, dilation 2", (8, 7, 2), dilation_rate=2)
    conv("dilation2_same", "Conv2D, same, dilation 2", (8, 7, 2), dilation_rate=2, padding="same")
    conv("dilation_1_2_same", "Conv2D, same, dilation (1, 2)", (6, 7, 2), dilation_rate=(1, 2), padding="same")
    conv("no_bias", "Conv2D without bias", padding="same", use_bias=False)
    conv(
        "wide", "Conv2D, 5x5 same, 17 filters: past every vector width", (9, 8, 3), filters=17, kernel=5, padding="same"
    )
    acts = ("relu", "sigmoid", "tanh", "softmax", "elu", "selu", "swish")
    fused = lambda x: [L.Conv2D(3, 3, padding="same", activation=a, name=a)(x) for a in acts]
    case("conv2d_fused", f"Conv2D with activation {', '.join(acts)}: an output each", (4, 4, 2), fused)

    def conv1(name, covers, shape=(9, 2), kernel=3, **kw):
        one(f"conv1d_{name}", covers, shape, lambda: L.Conv1D(3, kernel, **kw))

    conv1("valid", "Conv1D, padding valid")
    conv1("same", "Conv1D, padding same", padding="same")
    conv1("same_even_kernel", "Conv1D, same, even kernel", kernel=4, padding="same")
    conv1("causal", "Conv1D, padding causal", padding="causal")
    conv1("causal_dilation2", "Conv1D, causal, dilation 2", padding="causal", dilation_rate=2)
    conv1("causal_stride2", "Conv1D, causal, stride 2", padding="causal", strides=2)
    conv1("valid_stride2", "Conv1D, valid, stride 2", strides=2)
    conv1("same_stride2_even", "Conv1D, same, stride 2, even length", (8, 2), strides=2, padding="same")
    conv1("dilation2_valid", "Conv1D, valid, dilation 2", dilation_rate=2)
    conv1("dilation3_same", "Conv1D, same, dilation 3", dilation_rate=3, padding="same")
    conv1("no_bias_relu", "Conv1D without bias, activation relu", use_bias=False, activation="relu")


def pooling():
    for kind in ("Max", "Average"):
        low = f"{kind.lower()}_pooling"
        d1, d2 = getattr(L, f"{kind}Pooling1D"), getattr(L, f"{kind}Pooling2D")
        note = "; padding is not counted" if kind == "Average" else ""
        for name, covers, shape, args in (
            ("valid", "2x2, valid, odd sizes: the rest is dropped", (7, 5, 2), {}),
            ("same", f"2x2, same, odd sizes{note}", (7, 5, 2), {"padding": "same"}),
            ("same_size3_stride1", f"3x3, same, stride 1{note}", (4, 5, 2), {"pool_size": 3, "strides": 1, "padding": "same"}),
            ("same_size3_stride2", f"3x3, same, stride 2{note}", (6, 7, 2), {"pool_size": 3, "strides": 2, "padding": "same"}),
            ("size32_stride23", "3x2, valid, stride (2, 3)", (8, 9, 2), {"pool_size": (3, 2), "strides": (2, 3)}),
            ("size5", "5x5, valid, stride 5", (11, 10, 2), {"pool_size": 5}),
        ):  # fmt: skip
            one(f"{low}2d_{name}", f"{kind}Pooling2D, {covers}", shape, lambda d2=d2, args=args: d2(**args))
        for name, covers, args in (
            ("valid", "size 2, valid, odd length", {}),
            ("same", f"size 2, same, odd length{note}", {"padding": "same"}),
            ("same_size3_stride1", f"size 3, same, stride 1{note}", {"pool_size": 3, "strides": 1, "padding": "same"}),
            ("valid_size3_stride2", "size 3, valid, stride 2", {"pool_size": 3, "strides": 2}),
        ):  # fmt: skip
            one(f"{low}1d_{name}", f"{kind}Pooling1D, {covers}", (7, 2), lambda d1=d1, args=args: d1(**args))
        for d, shape in ((1, (5, 3)), (2, (4, 3, 3))):
            layer = getattr(L, f"Global{kind}Pooling{d}D")
            name = f"global_{low}{d}d"
            both = lambda x, layer=layer: [layer()(x), layer(keepdims=True, name="keepdims")(x)]
            case(name, f"Global{kind}Pooling{d}D, without and with keepdims", shape, both)


def resizing():
    one("up_sampling2d_nearest_2", "UpSampling2D nearest, factor 2", (3, 2, 2), lambda: L.UpSampling2D(2))
    one("up_sampling2d_nearest_2_3", "UpSampling2D nearest, factors (2, 3)", (3, 2, 2), lambda: L.UpSampling2D((2, 3)))
    for size in (2, 3, 4, (5, 1)):
        tag = size if isinstance(size, int) else "_".join(map(str, size))
        make = lambda size=size: L.UpSampling2D(size, interpolation="bilinear")
        one(
            f"up_sampling2d_bilinear_{tag}",
            f"UpSampling2D bilinear, factor {size}: half-pixel centres (Keras 2.15)",
            (4, 3, 2),
            make,
        )
        from .core import LegacyUpSampling2D

        old = lambda size=size: LegacyUpSampling2D(size, interpolation="bilinear", name="up_sampling2d_1")
        one(
            f"up_sampling2d_bilinear_{tag}_legacy",
            f"UpSampling2D bilinear, factor {size}, file of Keras 2.2.4: no half-pixel shift (TensorFlow 1)",
            (4, 3, 2),
            old,
            legacy=True,
        )
    for tag, pad in (("1", 1), ("2_1", (2, 1)), ("10_23", ((1, 0), (2, 3)))):
        one(f"zero_padding2d_{tag}", f"ZeroPadding2D({pad})", (2, 3, 2), lambda pad=pad: L.ZeroPadding2D(pad))


def dense_and_normalization():
    for shape in ((5,), (4, 5), (2, 3, 5)):
        rank = len(shape) + 1
        one(f"dense_rank{rank}", f"Dense on rank {rank}", shape, lambda: L.Dense(4))
        one(
            f"dense_rank{rank}_no_bias", f"Dense on rank {rank} without bias", shape, lambda: L.Dense(4, use_bias=False)
        )
        one(f"batch_normalization_rank{rank}", f"BatchNormalization on rank {rank}", shape, L.BatchNormalization)
    one(
        "dense_rank3_softmax",
        "Dense on rank 3, softmax over the last axis",
        (4, 5),
        lambda: L.Dense(3, activation="softmax"),
    )
    acts = ("hard_sigmoid", "softplus", "softsign", "exponential", "gelu", "mish", "linear")
    fused = lambda x: [L.Dense(4, activation=a, name=a)(x) for a in acts]
    case("dense_fused", f"Dense with activation {', '.join(acts)}: an output each", (5,), fused)
    for tag, args in (
        ("no_scale", {"scale": False}),
        ("no_center", {"center": False}),
        ("plain", {"scale": False, "center": False}),
        ("epsilon", {"epsilon": 0.1}),
    ):
        one(
            f"batch_normalization_{tag}",
            f"BatchNormalization, {args}",
            (3, 4, 3),
            lambda args=args: L.BatchNormalization(**args),
        )
    one(
        "batch_normalization_legacy",
        "BatchNormalization, file of Keras 2.2.4: axis is the number -1",
        (3, 4, 3),
        L.BatchNormalization,
        legacy=True,
    )


def reshaping():
    for shape in ((5,), (3, 4), (2, 3, 4)):
        one(f"flatten_rank{len(shape) + 1}", f"Flatten on rank {len(shape) + 1}", shape, L.Flatten)
    for shape, dims in (
        ((3, 4), (2, 1)),
        ((2, 3, 4), (3, 1, 2)),
        ((2, 3, 4), (2, 3, 1)),
        ((2, 3, 4), (1, 3, 2)),
        ((2, 3, 4), (3, 2, 1)),
    ):
        one(f"permute_{''.join(map(str, dims))}", f"Permute({dims})", shape, lambda dims=dims: L.Permute(dims))
    for tag, target in (
        ("6_4", (6, 4)),
        ("minus1_3", (-1, 3)),
        ("2_minus1_2", (2, -1, 2)),
        ("minus1", (-1,)),
        ("4_3_2_1", (4, 3, 2, 1)),
    ):
        one(f"reshape_{tag}", f"Reshape({target})", (2, 3, 4), lambda target=target: L.Reshape(target))
    one("repeat_vector", "RepeatVector(3)", (4,), lambda: L.RepeatVector(3))


def merging():
    def merge(name, covers, shapes, layer, **options):
        case(name, covers, shapes, lambda *xs: layer()(list(xs)), **options)

    merge("concatenate_rank2", "Concatenate of three, axis -1", [(2,), (3,), (4,)], L.Concatenate)
    merge("concatenate_axis1_rank3", "Concatenate, axis 1 of rank 3", [(2, 3), (4, 3)], lambda: L.Concatenate(axis=1))
    merge(
        "concatenate_axis2_rank4",
        "Concatenate, axis 2 of rank 4",
        [(2, 3, 2), (2, 1, 2)],
        lambda: L.Concatenate(axis=2),
    )
    merge(
        "concatenate_axis3_rank4",
        "Concatenate, axis 3 of rank 4",
        [(2, 3, 2), (2, 3, 1)],
        lambda: L.Concatenate(axis=3),
    )
    merge("concatenate_axis_minus2", "Concatenate, axis -2", [(2, 3), (1, 3)], lambda: L.Concatenate(axis=-2))
    for kind in (L.Add, L.Multiply, L.Average, L.Maximum, L.Minimum):
        name = kind.__name__

        def build(a, b, c, d, e, kind=kind):
            return [kind(name="two")([a, b]), kind(name="three")([a, b, c]), kind(name="stretched")([a, d, e])]

        shapes = [(2, 3, 4)] * 3 + [(2, 3, 1), (1, 1, 4)]
        case(name.lower(), f"{name} of two, of three, and with sizes of 1 stretched", shapes, build)
    merge("subtract", "Subtract: first minus second", [(3, 4)] * 2, L.Subtract)
    merge("subtract_broadcast", "Subtract, sizes of 1 stretched", [(3, 4), (1, 4)], L.Subtract)
    case("add_same_tensor_twice", "Add of a tensor and itself", (4,), lambda x: L.Add()([x, x]))
    merge(
        "add_rank_broadcast",
        "Add of rank 3 and rank 2: axes are put in behind the batch",
        [(3, 4), (4,)],
        L.Add,
        refused="add",
        may_run=True,
    )


NAMED = (
    "linear", "relu", "sigmoid", "hard_sigmoid", "tanh", "softmax", "softplus", "softsign", "elu", "selu",
    "exponential", "swish", "gelu", "mish",
)  # fmt: skip


def activations():
    def group(name, covers, makers, **options):
        outputs = lambda x: [make(name=tag)(x) for tag, make in makers]
        case(name, covers, (8,), outputs, inputs=wide, **options)

    def named(act):
        return act, lambda name: L.Activation(act, name=name)

    group("activation", "Activation with every name of Keras 2.2.4 to 2.15: an output each", [named(a) for a in NAMED])
    for act in ("relu6", "leaky_relu", "log_softmax"):
        group(
            f"activation_{act}",
            f"Activation {act}, known to TensorFlow's Keras alone",
            [named(act)],
            refused=act,
            may_run=True,
        )
    one("activation_softmax_rank3", "Activation softmax on rank 3", (3, 4), lambda: L.Activation("softmax"))
    group(
        "layer_leaky_relu",
        "LeakyReLU, slope 0.3 and 0.1",
        [("usual", L.LeakyReLU), ("slope", lambda name: L.LeakyReLU(0.1, name=name))],
    )
    group("layer_elu", "ELU, alpha 1 and 0.5", [("usual", L.ELU), ("alpha", lambda name: L.ELU(0.5, name=name))])
    group(
        "layer_thresholded_relu",
        "ThresholdedReLU, theta 1 and 0.3",
        [("usual", L.ThresholdedReLU), ("theta", lambda name: L.ThresholdedReLU(0.3, name=name))],
    )
    options = {
        "usual": {},
        "max_value": {"max_value": 1.5},
        "negative_slope": {"negative_slope": 0.2},
        "threshold": {"threshold": 0.7},
        "all_options": {"max_value": 2.0, "negative_slope": 0.3, "threshold": 0.5},
    }
    group("layer_relu", f"ReLU, {options}", [(t, lambda name, o=o: L.ReLU(**o, name=name)) for t, o in options.items()])
    group("layer_softmax", "Softmax", [("usual", L.Softmax)])
    group("layer_prelu", "PReLU", [("usual", L.PReLU)])
    one(
        "layer_prelu_shared_axes",
        "PReLU sharing its slopes over axes 1 and 2",
        (3, 4, 2),
        lambda: L.PReLU(shared_axes=[1, 2]),
    )
    one(
        "layer_prelu_shared_axis1",
        "PReLU sharing its slopes over axis 1 of rank 4",
        (3, 4, 2),
        lambda: L.PReLU(shared_axes=[1]),
    )
    one("layer_prelu_rank4", "PReLU with one slope per value", (2, 3, 2), L.PReLU)
    one("layer_softmax_axis1", "Softmax over axis 1 of rank 3", (3, 4), lambda: L.Softmax(axis=1))
    one(
        "layer_softmax_two_axes",
        "Softmax over axes 1 and 2 at once",
        (3, 4),
        lambda: L.Softmax(axis=[1, 2]),
        refused="softmax",
        may_run=True,
    )


def wide(item, model):
    """Returns values beyond and at both corners of every activation."""
    import numpy as np

    from .core import rng

    corners = np.array([0.0, 2.5, -2.5, 6.5, -4.0, 1.0], np.float32)
    size = model.inputs[0].shape[1]
    x = rng(item.name, "input", 0).standard_normal((item.batch, size)).astype(np.float32) * 2
    x[0, : len(corners)] = corners
    return [x]


def regularization():
    for tag, shape, make in (
        ("dropout", (4,), lambda: L.Dropout(0.5)),
        ("spatial_dropout1d", (3, 4), lambda: L.SpatialDropout1D(0.5)),
        ("spatial_dropout2d", (3, 2, 4), lambda: L.SpatialDropout2D(0.5)),
        ("gaussian_noise", (4,), lambda: L.GaussianNoise(0.5)),
        ("gaussian_dropout", (4,), lambda: L.GaussianDropout(0.5)),
        ("activity_regularization", (4,), lambda: L.ActivityRegularization(l2=0.1)),
    ):
        one(tag, f"{tag}: nothing at inference", shape, make)
    one(
        "alpha_dropout",
        "AlphaDropout: nothing at inference",
        (4,),
        lambda: L.AlphaDropout(0.5),
        refused="AlphaDropout",
        may_run=True,
    )
    for tag, shape, make in (
        ("dropout", (6,), lambda: L.Dropout(0.5)),
        ("dropout_rate_quarter", (6,), lambda: L.Dropout(0.25)),
        ("dropout_rank4", (3, 2, 4), lambda: L.Dropout(0.5)),
        ("spatial_dropout1d", (3, 8), lambda: L.SpatialDropout1D(0.4)),
        ("spatial_dropout2d", (3, 2, 8), lambda: L.SpatialDropout2D(0.5)),
    ):
        case(
            f"{tag}_training_true",
            f"{tag} called with training=True",
            shape,
            lambda x, make=make: make()(x, training=True),
            masks=True,
        )
    case(
        "dropout_training_false",
        "Dropout called with training=False",
        (4,),
        lambda x: L.Dropout(0.5)(x, training=False),
    )
    case(
        "dropout_noise_shape_training_true",
        "Dropout, noise shape (None, 1, 4), training=True",
        (3, 4),
        lambda x: L.Dropout(0.5, noise_shape=(None, 1, 4))(x, training=True),
        masks=True,
        refused="noise_shape",
        may_run=True,
    )


for register in (
    convolutions, pooling, resizing, dense_and_normalization, reshaping, merging, activations, regularization,
):  # fmt: skip
    register()
