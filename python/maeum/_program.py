"""Console script `maeum`: the programs of the Rust library as subcommands."""

import signal
import sys

from . import __version__
from ._maeum import run_program

_USAGE = """\
Usage: maeum infer|convert|serve [OPTIONS] ...

  infer    estimates emotion, age and gender from voice recordings
  convert  turns Keras .h5 files into bundles, shows, runs and checks both
  serve    answers over HTTP

`maeum infer --help` describes the options of infer. `python -m maeum.batch --help` describes large batches.
"""


def main() -> int:
    """Run the program of the first argument; return its exit code."""
    program, *arguments = sys.argv[1:] or [""]
    if program in ("-h", "--help", "help"):
        sys.stdout.write(_USAGE)
        return 0
    if program in ("-V", "--version"):
        print(f"maeum {__version__}")
        return 0
    # Python's handler of SIGINT waits for the interpreter, which a program never enters again. A signal that
    # was ignored at the start stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    code = run_program(program, [f"maeum {program}", *arguments])
    if code is None:
        sys.stderr.write(f"maeum: there is no program {program!r}\n\n{_USAGE}" if program else _USAGE)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
