"""Counts the instructions of the hot code and compares them with tools/instructions.json.

    python3 tools/instructions.py           # fails if a count is well above the table's
    python3 tools/instructions.py --bless   # rewrites the table

Unlike seconds, instructions are nearly equal on every run and machine. tools/instructions.rs runs
under valgrind's callgrind, which does not support AVX-512, so the AVX2 kernels are counted.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
TABLE = ROOT / "tools" / "instructions.json"
ISA = "avx2"

# Relative margin: compilers and the C library's kernels differ by less, an accidental slowdown by
# more.
MARGIN = 0.15


def build():
    """Builds the program; returns its path."""
    command = ("cargo", "build", "--release", "--features", "instructions", "--bin", "instructions", "--message-format", "json")
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        sys.exit(built.returncode)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "instructions":
            return message["executable"]
    sys.exit("cargo built no program")


def count(program):
    """Returns the instructions per workload, in the order of the workloads."""
    with tempfile.TemporaryDirectory() as folder:
        command = (
            "valgrind",
            "--tool=callgrind",
            "--quiet",
            f"--callgrind-out-file={folder}/out",
            "--toggle-collect=instructions::counted_workload",
            "--dump-after=instructions::counted_workload",
            program,
        )
        ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if ran.returncode != 0:
            sys.exit(f"{program} failed under valgrind")
        isa, *names = ran.stdout.splitlines()
        if isa != ISA:
            sys.exit(f"the table is of {ISA}, this processor under valgrind has {isa}")
        # The first dump is `out.1`; `out` is the empty dump at the end.
        counts = [total(pathlib.Path(f"{folder}/out.{k}").read_text()) for k in range(1, len(names) + 1)]
    return dict(zip(names, counts, strict=True))


def total(dump):
    for line in dump.splitlines():
        key, _, value = line.partition(":")
        if key in ("summary", "totals"):
            return int(value.split()[0])
    sys.exit("callgrind wrote no sum")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bless", action="store_true", help="write the table anew")
    arguments = parser.parse_args()
    counts = count(build())
    if arguments.bless:
        TABLE.write_text(json.dumps(counts, indent=1) + "\n")
    table = json.loads(TABLE.read_text())
    width = max(map(len, counts))
    print(f"{'':<{width}}{'instructions':>15}{'of the table':>14}")
    worse = []
    for name, n in counts.items():
        share = f"{n / table[name]:.1%}" if name in table else "new"
        print(f"{name:<{width}}{n:>15,}{share:>14}")
        if name in table and n > table[name] * (1 + MARGIN):
            worse.append(name)
    bless = "if that is meant, run tools/instructions.py --bless"
    if worse:
        sys.exit(f"more than {MARGIN:.0%} above the table: {'; '.join(worse)}; {bless}")
    if counts.keys() != table.keys():
        changed = "; ".join(sorted(counts.keys() ^ table.keys()))
        sys.exit(f"not in both the table and the benchmark: {changed}; {bless}")


main()
