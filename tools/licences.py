#!/usr/bin/env python3
"""Checks that NOTICE names what must be named: packages in the programs with a licence that asks for more than its text.

Reads `cargo metadata` of the locked dependencies with the features in deny.toml; the policy there is cargo-deny's to check.
Ends with 1 and a line for each problem. `--list` prints the licence of every package instead.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
FEATURES = ",".join(tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))["graph"]["features"])
# These ask for no more than their text, or for nothing: NOTICE speaks of them together.
COMMON = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSL-1.0", "MIT", "Unlicense", "Zlib",
}

def metadata():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--features", FEATURES]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return json.loads(output.stdout)


def satisfied(expression, known):
    """Whether the licences in `known` fulfil an SPDX expression."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either():
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = both() | value
        return value

    def both():
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() & value
        return value

    def one():
        token = tokens.pop(0)
        if token == "(":
            value = either()
            if not tokens or tokens.pop(0) != ")":
                raise ValueError(expression)
            return value
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            token += " WITH " + tokens.pop(0)
        return token in known

    value = either()
    if tokens:
        raise ValueError(expression)
    return value


def shipped(data):
    """The ids of the packages whose code is in the programs: no tests, build scripts or macros."""
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    packages = {package["id"]: package for package in data["packages"]}

    def is_macro(package):
        return any("proc-macro" in target["kind"] for target in package["targets"])

    found, open_ids = set(), list(data["workspace_members"])
    while open_ids:
        node = nodes[open_ids.pop()]
        for dependency in node["deps"]:
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            package = dependency["pkg"]
            if normal and package not in found and not is_macro(packages[package]):
                found.add(package)
                open_ids.append(package)
    return found


def problems(data, notice):
    in_programs = shipped(data)
    for package in data["packages"]:
        if package["id"] not in in_programs or package["id"] in data["workspace_members"]:
            continue
        name, licence = package["name"], package["license"]
        try:
            common = licence is not None and satisfied(licence, COMMON)
        except (ValueError, IndexError):
            common = False
        if not common and name not in notice:
            yield f"{name} {package['version']} ({licence}) is built into the programs; name it in NOTICE"


def self_check():
    """The expressions that the packages use, and some that must fail."""
    for expression, wanted in [
        ("MIT", True), ("MIT OR GPL-3.0", True), ("MIT/GPL-3.0", True), ("MIT AND GPL-3.0", False),
        ("(Apache-2.0 OR MIT) AND Zlib", True), ("GPL-3.0", False),
        ("Apache-2.0 WITH LLVM-exception", True), ("GPL-2.0 WITH GCC-exception", False),
        ("MIT AND (GPL-3.0 OR Zlib)", True),
    ]:
        if satisfied(expression, COMMON) != wanted:
            raise AssertionError(expression)


def main():
    self_check()
    data = metadata()
    if sys.argv[1:] == ["--list"]:
        in_programs = shipped(data)
        for package in sorted(data["packages"], key=lambda p: p["name"]):
            place = "in the programs" if package["id"] in in_programs else "to build or test"
            print(f"{package['name']} {package['version']}: {package['license']} ({place})")
        return 0
    found = list(problems(data, (ROOT / "NOTICE").read_text(encoding="utf-8")))
    for problem in found:
        print(problem, file=sys.stderr)
    print(f"{len(data['packages'])} packages, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
