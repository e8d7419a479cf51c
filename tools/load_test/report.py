"""Printed table of results."""

import os
import pathlib
import platform


def processors():
    return len(os.sched_getaffinity(0))


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    names = [
        line.partition(":")[2].strip()
        for line in text.splitlines()
        if line.startswith("model name")
    ]
    return f"{processors()} processors, {names[0] if names else platform.machine()}"


def load():
    """Returns the load average of the last minute."""
    return os.getloadavg()[0]


def table(head, rows):
    """Returns a Markdown table with aligned columns."""
    cells = [head, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]

    def line(row):
        padded = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        return "| " + " | ".join(padded) + " |"

    rule = (
        "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    )
    return "\n".join([line(head), rule, *map(line, rows)])
