"""Whole training episodes of every task on a GPU, beside the CPU of the same machine.

    python -m benchmarks.gpu [--quick]

Plastic networks at their settings of the scale `laptop`, with batches of that size and larger ones. CPU and GPU take
turns in one process; the CPU has two threads. Not part of `make bench`, which needs no GPU.
"""

import argparse
import sys
import tempfile

import torch

from benchmarks.episodes import prepare, training
from benchmarks.timing import best_and_median, environment, interleaved, table

# Task -> batches; the first is that of the scale `laptop`. Omniglot's are different characters, of 1,142; the maze's
# memory grows with steps times batch.
BATCHES = {"binary": [1, 16, 64], "images": [4, 16, 64], "maze": [8, 64], "omniglot": [60, 240, 960]}


def waiting(update):
    """The update, and the wait until the GPU has made it."""

    def waited():
        update()
        torch.cuda.synchronize()

    return waited


def measured(name, batch, folder, seconds):
    """(ms an episode on the CPU, on the GPU, most MB that training held on the GPU)."""
    way = name, 2, "plastic", "auto", batch, {}
    jobs = {device: waiting(training(*way, folder, device)) for device in ("cpu", "cuda")}
    torch.cuda.reset_peak_memory_stats()  # the preparation of the data is not counted
    times = interleaved(jobs, seconds)
    cpu, gpu = (1e3 * best_and_median(times[device])[0] / batch for device in ("cpu", "cuda"))
    return cpu, gpu, torch.cuda.max_memory_allocated() / 1e6


def compare(folder, seconds):
    rows = [["task", "batch", "CPU ms an episode", "GPU ms an episode", "ratio", "peak GPU MB"]]
    for name, batches in BATCHES.items():
        for batch in batches:
            cpu, gpu, peak = measured(name, batch, folder, seconds)
            rows.append([name, str(batch), f"{cpu:.2f}", f"{gpu:.2f}", f"{cpu / gpu:.1f}", f"{peak:.0f}"])
    print("\n" + table(rows), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch finds no usable GPU")
    print(f"{torch.cuda.get_device_name()}; {environment()}")
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        compare(folder, 3 if arguments.quick else 15)


if __name__ == "__main__":
    main()
