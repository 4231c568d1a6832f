"""Whole training episodes of the large tasks: episodes drawn, forward, backward, update.

    python -m benchmarks.episodes [--quick]

All ways to train a task take turns in one process. Ratios are per episode against the first line of a task, from the
smallest times: the naive recurrence at batch 1; for Omniglot, which has no recurrence to speak of, its own published
settings. In two threads torch's own spins (diffplast/core/__init__.py) would make the naive loop some 12 to 23 % faster
and so the ratios smaller. "binary" has the released program's 106 steps, and the maze the paper's 100 neurons.
"published ms" is what the released programs need, measured on two cores of another machine (Zen 5), so the ratio after
it is rough. Peak memory is that of a process that trains in one way.
"""

import argparse
import functools
import json
import tempfile
from pathlib import Path

import torch

import diffplast.tasks.completion
from benchmarks.timing import best_and_median, environment, interleaved, peak_memory_mb, table
from diffplast import data
from diffplast.core import dataset, machine, params, registry, seeds
from diffplast.core.exact import adam
from diffplast.core.training import new_network
from diffplast.plasticity import plastic_rnn
from diffplast.report import findings
from diffplast.tasks.completion import Presentation
from diffplast.tasks.maze.experiment import plain

# Rows of the table: (task, threads, arm) -> ways to train it: (backend of the recurrence, batch, changed settings).
WAYS = {
    ("binary", 2, "plastic"): [("naive", 1, {}), ("auto", 1, {}), ("auto", 4, {}), ("auto", 16, {})],
    ("images", 2, "plastic"): [("naive", 1, {}), ("auto", 1, {}), ("auto", 4, {}), ("auto", 16, {})],
    ("maze", 1, "plastic"): [("naive", 1, {}), ("auto", 1, {}), ("auto", 8, {})],
    ("maze", 1, "nonplastic"): [("naive", 1, {}), ("auto", 1, {}), ("auto", 8, {})],
    ("omniglot", 2, "plastic"): [
        ("auto", 1, {"groupings": None}),
        ("auto", 64, {"groupings": None}),
        ("auto", 60, {}),
    ],
}

# The published program's presentation, 106 steps; params.yaml has the text's.
BINARY_TIMES = Presentation(patterns=5, rounds=2, shown=6, gap=4, test=6)


def opened(name, folder, arm="plastic", scale="laptop", times=None, device="cpu", **settings):
    """A task at its settings of a scale, some of them changed, with the prepared data of `folder`.

    times: another presentation, None for that of params.yaml.
    """
    checked = params.load(name)
    block, kind = getattr(checked, name), registry.load(name)
    experiment = block.experiment if times is None else block.experiment.model_copy(update={"times": times})
    arrays = None if kind.dataset is None else dataset.load(Path(folder) / f"{kind.dataset}.npz")
    return kind(experiment, getattr(block, scale).model_copy(update=settings), arm, torch.device(device), arrays)


def training(name, threads, arm, backend, batch, changed, folder, device="cpu"):
    """A function that makes one update of a network. `folder` holds the prepared data sets."""
    times = BINARY_TIMES if name == "binary" else None
    task = opened(name, folder, arm=arm, times=times, device=device, **changed)
    network, generator = new_network(task, 0), seeds.generator(0, "training")
    optimizer = adam(network.parameters(), lr=1e-4)

    def loss():
        episodes = task.episodes("train", generator, batch)
        if name == "maze" and backend == "naive":
            return plain.step(task.experiment, task.settings.inputs, network, episodes, backend)[0]
        diffplast.tasks.completion.plastic_rnn = functools.partial(plastic_rnn, backend=backend)
        return task.step(network, episodes).loss

    def update():
        torch.set_num_threads(threads)
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return update


def prepare(folder):
    """Prepare the default data sets in a folder."""
    checked = params.load()
    for kind, name in (("images", "natural-patches"), ("omniglot", "glyphs")):
        data.prepare(kind, name, checked.data.model_dump(by_alias=True)[kind][name], Path(folder) / f"{kind}.npz")


def compare(folder, seconds):
    rows = [["task", "recurrence, batch", "ms an episode", "median", "ratio", "published ms", "ratio", "peak MB"]]
    for (name, threads, arm), ways in WAYS.items():
        jobs = {json.dumps(way): training(name, threads, arm, *way, folder) for way in ways}
        times = interleaved(jobs, seconds)
        first = min(times[json.dumps(ways[0])])
        for way, taken in zip(ways, times.values(), strict=True):
            backend, batch, changed = way
            best, median = (1e3 * value / batch for value in best_and_median(taken))
            label = ", ".join([backend, str(batch), *(f"{key} {value}" for key, value in changed.items())])
            job = json.dumps([name, threads, arm, *way])
            peak = peak_memory_mb("benchmarks.episodes", "--memory", job, str(folder))
            program = 1e3 * findings.load(name).program_seconds[arm]
            ratios = f"{1e3 * first / best:.1f}", f"{program / best:.1f}"
            task = f"{name}, {arm}, {threads} thread" + ("s" if threads > 1 else "")
            rows.append(
                [task, label, f"{best:.2f}", f"{median:.2f}", ratios[0], f"{program:g}", ratios[1], f"{peak:.0f}"]
            )
    print("\n" + table(rows), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--memory", nargs=2, metavar=("JOB", "FOLDER"), help="make three updates, print MB")
    arguments = parser.parse_args()
    if arguments.memory:
        job, folder = arguments.memory
        update = training(*json.loads(job), folder)
        for _ in range(3):
            update()
        print(machine.peak_memory_mb())
        return
    print(environment())
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        compare(folder, 5 if arguments.quick else 30)


if __name__ == "__main__":
    main()
