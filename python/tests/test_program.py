"""Console script `maeum`: the programs of the Rust library, byte for byte."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = PACKAGE.parent / "tests" / "golden"
MAEUM = [sys.executable, "-m", "maeum._program"]


def run(command, **options):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **options)


def start(command, **options):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **options)


def other(infer, name):
    """Path of another program of the same build."""
    path = pathlib.Path(infer).with_name(name)
    if not path.exists():
        pytest.skip(f"{path} is not built")
    return str(path)


def equal(arguments, infer, **options):
    """Check that both programs write the same; return their result."""
    ours, theirs = run([*MAEUM, "infer", *arguments], **options), run([infer, *arguments], **options)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
    return ours


def test_the_script_is_the_module():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"maeum": "maeum._program:main"}


@pytest.mark.parametrize(
    "options", [[], ["--format", "jsonl"], ["--format", "csv", "--segments"], ["--dropout", "off"], ["--self-test"]]
)
def test_answers_are_those_of_infer(voice, infer, tmp_path, options):
    broken = tmp_path / "broken.wav"
    broken.write_text("no recording")
    result = equal([*options, voice, str(broken)], infer)
    assert result.returncode == 1 and b"broken.wav" in result.stdout + result.stderr
    assert equal([*options, voice], infer).returncode == 0


def test_standard_input_and_strange_names(voice, infer, tmp_path):
    data = pathlib.Path(voice).read_bytes()
    assert equal(["-"], infer, input=data).returncode == 0
    name = os.fsencode(tmp_path) + b"/\xff.wav"
    with open(name, "wb") as file:
        file.write(data)
    assert equal([name], infer).returncode == 0


def test_output_files_are_those_of_infer(voice, infer, tmp_path):
    for program, output in ([[infer], "a"], [[*MAEUM, "infer"], "b"]):
        assert run([*program, "--format", "json", "-o", str(tmp_path / output), voice]).returncode == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_usage_names_the_subcommand(voice, infer):
    for arguments in (["--segments", voice], ["--threads", "0", voice], ["--bogus"], []):
        ours, theirs = run([*MAEUM, "infer", *arguments]), run([infer, *arguments])
        assert ours.returncode == theirs.returncode == 2
        assert ours.stderr == theirs.stderr.replace(b"Usage: infer", b"Usage: maeum infer")
        assert b"Usage: maeum infer" in ours.stderr or b"--threads" in ours.stderr
    help_text = run([*MAEUM, "infer", "--help"])
    assert help_text.returncode == 0 and b"Usage: maeum infer" in help_text.stdout


def test_there_are_no_other_programs():
    for arguments in ([], ["bogus"]):
        result = run([*MAEUM, *arguments])
        assert result.returncode == 2 and b"Usage: maeum" in result.stderr and not result.stdout
    result = run([*MAEUM, "--help"])
    assert result.returncode == 0 and b"Usage: maeum" in result.stdout
    assert run([*MAEUM, "--version"]).stdout.startswith(b"maeum ")


def test_convert_is_convert(infer, tmp_path):
    convert = other(infer, "convert")
    file = next(f for f in sorted(GOLDEN.rglob("*.h5")) if not f.stem.startswith("refused"))
    for arguments in ([], ["--inspect", str(file)], ["--inspect", str(tmp_path / "none.h5")]):
        ours, theirs = run([*MAEUM, "convert", *arguments]), run([convert, *arguments])
        assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    for program, output in ([[convert], "a"], [[*MAEUM, "convert"], "b"]):
        assert run([*program, str(file), "-o", str(tmp_path / output)]).returncode == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_closed_output_is_an_error_as_in_infer(voice, infer):
    codes = []
    for program in ([infer], [*MAEUM, "infer"]):
        read, write = os.pipe()
        os.close(read)
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
        codes.append(subprocess.run([*program, voice], stdout=write, stderr=subprocess.DEVNULL, env=environment).returncode)
        os.close(write)
    assert codes[0] == codes[1]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(tmp_path, kind):
    # Standard input stays open, so the program waits for it.
    for options in ([], ["--format", "json", "-o", str(tmp_path / "out.json")]):
        process = start([*MAEUM, "infer", *options, "-"], stdin=subprocess.PIPE)
        wait_until_it_reads(process)
        process.send_signal(kind)
        assert process.wait(timeout=60) == -kind
        process.communicate()
        assert not list(tmp_path.iterdir())


def test_an_ignored_signal_stays_ignored(voice):
    ignored = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: E731
    process = start([*MAEUM, "infer", "--format", "jsonl", "-"], stdin=subprocess.PIPE, preexec_fn=ignored)
    wait_until_it_reads(process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(pathlib.Path(voice).read_bytes(), timeout=60)
    assert process.returncode == 0 and output.startswith(b"{")


def wait_until_it_reads(process):
    """Wait until the program's own code runs: until it sleeps in a read of the pipe."""
    place = pathlib.Path(f"/proc/{process.pid}")
    if not place.exists():
        time.sleep(5)
        return
    for _ in range(600):
        library = any("_maeum" in line for line in (place / "maps").read_text().splitlines())
        threads = [(t / "wchan").read_text() for t in (place / "task").iterdir()]
        if library and any("pipe" in w for w in threads):
            return
        time.sleep(0.1)
    raise AssertionError("the program does not read its standard input")


def test_serve_answers_and_ends(infer):
    other(infer, "serve")
    process = start([*MAEUM, "serve", "--port", "0", "--quiet"])
    try:
        address = process.stdout.readline().decode().split()[-1]
        port = address.rsplit(":", 1)[1]
        for _ in range(100):
            probe = run([*MAEUM, "serve", "--probe", "--port", port])
            if probe.returncode == 0:
                break
            time.sleep(0.2)
        assert probe.returncode == 0, probe.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate()
