"""Compares the speed of maeum with ONNX Runtime, tract and Keras 2.15 on networks, and with openSMILE and an SVM on
whole recordings.

    python3.11 tools/compare.py            # about ten minutes; the first run also builds
    python3.11 tools/compare.py --quick    # smoke test; the figures are meaningless

Prints tables and finally one line of JSON. docs/performance.md describes the measurements.

Each contender is a long-running process. It prints `ready` and then responds to each line of
tab-separated fields with one line:

    answer RECORDING         the merged emotion weights of the captured inputs
    networks RECORDING N     nanoseconds per run of the five networks, over N runs

ours (tools/compare/ours.rs) also supports `isa`, `draws RECORDING DRAWS N`, `recording BUNDLE
DRAWS PATH N` (from file to prediction) and `batch BUNDLE DRAWS THREADS N PATH ...`; BUNDLE may be
`default`, DRAWS may be `off`; `core BUNDLE DRAWS FOLDER N` times front end and networks for all recordings of a
folder. The Python contender (tools/compare/contender.py) also supports
`golden RECORDING`. openSMILE (tools/compare/opensmile_contender.py) supports only `recording PATH N`.

Programs and virtual environments are built in the folder `compare` of cargo's target folder ($CARGO_TARGET_DIR, or
`target`).
"""

import argparse
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import wave

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
BUILD = TARGET / "compare"
RECORDINGS = ("test_dis", "en_long")
THREADS = (1, 2)
# Contenders on the networks, and the one on whole recordings.
NETWORK_CONTENDERS = ("onnxruntime", "tract", "keras")
OPENSMILE = "opensmile"
OTHERS = (*NETWORK_CONTENDERS, OPENSMILE)

AVX512 = "avx512"

# Time per request of the 2020 system for test_dis.wav once warm, in milliseconds: measured with the
# remains that its authors published, at their pinned versions (Python 3.5, Keras 2.2.4, TensorFlow
# 1.12), on another machine, a 2-core x86-64 with AVX-512, with all threads.
ORIGINAL_MS = 560.0

# Maximum difference of emotion weights, which are at most 1; the summation order of float32 causes
# far less.
LARGEST_ERROR = 1e-5

# Target duration of one measurement, in seconds.
MEASUREMENT = 0.15
# Delay in seconds that lets busy-waiting threads fall asleep.
PAUSE = 0.02
DRAWS = "32"
# Maximum rounds of a batch, which takes many seconds.
BATCH_ROUNDS = 5


class Contender:
    def __init__(self, command, log, **environment):
        self.name = pathlib.Path(command[0]).name
        self.log = log
        with open(log, "w") as errors:
            self.process = subprocess.Popen(
                [str(c) for c in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | environment,
            )
        self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} gave up:\n{self.log.read_text()[-2000:]}")
        return line.strip()

    def ask(self, *fields):
        self.process.stdin.write("\t".join(map(str, fields)) + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Measurement:
    """Measurement that is repeated; `ask` maps a number of runs to the nanoseconds of
    one run."""

    def __init__(self, ask):
        self.ask = ask
        self.runs = 1
        self.ms = []

    def calibrate(self):
        self.ask(1)
        once = max(int(self.ask(1)) / 1e9, 1e-6)
        self.runs = max(1, round(MEASUREMENT / once))

    def take(self):
        self.ms.append(int(self.ask(self.runs)) / 1e6)


def interleaved(measurements, rounds, quick):
    """Runs every measurement once per round, in an order that changes between rounds."""
    order = list(measurements.values())
    if not quick:
        for measurement in order:
            measurement.calibrate()
    for _ in range(rounds):
        random.shuffle(order)
        for measurement in order:
            time.sleep(PAUSE)
            measurement.take()


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0], values[0]
    return statistics.quantiles(values, n=4, method="inclusive")


def ratio(numerator, denominator):
    """Returns the median over the rounds of the ratio of two measurements: a temporary slowdown of the
    machine affects both."""
    return statistics.median(a / b for a, b in zip(numerator.ms, denominator.ms))


def row(name, values, unit="ms", note=""):
    low, middle, high = quartiles(values)
    print(f"  {name:<46}{middle:>10.2f} {unit:<3} [{low:.2f} .. {high:.2f}]  {note}".rstrip())


def run(*command, **options):
    subprocess.run([str(c) for c in command], check=True, cwd=ROOT, **options)


