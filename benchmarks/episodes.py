"""Whole training episodes of each task: episodes drawn, forward, backward, update; against the naive recurrence.

The naive recurrence at batch 1 is about as fast as the published programs. All ways to train a task are timed in turn,
round after round in one process, so that a ratio is not disturbed by what else the machine does; peak memory is that
of a process that trains in one way only.
"""

import functools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import diffplast.networks
import diffplast.tasks.maze
from diffplast import data, machine, params, seeds, tasks
from diffplast.plasticity import PlasticRollout, plastic_rnn
from diffplast.training import new_network

# Published program, per episode on a 2-core machine (the paper's facts): seconds and GB.
PUBLISHED = {"binary": (0.30, 4.8), "images": (0.65, 9.6), "omniglot": (0.0055, None), "maze": (0.157, None)}

# Task -> ways to train it: (backend of the recurrence, batch, changed settings).
WAYS = {
    "binary": [("naive", 1, {}), ("auto", 1, {}), ("auto", 4, {}), ("auto", 16, {})],
    "images": [("naive", 1, {}), ("auto", 1, {}), ("auto", 4, {}), ("auto", 8, {}), ("auto", 32, {})],
    "omniglot": [
        ("auto", 1, {"queries": 1, "precision": "float32"}),
        ("auto", 32, {"queries": 1}),
        ("auto", 120, {"queries": 15}),
    ],
    "maze": [("naive", 1, {}), ("auto", 1, {}), ("auto", 8, {}), ("auto", 32, {})],
}


def way_name(backend: str, batch: int, changed: dict) -> str:
    """One line for the table."""
    return ", ".join([backend, f"batch {batch}", *(f"{key} {value}" for key, value in changed.items())])


class Trainer:
    """Trains one task in one way, one update at a time. `folder` holds the prepared data sets."""

    def __init__(self, task: str, backend: str, batch: int, changed: dict, folder: Path):
        checked = params.load(task)
        torch.set_num_threads(checked.threads)
        block, kind = getattr(checked, task), tasks.load(task)
        arrays = None if kind.dataset is None else data.load(folder / f"{kind.dataset}.npz")
        settings = block.laptop.model_copy(update=changed)
        self.task = kind(block.experiment, settings, "plastic", torch.device("cpu"), arrays)
        self.backend, self.batch = backend, batch
        self.network = new_network(self.task, 0)
        self.generator = seeds.generator(0, "training")
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4, fused=True)

    def update(self) -> float:
        """One update; seconds an episode."""
        diffplast.networks.plastic_rnn = functools.partial(plastic_rnn, backend=self.backend)
        diffplast.tasks.maze.PlasticRollout = functools.partial(PlasticRollout, backend=self.backend)
        started = time.perf_counter()
        step = self.task.step(self.network, self.task.episodes("train", self.generator, self.batch))
        self.optimizer.zero_grad(set_to_none=True)
        step.loss.backward()
        self.optimizer.step()
        return (time.perf_counter() - started) / self.batch


def peak_memory_gb(task: str, way: tuple, folder: Path) -> float:
    """Peak memory of a process that makes three updates in one way."""
    command = [sys.executable, "-m", "benchmarks.episodes", task, json.dumps(way), str(folder)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def table(folder: Path, rounds: int = 5) -> list[dict]:
    """Time and peak memory of every way to train every task."""
    rows = []
    for task, ways in WAYS.items():
        trainers = [Trainer(task, *way, folder) for way in ways]
        for trainer in trainers:
            trainer.update()
        seconds = [[] for _ in ways]
        for _ in range(rounds):
            for trainer, times in zip(trainers, seconds, strict=True):
                times += [trainer.update() for _ in range(1 if trainer.backend == "naive" else 3)]
        medians = [statistics.median(times) for times in seconds]
        del trainers
        published_s, published_gb = PUBLISHED[task]
        for way, median in zip(ways, medians, strict=True):
            rows.append(
                {
                    "task": task,
                    "way": way_name(*way),
                    "ms an episode": round(1000 * median, 2),
                    "x first line": round(medians[0] / median, 1),
                    "x published (their machine)": round(published_s / median, 1),
                    "peak GB": round(peak_memory_gb(task, way, folder), 2),
                    "published GB": published_gb or "-",
                }
            )
            print(rows[-1], file=sys.stderr)
    return rows


if __name__ == "__main__":
    one = Trainer(sys.argv[1], *json.loads(sys.argv[2]), Path(sys.argv[3]))
    for _ in range(3):
        one.update()
    print(machine.peak_memory_mb() / 1000)
