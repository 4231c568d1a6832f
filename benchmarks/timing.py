"""Timing that holds on a busy machine: contenders take turns in one process; memory is of processes of their own."""

import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

import torch

from diffplast.core import machine


def environment():
    """One line: cores, threads, processor, versions, commit."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numba"))
    return (
        f"{machine.processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, {versions}, commit {machine.commit()}"
    )


def interleaved(contenders, seconds=10.0, least=3):
    """Call each function once to warm up, then all in turns; returns their times in seconds, a list for each name.

    `contenders` maps names to functions without arguments. It stops when every function was timed `least` times and
    `seconds` have passed.
    """
    for function in contenders.values():
        function()
    times = {name: [] for name in contenders}
    begin, rounds = time.perf_counter(), 0
    while rounds < least or time.perf_counter() - begin < seconds:
        for name, function in contenders.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
        rounds += 1
    return times


def best_and_median(times):
    """(smallest, median): the first is what the code can do, the second what this machine gave."""
    return min(times), statistics.median(times)


def peak_memory_mb(module, *arguments):
    """What `python -m module arguments` prints last: its `machine.peak_memory_mb()`."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def table(rows):
    """Lists of strings, the first the heading, as a Markdown table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row):
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    return "\n".join([line(rows[0]), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows[1:])])
