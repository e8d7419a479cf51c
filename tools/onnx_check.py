"""Exports every Keras test model as ONNX and compares ONNX Runtime's outputs with Keras'.

    python tools/onnx_check.py --convert target/release/convert tests/golden

Each model of the indexes in the folder is converted with `convert --to onnx`, checked by onnx.checker and run on its
stored inputs. With --reference DIR the five files of 2020 in DIR/models are compared with `convert --run`, on
random inputs. The packages are in tools/requirements-onnx.txt.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime

# Maximum difference from Keras' output, relative to the larger of 1 and its largest magnitude: both sum in 32 bits
# but in different orders.
TOLERANCE = 1e-5
# Models that must be there, so that missing files cannot pass.
AT_LEAST = 300


def export(program, file, output, *options):
    """Returns the error message, or None after the export of `file`."""
    command = [program, file, "--to", "onnx", "-o", output, *options]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    if done.returncode != 1 or not done.stderr.startswith("error: "):
        raise SystemExit(f"{file}: exit code {done.returncode}: {done.stderr}")
    return done.stderr


def outputs(path, inputs):
    """Returns the outputs of an ONNX model that must be valid."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def difference(got, wanted):
    """Returns the largest difference, relative to the larger of 1 and the largest magnitude."""
    if got.shape != wanted.shape:
        return np.inf
    scale = max(1.0, np.abs(wanted).max())
    # NaN, if only one of both has it, is larger than any tolerance.
    if not np.array_equal(np.isnan(got), np.isnan(wanted)):
        return np.inf
    return float(np.nanmax(np.abs(got.astype(np.float64) - wanted), initial=0.0)) / scale


def check(program, folder, model, work):
    """Returns (name, difference, error), the error being that of `convert`."""
    output = work / f"{model['name']}_{folder.name}.onnx"
    options = ["--architecture", folder / model["architecture"]] if "architecture" in model else []
    error = export(program, folder / model["file"], output, *options)
    if error:
        return model["name"], None, error
    with np.load(folder / model["arrays"]) as arrays:
        inputs = {name[3:]: arrays[name].astype(np.float32) for name in arrays.files if name.startswith("in.")}
        count = sum(name.startswith("out.") for name in arrays.files)
        wanted = [arrays[f"out.{k}"] for k in range(count)]
    got = outputs(output, inputs)
    if len(got) != count:
        return model["name"], np.inf, None
    return model["name"], max(map(difference, got, wanted)), None


def check_reference(program, file, work):
    """Compares a network of 2020 with the outputs of this program."""
    output = work / f"{file.stem}.onnx"
    error = export(program, file, output)
    if error:
        raise SystemExit(error)
    random = np.random.default_rng(1)
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    shapes = {i.name: [3 if isinstance(d, str) else d for d in i.shape] for i in session.get_inputs()}
    inputs = {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    np.savez(work / "in.npz", **inputs)
    subprocess.run([program, "--run", work / "in.npz", "--out", work / "out.npz", file], check=True, capture_output=True)
    with np.load(work / "out.npz") as arrays:
        wanted = [arrays[name] for name in arrays.files]
    return max(map(difference, outputs(output, inputs), wanted))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="tests/golden")
    parser.add_argument("--convert", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--reference", type=pathlib.Path, help="folder with the models of 2020")
    args = parser.parse_args()
    faults, exported, largest = [], 0, (0.0, "none")
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        jobs = []
        for index in sorted(args.folder.glob("**/index.json")):
            models = json.loads(index.read_text())["models"]
            models = [m for m in models if "arrays" in m and "refused" not in m]
            jobs += [(index.parent, model) for model in models]
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda job: check(args.convert, *job, work), jobs))
        for name, distance, error in found:
            if error:
                faults.append(f"{name}: {error}")
            else:
                exported += 1
                largest = max(largest, (distance, name))
                if not distance <= TOLERANCE:
                    faults.append(f"{name}: {distance:.2g} apart")
        if args.reference:
            for file in sorted((args.reference / "models").glob("*.h5")):
                distance = check_reference(args.convert, file, work)
                print(f"{file.name}: {distance:.2g} apart")
                if not distance <= TOLERANCE:
                    faults.append(f"{file.name}: {distance:.2g} apart")
    for fault in faults:
        print(fault.strip())
    print(f"{exported} models exported, largest difference {largest[0]:.2g} ({largest[1]}), {len(faults)} faults")
    if exported < AT_LEAST:
        print(f"at least {AT_LEAST} are expected")
    return 1 if faults or exported < AT_LEAST else 0


if __name__ == "__main__":
    sys.exit(main())
