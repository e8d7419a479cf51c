"""The five networks as test models (arch_*), and a small set that makes a whole recogniser."""

import h5py

from . import core, legacy
from .core import case
from .five import (
    FEATURE_SCALE,
    WINDOW_SCALE,
    Sizes,
    feature_inputs,
    features_model,
    merge_inputs,
    merge_model,
    rename_merge_weights,
    window_inputs,
    window_model,
)  # fmt: skip

FULL = Sizes()
HALF = Sizes((4, 8, 12), 20, 8, (12, 16), 16, 24)
TINY = Sizes((2, 3, 4), 8, 4, (4, 6), 16, 12)

OLD = {"legacy": True}
WINDOWS = {"inputs": window_inputs, "scale": WINDOW_SCALE}
FEATURES = {"inputs": feature_inputs, "scale": FEATURE_SCALE, "masks": True}
MERGE = {"inputs": merge_inputs, "edit": rename_merge_weights}


def archs():
    def arch(name, covers, build, options):
        case(f"arch_{name}", covers, build=build, batch=2, keep_layers=True, **OLD, **options)

    arch(
        "emotion_windows",
        "Emotion from windows, at the original sizes",
        lambda: window_model(7, "softmax", FULL),
        WINDOWS,
    )
    arch("age", "Age from windows, fewer filters", lambda: window_model(1, "linear", HALF), WINDOWS)
    arch("gender", "Gender from windows, fewer filters", lambda: window_model(2, "sigmoid", HALF), WINDOWS)
    arch(
        "emotion_features",
        "Emotion from features: two passes, 16 forced Dropouts; fewer filters",
        lambda: features_model(HALF),
        FEATURES,
    )
    arch("emotion_merge", "Merging, fewer units", lambda: merge_model(HALF), MERGE)


# The original's file names, so that the folder is opened like the original's.
FIVE = {
    "Model_Emotion_crop": (lambda: window_model(7, "softmax", TINY), WINDOWS),
    "Model_Age_crop": (lambda: window_model(1, "linear", TINY), WINDOWS),
    "Model_Gender_crop": (lambda: window_model(2, "sigmoid", TINY), WINDOWS),
    "Model_Emotion_Features": (lambda: features_model(TINY), FEATURES),
    "Model_Emotion_Merge": (lambda: merge_model(TINY), MERGE),
}


def write_five(folder):
    """Writes the five small files and golden.npz: `<file>.in.<input>`, `<file>.out.<k>`, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    everything, entries = {}, []
    for name, (build, options) in FIVE.items():
        item = core.Case(name, "", build, **OLD, **options)
        model = core.make_model(item)
        core.set_weights(model, f"five/{name}", item.scale)
        path = folder / f"{name}.h5"
        core.save_h5(path, model)
        legacy.rewrite(path, model)
        if item.edit:
            with h5py.File(path, "r+") as file:
                item.edit(file)
        arrays = core.golden_arrays(item, model)
        core.same_outputs(path, item, arrays)
        everything |= {f"{name}.{key}": value for key, value in arrays.items()}
        entries.append({"name": name, "file": f"five/{path.name}", "keras_version": "2.2.4"})
    core.write_npz(folder / "golden.npz", everything)
    return entries


archs()
