"""Compiles every CUDA kernel with NVIDIA's own compiler; needs neither a GPU nor a CUDA toolkit.

    python3 tools/nvrtc.py              # all of kernels/ to PTX and to sm_80 and sm_90 machine code
    python3 tools/nvrtc.py mel clean    # kernels/mel.cu and kernels/clean.cu alone
    python3 tools/nvrtc.py --cache DIR  # also keeps machine code and PTX in the engine's cache layout:
                                        # with XDG_CACHE_HOME=DIR it needs no compiler

Sources and options equal those of the engine on a machine with a GPU (src/nn/cuda/sources.rs, compile.rs).
The script fails on an error or a warning, on register spills or a stack frame without a reason in ALLOWED,
and on a hot loop whose share of multiply-adds is below LEAST_PRODUCTS. It prints each kernel's use of a
multiprocessor's resources.
"""

import argparse
import ctypes
import hashlib
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
VENV = ROOT / "target" / "nvrtc-venv"
SOURCES = ROOT / "src" / "nn" / "cuda" / "sources.rs"
COMPILE = ROOT / "src" / "nn" / "cuda" / "compile.rs"
REQUIREMENTS = ROOT / "tools" / "requirements-nvrtc.txt"
LIBRARY = "lib/python3*/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.*"
DISASSEMBLER = "lib/python3*/site-packages/nvidia/*/bin/nvdisasm"

# Targets of the compiler: `compute` is PTX, which a driver compiles further, `sm` is machine code.
PTX = "compute_80"
MACHINES = ("sm_80", "sm_90")

# Permitted local memory in bytes with its reason: (spill stores, spill loads, stack frame). Local
# memory is in the GPU's slow main memory; unlisted kernels must use none.
ALLOWED = {
    "feature_moments": ((40, 64, 16), "CUDA's pow is a called function, which saves registers; once per value"),
    "merge": ((0, 0, 112), "the dimensions of any shape, in a loop, from the arguments; no heavy layer"),
    "permute": ((0, 0, 72), "as merge"),
}

# Permitted number of registers, with its reason.
MOST_REGISTERS = {
    "lstm_64": (128, "two blocks of 256 threads fill a multiprocessor's 65,536"),
}

# Minimum share of multiply-adds among the instructions of the hot loop, on the last of MACHINES.
# The loop of recurrent layers is a whole step, including the activation functions of the gates.
LEAST_PRODUCTS = {
    "conv_tiled": 0.8,
    "dense_wide": 0.6,
    "gru_48": 0.35,
    "lstm_64": 0.4,
}


