#!/usr/bin/env python3
"""Compares the cost of `python -m maeum.batch` with that of `infer` on the same files.

    python tools/batch_cost.py --infer target/release/infer FOLDER [--rounds 5]
    python tools/batch_cost.py --infer target/release/infer FOLDER --instructions
    python tools/batch_cost.py --manifest 1000000            the cost of a manifest of so many files instead

needs the package maeum with its extra daft, built with optimisation from the same source. The runs alternate, on one file
and on all of them. Prints medians of the waiting time and of the processor time (user and system, with all child
processes), and the cost per file without the start: the time for all files minus that for one, divided by the number of the others.
The ratios are medians of those of single rounds, because the speed of a machine changes.
With `--instructions` each runs once under valgrind, which takes minutes for a few hundred files: the instructions of the
processes do not depend on the load of the machine. Those of the kernel are not among them.
"""

import argparse
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".m4a")


def measure(command, environment):
    """Waiting time and processor time of a command in seconds."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 1), f"{command} ended with {process.returncode}"
    return time.monotonic() - begin, usage.ru_utime + usage.ru_stime


def instructions(command, environment):
    """Instructions of a command and its child processes, in millions."""
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=yes"]
    process = subprocess.run(valgrind + command, capture_output=True, text=True, env=environment)
    assert process.returncode in (0, 1), f"{command} ended with {process.returncode}: {process.stderr}"
    return (sum(int(count) for count in re.findall(r"Collected : (\d+)", process.stderr)) / 1e6,)


def manifest(count):
    """Print processor time and memory of a manifest."""
    from maeum import batch

    files = ((f"s3://bucket/calls/2026/{i % 1000:04}/{i:012}.wav", 100_000 + i * 7919 % 200_000) for i in range(count))
    begin = time.process_time()
    made = batch.Manifest.make({}, batch._file_list(files), 2000, 512 << 20)
    size = len(made.to_bytes())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{count} files: {time.process_time() - begin:.1f} s, {memory} MiB in all, {size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("--infer", help="program infer")
    parser.add_argument("--manifest", type=int, metavar="FILES")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--instructions", action="store_true", help="count instructions with valgrind, in one round")
    arguments = parser.parse_args()
    if arguments.manifest:
        manifest(arguments.manifest)
        return
    if not arguments.folder or not arguments.infer:
        parser.error("give a folder and --infer")
    files = sorted(p.resolve() for p in arguments.folder.rglob("*") if p.suffix.lower() in ENDINGS)
    if len(files) < 2:
        parser.error(f"{arguments.folder}: fewer than two recordings")
    environment = {**os.environ, "DAFT_ANALYTICS_ENABLED": "0"}
    measured = instructions if arguments.instructions else measure
    units = [("instructions", "million", "million")] if arguments.instructions else [("waiting time", "s", "ms"), ("processor time", "s", "ms")]
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        counts = [1, len(files)]
        for count in counts:
            (scratch / str(count)).mkdir()
            for number, file in enumerate(files[:count]):
                (scratch / str(count) / f"{number:06}{file.suffix}").symlink_to(file)
        for number in range(1 if arguments.instructions else arguments.rounds):
            for count in counts:
                folder = str(scratch / str(count))
                out = str(scratch / f"out-{number}-{count}")
                commands = {
                    "infer": [arguments.infer, "--format", "jsonl", "-o", out + ".jsonl", folder],
                    "batch": [sys.executable, "-m", "maeum.batch", folder, out],
                }
                # Each program is first in every second round: a machine whose speed falls slows the second one.
                order = list(commands.items())
                for name, command in order[::-1] if number % 2 else order:
                    results.setdefault((name, count), []).append(measured(command, environment))
    for kind, (quantity, unit, small) in enumerate(units):
        columns = {key: [value[kind] for value in values] for key, values in results.items()}
        for count in counts:
            a, b = columns["infer", count], columns["batch", count]
            show(f"{count} files, {quantity}", a, b, unit)
        scale = (1 if unit == small else 1000) / (counts[1] - counts[0])
        a, b = (
            [(all_files - one) * scale for one, all_files in zip(columns[name, counts[0]], columns[name, counts[1]])]
            for name in ("infer", "batch")
        )
        show(f"per file without the start, {quantity}", a, b, small)


def show(what, infer, batch, unit):
    """Print the medians of both, and the median and range of their ratios."""
    ratios = sorted(b / a for a, b in zip(infer, batch))
    a, b, ratio = (statistics.median(values) for values in (infer, batch, ratios))
    print(f"{what}: infer {a:.2f} {unit}, batch {b:.2f} {unit}, ratio {ratio:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
