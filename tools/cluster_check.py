#!/usr/bin/env python3
"""Checks that `python -m maeum.batch --ray` loses and repeats nothing when processes of a Ray cluster are killed.

    python tools/cluster_check.py --infer target/release/infer [--nodes 2] [--rounds 20] [--files 2000]

needs the package maeum with its extra daft, and ray and psutil. It starts a cluster of several nodes on this machine.
Each round runs one job, kills a worker and the driver with SIGKILL at random moments, continues the job and compares
every row with the line of `infer`: each file once, with the same answer. With `--scaling` it kills nothing and measures
the throughput instead. Ends with 1 at the first difference; `--seed` repeats the choices.

Not a part of the ordinary checks: Ray's start is slow and fails on a loaded machine.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import wave

os.environ.update(
    DAFT_ANALYTICS_ENABLED="0",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_memory_monitor_refresh_ms="0",
    # Beside other programs, the default of 15 lets a part take minutes.
    RAY_worker_niceness="0",
)
ROOT = pathlib.Path(__file__).resolve().parent.parent

import psutil
import pyarrow.parquet as pq
from ray.cluster_utils import Cluster

#: Bytes of the object store of a node, the least that Ray accepts: a part's arguments and counts are small.
OBJECT_STORE = 80 << 20
#: One file in this number is no recording.
BROKEN = 97


def make_files(folder, count, rng):
    """Write recordings of 1 to 2 s, cut from the synthetic voice and each different, and some broken files."""
    with wave.open(str(ROOT / "tests" / "data" / "voice.wav")) as voice:
        rate, frames = voice.getframerate(), voice.readframes(voice.getnframes())
    for number in range(count):
        path = folder / f"{number % 10}" / f"{number:06}.wav"
        path.parent.mkdir(exist_ok=True)
        if number % BROKEN == 0:
            path.write_text("no recording")
            continue
        begin = rng.randrange(0, len(frames) // 2 - 2 * rate)
        length = rng.randrange(rate, 2 * rate)
        with wave.open(str(path), "wb") as part:
            part.setnchannels(1)
            part.setsampwidth(2)
            part.setframerate(rate)
            part.writeframes(frames[2 * begin : 2 * (begin + length)])


def expected(infer, folder):
    """Lines of `infer` by file."""
    output = subprocess.run([infer, "--format", "jsonl", str(folder)], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
    return {json.loads(line)["file"]: line for line in output.stdout.splitlines()}


def check(out, lines):
    """Compare the rows of a job with the lines of `infer`."""
    seen = set()
    for file in sorted((out / "answers").glob("*.parquet")):
        for row in pq.read_table(file, columns=["path", "answer"]).to_pylist():
            path, answer = row["path"], row["answer"]
            assert path not in seen, f"{path} has two rows"
            seen.add(path)
            record = json.loads(lines[path])
            if "error" in record:
                assert answer["error"] == {"code": record["code"], "message": record["error"]}, path
            else:
                assert answer["error"] is None and answer["json"] == lines[path], path
    assert seen == set(lines), f"{len(set(lines) - seen)} files are lost"
    assert json.loads((out / "_SUCCESS.json").read_text())["files"] == len(lines)


class Job:
    """Driver of one job."""

    def __init__(self, arguments, folder, out, address):
        command = [sys.executable, "-m", "maeum.batch", str(folder), str(out), "--ray", address]
        command += ["--cpus", "1", "--part-files", str(arguments.part_files)]
        self.log = open(out.with_suffix(".log"), "ab")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def workers(self):
        """Processes that run a part."""
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                if process.name().startswith("ray::_ray_part") or "ray::_ray_part" in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                pass
        return found


def parts(out):
    return len(list((out / "answers").glob("*.parquet")))


def wait(job, until):
    """Wait until a condition holds or the job ends; return whether it still runs."""
    while job.process.poll() is None:
        if until():
            return True
        time.sleep(0.02)
    return False


def round_with_kills(arguments, folder, out, address, lines, rng):
    """Run a job, kill a worker and the driver, continue it and check its answers; return what was done."""
    total = -(-len(lines) // arguments.part_files)
    events = []
    # Moments are numbers of finished parts and a wait, so that they lie within the work and not in Ray's start.
    for kind in rng.sample(["worker", "driver"], 2):
        events.append((rng.randrange(0, max(1, total - 2)), rng.uniform(0, 0.5), kind))
    events.sort(key=lambda event: event[0])
    job, done = Job(arguments, folder, out, address), []
    for after, delay, kind in events:
        if not wait(job, lambda: parts(out) >= after and job.workers()):
            break
        time.sleep(delay)
        if kind == "worker":
            workers = job.workers()
            if workers:
                rng.choice(workers).send_signal(signal.SIGKILL)
                done.append(f"worker at {parts(out)}")
        elif job.process.poll() is None:
            job.process.send_signal(signal.SIGKILL)
            job.process.wait()
            done.append(f"driver at {parts(out)}")
            job = Job(arguments, folder, out, address)
    code = job.process.wait()
    if code == 3:
        # Parts whose workers died too often: the same command continues.
        done.append("continued")
        code = Job(arguments, folder, out, address).process.wait()
    assert code == 1, f"exit code {code}; see {out.with_suffix('.log')}"
    check(out, lines)
    return f"{', '.join(done) or 'nothing'} of {total} parts"


def scaling(arguments, folder, scratch, lines):
    """Print the throughput with 1, 2, ... nodes of one processor each."""
    for nodes in range(1, arguments.nodes + 1):
        cluster = start(nodes)
        try:
            for repeat in range(arguments.rounds):
                out = scratch / f"scaling-{nodes}-{repeat}"
                job = Job(arguments, folder, out, cluster.address)
                wait(job, lambda: out.exists() and parts(out) >= 1)
                begin, first = time.monotonic(), parts(out)
                wait(job, lambda: parts(out) * arguments.part_files >= len(lines))
                seconds = time.monotonic() - begin
                assert job.process.wait() == 1
                check(out, lines)
                files = len(lines) - first * arguments.part_files
                print(f"{nodes} nodes: {files / seconds:.1f} files/s from the first finished part on", flush=True)
        finally:
            cluster.shutdown()


def start(nodes):
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": OBJECT_STORE, "include_dashboard": False},
    )
    for _ in range(nodes - 1):
        cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
    cluster.wait_for_nodes()
    return cluster


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--infer", required=True, help="program infer of the same source")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--part-files", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--scaling", action="store_true")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    print(f"seed {arguments.seed}, {arguments.nodes} nodes, {arguments.files} files", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        folder = scratch / "files"
        folder.mkdir()
        make_files(folder, arguments.files, rng)
        lines = expected(arguments.infer, folder)
        assert len(lines) == arguments.files
        if arguments.scaling:
            scaling(arguments, folder, scratch, lines)
            return
        cluster = start(arguments.nodes)
        try:
            for number in range(1, arguments.rounds + 1):
                begin = time.monotonic()
                out = scratch / f"out-{number}"
                done = round_with_kills(arguments, folder, out, cluster.address, lines, rng)
                print(f"round {number}: killed {done}; {time.monotonic() - begin:.0f} s", flush=True)
        except AssertionError:
            for log in sorted(scratch.glob("*.log"))[-1:]:
                sys.stderr.write(log.read_text()[-5000:])
            raise
        finally:
            cluster.shutdown()
    print(f"{arguments.rounds} rounds: every file once, all answers equal")


if __name__ == "__main__":
    main()
