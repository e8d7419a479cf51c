"""Models of the layers of kapre: spectrograms in the network.

The layers of its first versions are those of kapre 0.1.7, which lies in a folder of its own beside the packages.
"""

import importlib
import pathlib
import sys

import kapre
import keras
from kapre.composed import get_melspectrogram_layer
from keras import layers as L

from .core import case

RATE = 8000
MEL = {"sample_rate": RATE, "n_freq": 17, "n_mels": 6, "f_min": 0.0, "f_max": None, "htk": False, "norm": "slaney"}


def spectrum(name, covers, shape=(130, 1), **options):
    """A magnitude of the STFT with these options."""
    options = {"n_fft": 32, "hop_length": 8, **options}
    case(f"kapre_{name}", covers, shape, lambda x: kapre.Magnitude()(kapre.STFT(**options)(x)))


def phase(terms=None):
    return kapre.time_frequency.Phase(terms)


def both(x):
    return L.Concatenate()([kapre.Magnitude()(x), phase()(x)])


def bands(name, covers, kind, kwargs, shape=(9, 17, 2), **options):
    case(f"kapre_{name}", covers, shape, lambda x: kapre.ApplyFilterbank(kind, kwargs, **options)(x))


def spectra():
    spectrum("stft", "STFT and Magnitude")
    spectrum("stft_window", "STFT of a window shorter than the transform", win_length=25, hop_length=10)
    spectrum("stft_hamming", "STFT, Hamming window, zeros at both ends", (100, 2), window_name="hamming_window", pad_begin=True, pad_end=True)
    spectrum("stft_pad_end", "STFT with zeros at the end", (61, 1), win_length=20, pad_end=True)
    spectrum("stft_other_length", "STFT whose length is no power of two", n_fft=30, win_length=30)
    spectrum("stft_odd_length", "STFT of odd length", n_fft=25, hop_length=7)
    spectrum(
        "stft_channels_first",
        "STFT, channels first",
        (2, 90),
        input_data_format="channels_first",
        output_data_format="channels_first",
    )
    case("kapre_phase", "Phase of an STFT", (130, 1), lambda x: phase()(kapre.STFT(n_fft=32, hop_length=8)(x)), reloads=False)
    case(
        "kapre_phase_network",
        "Magnitude and Phase of an STFT whose length is no power of two, joined",
        (90, 1),
        lambda x: both(kapre.STFT(n_fft=30, hop_length=15)(x)),
        reloads=False,
    )
    bands("mel", "ApplyFilterbank, mel", "mel", MEL)
    bands("mel_htk", "ApplyFilterbank, mel of HTK without norm", "mel", MEL | {"htk": True, "norm": None, "f_min": 100.0, "f_max": 3000.0})
    bands("mel_channels_first", "ApplyFilterbank, channels first", "mel", MEL, (2, 9, 17), data_format="channels_first")
    bands(
        "log",
        "ApplyFilterbank, logarithmic",
        "log",
        {"sample_rate": RATE, "n_freq": 65, "n_bins": 20, "bins_per_octave": 6, "f_min": 100.0, "spread": 0.5},
        (4, 65, 1),
    )
    case(
        "kapre_decibel",
        "MagnitudeToDecibel with a reference and a small range",
        (5, 4, 2),
        lambda x: kapre.MagnitudeToDecibel(ref_value=0.5, amin=1e-3, dynamic_range=20.0)(x),
    )
    case("kapre_decibel_default", "MagnitudeToDecibel", (5, 4, 2), lambda x: kapre.MagnitudeToDecibel()(x))


def melspectrogram(**options):
    return get_melspectrogram_layer(
        input_shape=(400, 1),
        n_fft=64,
        win_length=50,
        hop_length=20,
        pad_end=True,
        sample_rate=RATE,
        n_mels=12,
        return_decibel=True,
        input_data_format="channels_last",
        output_data_format="channels_last",
        **options,
    )


def networks():
    def classifier(x):
        x = melspectrogram()(x)
        x = L.LayerNormalization(axis=2)(x)
        x = L.Conv2D(4, 3, activation="relu")(x)
        return L.Dense(3, activation="softmax")(L.GlobalMaxPooling2D()(x))

    case("kapre_melspectrogram", "Mel spectrogram in decibel as a nested model, and a classifier", (400, 1), classifier)

    def later_names(config):
        for layer in config["config"]["layers"]:
            if layer["class_name"] in ("STFT", "Magnitude"):
                layer["class_name"] = "Kapre>" + layer["class_name"]

    # Later versions register their classes, which changes only the names in the file.
    case(
        "kapre_registered",
        "Class names of kapre 0.3.7",
        (130, 1),
        lambda x: kapre.Magnitude()(kapre.STFT(n_fft=32, hop_length=8)(x)),
        patch=later_names,
        reloads=False,
    )
    case(
        "kapre_archive",
        "STFT in a .keras archive",
        (130, 1),
        lambda x: L.Dense(3)(kapre.Magnitude()(kapre.STFT(n_fft=32, hop_length=8)(x))),
        layout="keras",
    )