def python(venv, *requirements):
    """Returns the interpreter of a virtual environment with these requirements; the first include the others."""
    venv = BUILD / venv
    interpreter = venv / "bin" / "python"
    files = [ROOT / "tools" / f"requirements-{name}.txt" for name in requirements]
    wanted = "".join(f.read_text() for f in files)
    stamp = venv / "requirements.txt"
    if not stamp.is_file() or stamp.read_text() != wanted:
        run(sys.executable, "-m", "venv", venv)
        run(interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", files[0])
        stamp.write_text(wanted)
    return interpreter


def hide_avx512():
    """Lets the programs that are started from here on see a processor without AVX-512
    (tools/compare/without_avx512.c)."""
    library = BUILD / "without_avx512.so"
    run(os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "tools/compare/without_avx512.c", "-o", library)
    os.environ["LD_PRELOAD"] = str(library)
    run(sys.executable, "-c", "")


def build(reference, contenders):
    """Builds programs and bundles; returns our contender and the bundles by name."""
    # One command compiles the library once: a build of the benchmark alone selects more features of the dependencies.
    targets = ("--bin", "infer", "--bin", "convert", "--bench", "compare")
    command = ("cargo", "build", "--release", "--quiet", *targets, "--message-format", "json")
    messages = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    built = [json.loads(line) for line in messages.splitlines() if '"executable":"' in line]
    program = next(m["executable"] for m in built if m["target"]["name"] == "compare")
    if "tract" in contenders:
        manifest = ROOT / "tools" / "compare" / "tract" / "Cargo.toml"
        target = ("--target-dir", BUILD / "tract")
        run("cargo", "build", "--release", "--quiet", "--locked", "--manifest-path", manifest, *target)
    convert = TARGET / "release" / "convert"
    bundles = {"exact": BUILD / "reference.safetensors", "default": "default"}
    run(convert, reference / "models", "-o", bundles["exact"], stdout=subprocess.DEVNULL)
    usage = subprocess.run([convert, "--help"], capture_output=True, text=True, check=True).stdout
    if "--resampling" in usage:
        bundles["fast"] = BUILD / "reference_fast.safetensors"
        options = ("--resampling", "fast", "-o", bundles["fast"])
        run(convert, reference / "models", *options, stdout=subprocess.DEVNULL)
    return program, bundles


def repeated(source, seconds):
    """Returns a recording of this length: `source` repeated."""
    path = BUILD / f"{seconds}_seconds.wav"
    with wave.open(str(source)) as reader, wave.open(str(path), "wb") as writer:
        writer.setparams(reader.getparams())
        sound = reader.readframes(reader.getnframes())
        frame = reader.getsampwidth() * reader.getnchannels()
        size = seconds * reader.getframerate() * frame
        writer.writeframes((sound * (size // len(sound) + 1))[:size])
    return path


# Starts a program from a small process, because the memory of the starting process counts towards
# that of a started one. Prints milliseconds, the maximum resident kilobytes and the exit code.
STARTER = """
import os, sys, time
null = os.open(os.devnull, os.O_WRONLY)
begun = time.perf_counter()
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
_, status, usage = os.wait4(process, 0)
print((time.perf_counter() - begun) * 1e3, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""


def start(command):
    """Runs a program to its end; returns milliseconds and its maximum resident memory
    in MB."""
    starter = [sys.executable, "-I", "-S", "-c", STARTER, *map(str, command)]
    said = subprocess.run(starter, stdout=subprocess.PIPE, text=True, check=True).stdout
    elapsed, resident, code = said.split()
    if code != "0":
        sys.exit(f"{command} failed with code {code}")
    return float(elapsed), int(resident) / 1024


def machine():
    model, flags = platform.processor(), ""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
        if key.strip() == "flags":
            flags = "AVX-512" if "avx512f" in value.split() else "no AVX-512"
    return f"{model}, {os.cpu_count()} processors, {flags}, {platform.platform()}"


def check(name, contender, golden):
    """Checks that the contender returns the captured results."""
    for recording in RECORDINGS:
        answer = [float(x) for x in contender.ask("answer", recording).split()]
        error = max(abs(a - b) for a, b in zip(answer, golden[recording], strict=True))
        print(f"  {name:<16}{recording:<12}{error:.1e}")
        if not error <= LARGEST_ERROR:
            sys.exit(f"{name} computes something else: {answer}")


def networks(arguments, reference, program, bundles, interpreter):
    """Compares the five networks with the other runtimes; returns ratios, and our time per thread count."""
    golden_folder = reference / "golden"
    others = [name for name in arguments.contenders if name in NETWORK_CONTENDERS]
    commands = {
        "ours": [program, bundles["exact"]],
        "onnxruntime": [interpreter, "tools/compare/contender.py", "onnxruntime", arguments.onnx],
        "tract": [BUILD / "tract/release/compare-tract", arguments.onnx],
        "keras": [interpreter, "tools/compare/contender.py", "keras", reference / "models"],
    }
    contenders = {
        (name, threads): Contender([*commands[name], golden_folder, threads], BUILD / f"{name}_{threads}.log")
        for name in ("ours", *others)
        for threads in THREADS
    }
    ours = {threads: contenders["ours", threads] for threads in THREADS}
    isa = ours[1].ask("isa")
    print(f"  our instruction set: {isa}")
    slower = None
    if isa == AVX512:
        slower = Contender([*commands["ours"], golden_folder, 1], BUILD / "ours_avx2.log", MAEUM_ISA="avx2")

    if others:
        print("\nlargest difference from the captured emotion weights")
        golden = golden_answers(contenders)
        for (name, threads), contender in contenders.items():
            check(f"{name} x{threads}", contender, golden)

    ratios = {}
    for threads in THREADS:
        times = {
            (name, recording): Measurement(lambda n, c=contenders[name, threads], r=recording: c.ask("networks", r, n))
            for name in ("ours", *others)
            for recording in RECORDINGS
        }
        if threads == 1:
            times["draws", "test_dis"] = Measurement(lambda n, c=ours[threads]: c.ask("draws", "test_dis", DRAWS, n))
            for recording in RECORDINGS if slower else ():
                times["avx2", recording] = Measurement(lambda n, r=recording: slower.ask("networks", r, n))
        interleaved(times, arguments.rounds, arguments.quick)
        suffix = "" if threads == 1 else f"_{threads}threads"
        print(f"\nfive networks, dropout off, threads: {threads}")
        for recording in RECORDINGS:
            mine = times["ours", recording]
            row(f"{recording}: ours", mine.ms)
            if ("avx2", recording) in times:
                key = f"avx2_{recording}"
                ratios[key] = ratio(times["avx2", recording], mine)
                row(f"{recording}: ours on AVX2", times["avx2", recording].ms, note=f"{ratios[key]:.2f} times ours")
            for name in others:
                key = f"{name}_{recording}{suffix}"
                ratios[key] = ratio(times[name, recording], mine)
                row(f"{recording}: {name}", times[name, recording].ms, note=f"{ratios[key]:.2f} times ours")
        if threads == 1:
            mine, drawn = times["ours", "test_dis"], times["draws", "test_dis"]
            ratios["draws_over_deterministic"] = ratio(drawn, mine) - 1.0
            added = f"{ratios['draws_over_deterministic']:.2f} of it added"
            row(f"test_dis: ours with {DRAWS} draws", drawn.ms, note=added)
    if slower:
        slower.close()
    for (name, threads), contender in contenders.items():
        if (name, threads) != ("ours", 1):
            contender.close()
    return ratios, ours[1]


def golden_answers(contenders):
    for name in ("onnxruntime", "keras"):
        if (name, 1) in contenders:
            return {r: [float(x) for x in contenders[name, 1].ask("golden", r).split()] for r in RECORDINGS}
    sys.exit("one of onnxruntime and keras must be among the contenders, to read the captured answers")


def whole_recordings(arguments, reference, bundles, ours):
    """Measures files to predictions in a warm process."""
    sample = reference / "models" / "test_dis.wav"
    one, ten = (repeated(reference / "golden" / "en_long.wav", seconds) for seconds in (60, 600))
    recordings = sorted((reference / "golden").glob("*.wav")) + [sample]
    files = [f for f in recordings if f.name != "silence2s.wav"] * (1 if arguments.quick else 4)

    def recording(bundle, draws, path):
        return Measurement(lambda n: ours.ask("recording", bundles[bundle], draws, path, n))

    def batch(bundle, threads):
        return Measurement(lambda n: ours.ask("batch", bundles[bundle], DRAWS, threads, n, *files))

    times = {}
    for bundle in bundles:
        times[bundle, "32"] = recording(bundle, DRAWS, sample)
    for bundle in set(bundles) - {"default"}:
        times[bundle, "off"] = recording(bundle, "off", sample)
    if OPENSMILE in arguments.contenders:
        command = [python("opensmile", "opensmile"), "tools/compare/opensmile_contender.py"]
        opensmile = Contender(command, BUILD / "opensmile.log")
        times[OPENSMILE] = Measurement(lambda n: opensmile.ask("recording", sample, n))
    for bundle in ("default", "exact"):
        times[bundle, "one"] = recording(bundle, DRAWS, one)
        times[bundle, "ten"] = recording(bundle, DRAWS, ten)
        for threads in THREADS:
            times[bundle, f"batch{threads}"] = batch(bundle, threads)
    interleaved(times, arguments.rounds, arguments.quick)

    ratios = {}
    keys = {"exact": "original_reference_exact", "fast": "original_reference_fast", "default": "original_default"}
    names = {"exact": "reference bundle", "fast": "reference bundle, fast resampling", "default": "default bundle"}
    print("\ntest_dis.wav (6.3 s) to answer, warm, one thread")
    print(f"  the original (its own measurement, on another machine) {ORIGINAL_MS:.0f} ms")
    for bundle in bundles:
        mine = times[bundle, "32"].ms
        ratios[keys[bundle]] = ORIGINAL_MS / statistics.median(mine)
        noted = f"the original took {ratios[keys[bundle]]:.1f} times that"
        row(f"{names[bundle]}, {DRAWS} draws", mine, note=noted)
        if (bundle, "off") in times:
            row(f"{names[bundle]}, dropout off", times[bundle, "off"].ms)
    if OPENSMILE in arguments.contenders:
        opensmile.close()
        ratios[OPENSMILE] = ratio(times[OPENSMILE], times["default", "32"])
        noted = f"{ratios[OPENSMILE]:.1f} times the default bundle"
        row("openSMILE eGeMAPS and an SVM", times[OPENSMILE].ms, note=noted)
    print(f"\n{len(files)} recordings on two threads and on one")
    for bundle, suffix in (("default", ""), ("exact", "_reference")):
        one_thread, two_threads = (times[bundle, f"batch{t}"] for t in THREADS)
        ratios[f"two_threads{suffix}"] = ratio(one_thread, two_threads)
        row(f"{names[bundle]}, one thread", one_thread.ms)
        row(f"{names[bundle]}, two threads", two_threads.ms, note=f"{ratios[f'two_threads{suffix}']:.2f} times as fast")
    print("\na recording of ten minutes and one of one")
    for bundle, suffix in (("default", ""), ("exact", "_reference")):
        short, long = times[bundle, "one"], times[bundle, "ten"]
        ratios[f"ten_minutes_over_one{suffix}"] = ratio(long, short)
        row(f"{names[bundle]}, one minute", short.ms)
        times_longer = f"{ratios[f'ten_minutes_over_one{suffix}']:.2f} times as long"
        row(f"{names[bundle]}, ten minutes", long.ms, note=times_longer)
    return ratios, sample, ten


def processes(arguments, bundles, sample, ten):
    """Measures whole processes: from start to printed prediction, and their memory."""
    infer = TARGET / "release" / "infer"
    commands = {
        "": ("default bundle", [infer, sample]),
        "_reference": ("reference bundle", [infer, "--model", bundles["exact"], sample]),
    }
    taken = {suffix: [] for suffix in commands}
    for _ in range(arguments.rounds):
        for suffix in random.sample(list(commands), len(commands)):
            taken[suffix].append(start(commands[suffix][1]))
    # Memory of the starting process.
    floor = start(["/bin/true"])[1]
    ratios = {}
    print("\na process from start to printed answer, test_dis.wav")
    for suffix, (name, _) in commands.items():
        times, memory = zip(*taken[suffix])
        ratios[f"start_ms{suffix}"] = statistics.median(times)
        ratios[f"resident_mb{suffix}"] = max(memory)
        row(name, times)
        bound = "" if max(memory) > floor else "or less: this program alone has as much"
        row(f"{name}, resident", memory, "MB", bound)
    for suffix, (name, command) in commands.items():
        _, memory = start([*command[:-1], ten])
        ratios[f"resident_ten_minutes_mb{suffix}"] = memory
        row(f"{name}, ten minutes, resident", [memory], "MB")
    return ratios


def processor_ms(command):
    """Runs `infer` to its end; returns the processor time of all its threads. Recordings without an answer are
    reported on standard error."""
    null = subprocess.DEVNULL
    process = subprocess.Popen([str(c) for c in command], stdout=null, stderr=null)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        sys.exit(f"{command} failed with code {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1e3


def batches(arguments, ours):
    """Compares the program's processor time per file of a folder with that of front end and networks alone."""
    infer = TARGET / "release" / "infer"
    files = sorted(arguments.files.glob("*.wav"))
    core, per_file = [], []

    def core_ms(runs):
        """Processor time of the contender's only thread, which decodes all files first."""
        schedule = pathlib.Path(f"/proc/{ours.process.pid}/schedstat")
        begun = int(schedule.read_text().split()[0])
        ours.ask("core", "default", "off", arguments.files, runs)
        return (int(schedule.read_text().split()[0]) - begun) / 1e6

    with tempfile.TemporaryDirectory() as scratch:
        half = pathlib.Path(scratch)
        for file in files[::2]:
            (half / file.name).symlink_to(file)
        program = (infer, "--format", "jsonl", "--threads", "1")
        for _ in range(min(arguments.rounds, BATCH_ROUNDS)):
            core.append((core_ms(2) - core_ms(1)) / len(files))
            more = processor_ms([*program, arguments.files]) - processor_ms([*program, half])
            per_file.append(more / (len(files) - len(files[::2])))
    overhead = statistics.median(a / b for a, b in zip(per_file, core)) - 1.0
    print(f"\n{len(files)} files, one thread, default bundle, processor time per file")
    row("front end and networks", core)
    row("infer, without its start", per_file, note=f"{overhead:.1%} more for reading, decoding and printing")
    return {"batch_overhead": overhead}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="two short rounds: a smoke test")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="[default: %(default)s]")
    parser.add_argument("--onnx", type=pathlib.Path, metavar="DIR",
                        help="the five networks as ONNX files [default: $MAEUM_REFERENCE_DIR/peers]")  # fmt: skip
    parser.add_argument("--files", type=pathlib.Path, metavar="DIR",
                        help="also measure a batch of all WAV files of this folder, which fit into memory together")  # fmt: skip
    parser.add_argument("--without-avx512", action="store_true",
                        help="hide AVX-512 from all contenders (Linux, where /proc/cpuinfo lists cpuid_fault)")  # fmt: skip
    parser.add_argument("--contenders", default=",".join(OTHERS), metavar="NAMES",
                        help="those beside ours, separated by commas [default: %(default)s]")  # fmt: skip
    arguments = parser.parse_args()
    arguments.contenders = [name for name in arguments.contenders.split(",") if name]
    unknown = set(arguments.contenders) - set(OTHERS)
    if unknown:
        parser.error(f"no contender is called {', '.join(sorted(unknown))}")
    if arguments.quick:
        arguments.rounds = 2
    return arguments


def main():
    arguments = parse()
    reference = pathlib.Path(os.environ.get("MAEUM_REFERENCE_DIR", ROOT.parent / "shared")).resolve()
    arguments.onnx = (arguments.onnx or reference / "peers").resolve()
    for folder in (reference / "models", reference / "golden", arguments.onnx):
        if not folder.is_dir():
            sys.exit(f"{folder} is missing: set MAEUM_REFERENCE_DIR to the folder with models/ and golden/")
    BUILD.mkdir(parents=True, exist_ok=True)
    has_python = {"onnxruntime", "keras"} & set(arguments.contenders)
    interpreter = python("venv", "compare", "keras") if has_python else None
    program, bundles = build(reference, arguments.contenders)
    if arguments.without_avx512:
        hide_avx512()
    print(machine() + (", hidden" if arguments.without_avx512 else ""))
    print(f"  {arguments.rounds} rounds; medians and [quartiles]; load at the start: {os.getloadavg()[0]:.1f}")
    ratios, ours = networks(arguments, reference, program, bundles, interpreter)
    more, sample, ten = whole_recordings(arguments, reference, bundles, ours)
    if arguments.files:
        more |= batches(arguments, ours)
    ours.close()
    ratios.update(more)
    ratios.update(processes(arguments, bundles, sample, ten))
    print(f"\nload at the end: {os.getloadavg()[0]:.1f}")
    print(json.dumps({key: round(value, 3) for key, value in ratios.items()}))


main()