class Compiler:
    """C interface of libnvrtc."""

    def __init__(self, path):
        self.library = ctypes.CDLL(str(path))
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def _call(self, name, *arguments):
        code = getattr(self.library, name)(*arguments)
        if code != 0:
            sys.exit(f"{name}: {self.library.nvrtcGetErrorString(code).decode()}")

    def _text(self, program, what):
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, text)
        return text.raw

    def compile(self, name, text, options):
        """Compiles a source; returns the success, the compiler's log, and its PTX or cubin."""
        program = ctypes.c_void_p()
        given = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        self._call("nvrtcCreateProgram", ctypes.byref(program), text.encode(), name.encode(), 0, None, None)
        code = self.library.nvrtcCompileProgram(program, len(options), given)
        log = self._text(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        code_text = b""
        if code == 0:
            ptx = any(PTX in option for option in options)
            code_text = self._text(program, "PTX" if ptx else "CUBIN")
        self._call("nvrtcDestroyProgram", ctypes.byref(program))
        return code == 0, log, code_text


def install():
    """Returns the paths of libnvrtc and nvdisasm in a virtual environment, creating it if necessary."""
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run((sys.executable, "-m", "venv", str(VENV)), check=True)
    pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    subprocess.run((*pip, "-r", str(REQUIREMENTS)), check=True)
    # libnvrtc.alt.so in the same folder differs only in its allocator.
    found = [path for path in VENV.glob(LIBRARY) if ".alt." not in path.name]
    if len(found) != 1:
        sys.exit(f"{VENV} holds {len(found)} files libnvrtc.so, one was expected")
    programs = list(VENV.glob(DISASSEMBLER))
    if len(programs) != 1:
        sys.exit(f"{VENV} holds {len(programs)} programs nvdisasm, one was expected")
    # The package may install it without the executable bit.
    programs[0].chmod(0o755)
    return found[0], programs[0]


def engine():
    """Returns the engine's sources by name, and its options without the architecture."""
    code = SOURCES.read_text()
    options = re.search(r"const OPTIONS: .*? = \[(.*?)\]", COMPILE.read_text(), re.DOTALL)
    if not options:
        sys.exit(f"{COMPILE} has no OPTIONS")
    files = re.search(r"SOURCES: .*? = sources!\((.*?)\);", code, re.DOTALL)
    if not files:
        sys.exit(f"{SOURCES} has no SOURCES")

    def read(name):
        return (ROOT / "kernels" / name).read_text() if name else ""

    pairs = re.findall(r'"([\w.]+)"(?:\s+after\s+"([\w.]+)")?', files[1])
    common = read("maeum.cuh")
    texts = {name: f'{common}\n#line 1 "{name}"\n{read(front)}{read(name)}' for name, front in pairs}
    unused = {path.name for path in (ROOT / "kernels").glob("*.cu")} - texts.keys()
    if unused:
        sys.exit(f"{SOURCES} does not have {', '.join(sorted(unused))}")
    return texts, re.findall(r'"([^"]+)"', options[1])


def resources(log):
    """Parses ptxas's report of each kernel: registers, shared bytes, stack, spill stores and loads."""
    found = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        name = part[: part.index("'")]

        # A CUDA library function that is not inlined has its own lines; the worst value counts.
        def number(pattern, part=part):
            return max((int(n) for n in re.findall(pattern, part)), default=0)

        if "Used " not in part:
            sys.exit(f"ptxas says nothing of the registers of {name}:\n{part}")
        found[name] = {
            "registers": number(r"Used (\d+) registers"),
            "shared": number(r"(\d+) bytes smem"),
            "stack": number(r"(\d+) bytes stack frame"),
            "stores": number(r"(\d+) bytes spill stores"),
            "loads": number(r"(\d+) bytes spill loads"),
        }
    return found


def over_limit(name, used):
    """Returns the violation of a kernel's limits on local memory and registers, if there is one."""
    (stores, loads, stack), _ = ALLOWED.get(name, ((0, 0, 0), ""))
    limits = {"stores": stores, "loads": loads, "stack": stack}
    faults = [f"{used[k]} bytes of {k}, {most} are allowed" for k, most in limits.items() if used[k] > most]
    most, reason = MOST_REGISTERS.get(name, (255, "what there are"))
    if used["registers"] > most:
        faults.append(f"{used['registers']} registers, {most} are allowed: {reason}")
    return faults


def products(disassembler, code):
    """Returns the share of multiply-adds in the hot loop of each kernel of machine code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        # nvdisasm warns of code that is older than itself.
        ran = subprocess.run((disassembler, "-c", file.name), capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(f"nvdisasm: {ran.stderr}")
    text = ran.stdout
    shares = {}
    for part in text.split("\n.text.")[1:]:
        instructions, labels, loops = [], {}, []
        for line in part.splitlines():
            if label := re.match(r"\s*(\.L_\w+):", line):
                labels[label[1]] = len(instructions)
            if instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@\S+\s+)?(\S+)(.*);", line):
                to = re.search(r"`\((\.L_\w+)\)", instruction[2])
                instructions.append(instruction[1])
                # A backward jump closes a loop.
                if instruction[1].startswith("BRA") and to and to[1] in labels:
                    loops.append(instructions[labels[to[1]] :])
        counted = [(sum(i.startswith("FFMA") for i in loop), len(loop)) for loop in loops]
        most = max((count for count, _ in counted), default=0)
        # An unrolled loop has its remainder loop beside it, both within a larger loop.
        hot = [count / length for count, length in counted if 0 < most <= 2 * count]
        if hot:
            shares[part[: part.index(":")]] = max(hot)
    return shares


def keep(folder, source, text, machine, options, code):
    """Writes machine code or PTX to the path that src/nn/cuda/compile/cache.rs reads."""
    key = hashlib.sha256(text.encode() + " ".join(options).encode()).hexdigest()[:32]
    path = folder / "maeum" / "cuda" / f"{source}-{machine}-{key}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(code + hashlib.sha256(code).digest())


def compile_all(texts, options, cache):
    """Compiles sources and prints the table; returns the kernels and the violations."""
    library, disassembler = install()
    compiler = Compiler(library)
    print(f"NVRTC {compiler.version}, {' '.join(options)}")
    print(f"{'kernel':<34}{'for':<7}{'registers':>10}{'shared':>8}{'stack':>7}{'stores':>8}{'loads':>7}")
    faults, seen, shares = [], set(), {}
    for source, text in sorted(texts.items()):
        for machine in (PTX, *MACHINES):
            given = [f"--gpu-architecture={machine}", *options]
            good, log, code = compiler.compile(source, text, given)
            where = f"{source} for {machine}"
            if not good or re.search(r"\bwarning\b", log, re.IGNORECASE):
                faults.append(f"{where}:\n{log}")
                continue
            if cache:
                keep(cache, source, text, machine, options, code)
            if machine == PTX:
                print(f"{source:<34}{'PTX':<7}{len(code):>10} bytes")
                continue
            kernels = resources(log)
            if not kernels:
                faults.append(f"{where}: no kernel in it")
            if machine == MACHINES[-1] and kernels.keys() & LEAST_PRODUCTS.keys():
                shares |= products(disassembler, code)
            for name, used in sorted(kernels.items()):
                columns = (used["shared"], used["stack"], used["stores"], used["loads"])
                numbers = "{:>8}{:>7}{:>8}{:>7}".format(*columns)
                print(f"  {name:<32}{machine:<7}{used['registers']:>10}{numbers}")
                faults += [f"{where}: {name} takes {fault}" for fault in over_limit(name, used)]
                if (name, machine) in seen:
                    faults.append(f"{where}: another file has a kernel {name} too")
                seen.add((name, machine))
    kernels = {name for name, _ in seen}
    for name in sorted(kernels & LEAST_PRODUCTS.keys()):
        share, least = shares.get(name, 0.0), LEAST_PRODUCTS[name]
        print(f"{name}: {share:.0%} of the instructions of its hot loop are multiply-adds")
        if share < least:
            faults.append(f"{name} does {share:.0%} multiply-adds in its hot loop, {least:.0%} are wanted")
    return kernels, faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="*", help="such as mel; all where none is given")
    parser.add_argument("--cache", metavar="DIR", type=pathlib.Path, help="a folder for the machine code")
    arguments = parser.parse_args()
    chosen = {f"{name.removesuffix('.cu')}.cu" for name in arguments.source}
    texts, options = engine()
    if chosen - texts.keys():
        parser.error(f"there is no {', '.join(sorted(chosen - texts.keys()))} in kernels/")
    texts = {name: text for name, text in texts.items() if not chosen or name in chosen}
    kernels, faults = compile_all(texts, options, arguments.cache)
    if not chosen:
        named = ALLOWED.keys() | MOST_REGISTERS.keys() | LEAST_PRODUCTS.keys()
        faults += [f"limits are set for {name}, which is no kernel" for name in sorted(named - kernels)]
    for fault in faults:
        print(f"FAULT {fault}", file=sys.stderr)
    print(f"{len(kernels)} kernels, {len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