def deltas():
    def delta(name, covers, shape, **options):
        case(f"kapre_delta{name}", covers, shape, lambda x: kapre.Delta(**options)(x))

    delta("", "Delta", (7, 4, 1))
    delta("_reflect", "Delta of 7 frames, reflected", (4, 3, 1), win_length=7, mode="reflect")
    delta("_short", "Delta, as many frames as half the window", (2, 3, 1))
    delta("_constant", "Delta of 3 frames, with zeros", (5, 3, 1), win_length=3, mode="CONSTANT")
    delta("_channels_first", "Delta, channels first", (1, 6, 3), data_format="channels_first")

    def network(x):
        x = kapre.Magnitude()(kapre.STFT(n_fft=32, hop_length=8)(x))
        return [L.Dense(3)(x), kapre.Delta()(x), kapre.Delta()(kapre.Delta()(x))]

    case("kapre_delta_network", "Deltas of a spectrogram", (130, 1), network)


def refused():
    def no(name, covers, says, build):
        case(f"refused_kapre_{name}", covers, (130, 1), build, refused=says)

    def stft(**options):
        return kapre.STFT(n_fft=32, hop_length=8, **options)

    no("window", "STFT, Kaiser window", "kaiser_window", lambda x: kapre.Magnitude()(stft(window_name="kaiser_window")(x)))
    no("phase", "Approximate Phase of an STFT", "tflite_phase_accuracy", lambda x: phase(100)(stft()(x)))
    no("phase_of_real", "Phase of a real input", "complex", lambda x: phase()(L.Reshape((130, 1))(x)))
    no("complex", "A complex output", "complex", lambda x: stft()(x))
    no("complex_input", "Reshape of an STFT", "complex", lambda x: kapre.Magnitude()(L.Reshape((1, 13, 17))(stft()(x))))


def first_versions():
    """Imports the classes of kapre 0.1.7."""
    folder = str(pathlib.Path(sys.prefix) / "kapre-0.1")

    def take():
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "kapre"}

    later = take()
    sys.path.insert(0, folder)
    try:
        modules = [importlib.import_module(f"kapre.{name}") for name in ("time_frequency", "utils", "filterbank")]
    finally:
        sys.path.remove(folder)
        take()
        sys.modules.update(later)
    names = ("Spectrogram", "Melspectrogram", "AmplitudeToDB", "Normalization2D", "Filterbank")
    return {name: getattr(module, name) for module in modules for name in names if hasattr(module, name)}


def first_spectra():
    def one(name, covers, shape, layer, **options):
        case(f"kapre_0_1_{name}", covers, shape, lambda x: layer()(x), **options)

    old = first_versions()
    wave = {"n_dft": 32, "n_hop": 8}
    last = {"image_data_format": "channels_last"}
    one("spectrogram", "Spectrogram of kapre 0.1", (1, 100), lambda: old["Spectrogram"](**wave, **last))
    one(
        "spectrogram_decibel",
        "Spectrogram of kapre 0.1, magnitudes in decibel, two channels first, valid",
        (2, 100),
        lambda: old["Spectrogram"](
            **wave,
            padding="valid",
            power_spectrogram=1.0,
            return_decibel_spectrogram=True,
            image_data_format="channels_first",
        ),
    )
    bands = {"sr": RATE, "n_mels": 6}
    one("melspectrogram", "Melspectrogram of kapre 0.1", (2, 100), lambda: old["Melspectrogram"](**bands, **wave, **last))
    one(
        "melspectrogram_decibel",
        "Melspectrogram of kapre 0.1, power in decibel, channels first",
        (1, 100),
        lambda: old["Melspectrogram"](
            **bands, **wave, power_melgram=2.0, return_decibel_melgram=True, image_data_format="channels_first"
        ),
    )
    one("amplitude_to_db", "AmplitudeToDB of kapre 0.1", (4, 5, 2), lambda: old["AmplitudeToDB"](amin=1e-2, top_db=10.0))
    one("normalization2d", "Normalization2D of kapre 0.1 over each spectrogram", (4, 5, 2), lambda: old["Normalization2D"](int_axis=0, **last))
    one("filterbank", "Filterbank of kapre 0.1", (17, 5, 2), lambda: old["Filterbank"](6, False, sr=RATE, **last))
    case(
        "refused_kapre_0_1_batch",
        "Normalization2D of kapre 0.1 over a batch",
        (4, 5, 2),
        lambda x: old["Normalization2D"](str_axis="freq", **last)(x),
        refused="batch",
    )
    return old


spectra()
networks()
deltas()
refused()

CLASSES = {c.__name__: c for c in (kapre.STFT, kapre.Magnitude, kapre.ApplyFilterbank, kapre.MagnitudeToDecibel, kapre.Delta)}
CLASSES |= first_spectra()
keras.utils.get_custom_objects().update(CLASSES)
