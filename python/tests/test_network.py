"""Conversion of Keras files and execution of networks."""

import pathlib

import numpy as np
import pytest

import maeum

GOLDEN = pathlib.Path(__file__).resolve().parent.parent.parent / "tests" / "golden"


def models():
    # Weights alone need an architecture; the Rust tests read them.
    files = sorted(f for f in GOLDEN.rglob("*.h5") if not f.name.startswith("weights_"))
    assert files
    return files[:: max(1, len(files) // 10)]


def random_arrays(network):
    rng = np.random.default_rng(0)
    shapes = {name: [12 if n is None else n for n in shape] for name, shape in network.inputs.items()}
    return {name: rng.uniform(-1, 1, (2, *shape)) for name, shape in shapes.items()}


@pytest.mark.parametrize("file", models(), ids=lambda f: f.stem)
def test_a_converted_file_computes_what_the_original_does(file, tmp_path):
    if file.stem.startswith("refused"):
        with pytest.raises(maeum.RecognitionError, match=file.name):
            maeum.Network(file)
        return
    direct = maeum.Network(file)
    bundle = tmp_path / "model.safetensors"
    assert len(maeum.convert(file, bundle)) == 64
    converted = maeum.Network(bundle)
    assert converted.inputs == direct.inputs
    arrays = random_arrays(direct)
    first, second = direct(arrays), converted(arrays)
    assert list(first) == direct.outputs
    for name, output in first.items():
        assert output.shape[0] == 2 and output.dtype == np.float32
        np.testing.assert_array_equal(output, second[name])


def test_a_run_continues_from_the_states_of_another():
    network = maeum.Network(GOLDEN / "stateful_second_call.h5")
    arrays = random_arrays(network)
    outputs, states = network.run_with_states(arrays)
    assert list(outputs) == network.outputs and states
    for name, output in network(arrays).items():
        np.testing.assert_array_equal(output, outputs[name])
    second, last = network.run_with_states(arrays, states)
    again, _ = network.run_with_states(arrays, {name: np.zeros_like(state) for name, state in states.items()})
    assert last.keys() == states.keys()
    for name, output in outputs.items():
        assert (second[name] != output).any()
        np.testing.assert_array_equal(again[name], output)
    name = next(iter(states))
    for wrong in ({}, {**states, name: np.zeros(1)}, {**states, name: states[name][:1]}):
        with pytest.raises(maeum.RecognitionError, match=name.split("/")[0]):
            network.run_with_states(arrays, wrong)
    with pytest.raises(maeum.RecognitionError, match="no stateful layers"):
        plain = maeum.Network(next(f for f in models() if accepts(f)))
        plain.run_with_states({})


def test_what_does_not_fit_is_named(tmp_path):
    network = maeum.Network(next(f for f in models() if accepts(f)))
    with pytest.raises(maeum.RecognitionError, match="missing"):
        network({})
    name = next(iter(network.inputs))
    with pytest.raises(maeum.RecognitionError, match="shape"):
        network({n: np.zeros(()) for n in network.inputs})
    with pytest.raises(maeum.RecognitionError):
        network({name: np.zeros((1, 1)), "other": np.zeros(1)})
    with pytest.raises(FileNotFoundError):
        maeum.Network(tmp_path / "none.h5")
    with pytest.raises(FileNotFoundError):
        maeum.convert(tmp_path / "none.h5", tmp_path / "out.safetensors")


def test_arrays_that_would_lose_something_are_refused():
    network = maeum.Network(next(f for f in models() if accepts(f)))
    shapes = {name: (2, *[12 if n is None else n for n in shape]) for name, shape in network.inputs.items()}
    good = {name: np.ones(shape) for name, shape in shapes.items()}
    name, shape = next(iter(shapes.items()))
    network(good)
    network({**good, name: np.ones(shape, dtype=bool)})
    for wrong, message in [
        (np.ones(shape) * 1j, "complex128, not real"),
        (np.full(shape, "a"), "not real"),
        (np.full(shape, None), "object, not real"),
        (np.ma.masked_array(np.ones(shape), mask=np.ones(shape)), "masked"),
        (np.ones((0, *shape[1:])), "empty batch"),
    ]:
        with pytest.raises(maeum.RecognitionError, match=message) as error:
            network({**good, name: wrong})
        assert repr(name) in str(error.value) and error.value.code == "input"


def test_a_keras_file_has_no_roles():
    file = next(f for f in models() if accepts(f))
    with pytest.raises(maeum.RecognitionError, match="no roles") as error:
        maeum.Network(file, role="age")
    assert file.name in str(error.value)


def test_an_input_is_not_replaced(tmp_path):
    file = tmp_path / "model.h5"
    content = next(f for f in models() if accepts(f)).read_bytes()
    file.write_bytes(content)
    (tmp_path / "link.h5").symlink_to(file)
    role = tmp_path / "age.h5"
    role.write_bytes(content)
    for source, output in [(file, file), (file, tmp_path / "link.h5"), (tmp_path, role)]:
        with pytest.raises(maeum.RecognitionError, match="replace"):
            maeum.convert(source, output)
    assert file.read_bytes() == content and role.read_bytes() == content
    bundle = tmp_path / "out.safetensors"
    assert maeum.convert(file, bundle) == maeum.convert(file, bundle)


def accepts(file):
    try:
        return bool(maeum.Network(file).inputs)
    except maeum.RecognitionError:
        return False
