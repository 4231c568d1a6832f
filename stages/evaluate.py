"""Evaluate a trained network: python -m stages.evaluate TASK SCALE ARM-SEED. Writes to reports/SCALE/runs/TASK/."""

import json
import math
import shutil
import sys
from collections import defaultdict

import numpy as np
import pandas as pd
import torch
from torch import nn

from diffplast.core import dataset, params, runs, seeds
from diffplast.core.checkpoint import load_tensors
from diffplast.core.errors import UserError
from diffplast.core.task import HeldOut, Task
from diffplast.core.training import new_network

KEPT_BYTES = 500_000
"""Networks from this size on are not kept in git."""


@runs.report_user_errors()
def main(arguments: list[str]) -> None:
    """Read and check params, evaluate on held-out episodes, write metrics, thinned curve, examples and network."""
    run = runs.parse_run(arguments, __doc__)
    checked = params.load(run.task)
    task = runs.open_task(run, checked)
    untrained = new_network(task, run.seed)
    network = new_network(task, run.seed)
    try:
        network.load_state_dict(load_tensors(run.folder / "weights.pt", task.device))
        outcome = json.loads((run.folder / "outcome.json").read_text(encoding="utf-8"))
        record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
        curve = pd.read_csv(run.folder / "curve.csv")
    except OSError:
        raise
    except Exception as error:
        remedy = f"`rm -r {run.folder}; chmod -R u+w .dvc/cache; dvc repro` has DVC check its cache and train again"
        raise UserError(f"{run.folder}: damaged ({error}); {remedy}") from error
    test = getattr(getattr(checked, run.task).test, run.scale)

    metrics = outcome | evaluate(task, network, test, run.seed)
    with torch.no_grad():
        examples = task.examples(network, untrained, seeds.generator(run.seed, "examples"))
    record |= {"test": test.model_dump(), "untrained": evaluate_untrained(task, test, run.seed)}
    run.results.mkdir(parents=True, exist_ok=True)
    with runs.writing_to(run.results):
        runs.write_json(run.results / "metrics.json", metrics)
        thin(curve).to_csv(run.results / "curve.csv", index=False)
        np.savez_compressed(run.results / "examples.npz", **examples)
        np.savez_compressed(run.results / "network.npz", **kept_network(network, run.seed))
        runs.write_json(run.results / "run.json", record)
        if task.dataset is not None:
            shutil.copyfile(runs.data_folder(task.dataset, run.scale) / "source.json", run.results / "data.json")
    run.checkpoint.unlink(missing_ok=True)  # the trained network is safe in DVC's cache, with its curve
    run.live.unlink(missing_ok=True)
    run.replayed.unlink(missing_ok=True)  # it was of an earlier run


def evaluate(task: Task, network: nn.Module, test: HeldOut, seed: int) -> dict[str, float]:
    """Measure each metric on `test.episodes` held-out episodes, and on those of `task.further_tests`.

    Returns, for each split, how many episodes there were (`test_episodes`), and the mean of each metric and its
    standard error: `accuracy` and `accuracy_sem`, and for another split than "test" `accuracy_final` and
    `accuracy_final_sem`.
    """
    result: dict[str, float] = {}
    for split, episodes in {"test": test.episodes, **task.further_tests}.items():
        count = test.episodes if episodes is None else min(episodes, test.episodes)
        result[f"{split}_episodes"] = count
        ending = "" if split == "test" else f"_{split}"
        for name, values in _values(task, network, split, count, test.batch, seed).items():
            mean = math.fsum(values) / count
            squares = math.fsum((value - mean) ** 2 for value in values)
            result[f"{name}{ending}"] = mean
            result[f"{name}{ending}_sem"] = math.sqrt(squares / (count - 1) / count) if count > 1 else math.nan
    return result


def evaluate_untrained(task: Task, test: HeldOut, seed: int) -> dict[str, float | str]:
    """Evaluate the network of episode 0 on one batch: what anyone can repeat without the trained network.

    Returns what `evaluate` does, and `examples`: SHA-256 of the arrays that figures would show of this network.
    """
    network = new_network(task, seed)
    few = min(test.batch, test.episodes)
    with torch.no_grad():
        examples = task.examples(network, new_network(task, seed), seeds.generator(seed, "examples"))
    return evaluate(task, network, HeldOut(episodes=few, batch=few), seed) | {"examples": dataset.fingerprint(examples)}


def kept_network(network: nn.Module, seed: int) -> dict[str, np.ndarray]:
    """Return the arrays of a network that are kept in git: those of seed 0, if below KEPT_BYTES in all; else none."""
    arrays = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    return arrays if seed == 0 and sum(array.nbytes for array in arrays.values()) < KEPT_BYTES else {}


def _values(task, network, split, count, batch, seed) -> dict[str, list[float]]:
    """Every metric's values on `count` episodes of a split, one an episode."""
    generator = seeds.generator(seed, "evaluation")
    values: dict[str, list[float]] = defaultdict(list)
    with torch.no_grad():
        for done in range(0, count, batch):
            step = task.step(network, task.episodes(split, generator, min(batch, count - done)))
            for name, value in step.metrics.items():
                values[name] += value.tolist()
    return values


def thin(curve: pd.DataFrame, points: int = 200, first: int = 5) -> pd.DataFrame:
    """Return at most `points` rows of each metric: the `first` windows as they are, which a replay soon comes to, and
    means over equal stretches of the others, each at its last episode. Means are exact sums, rounded once.
    """
    parts = []
    for _, rows in curve.groupby("metric", sort=False):
        stretches = np.arange(len(rows))
        if len(rows) > points:
            stretches[first:] = first + np.arange(len(rows) - first) * (points - first) // (len(rows) - first)
        groups = rows.groupby(stretches)
        thinned = groups.last()
        thinned["value"] = groups["value"].agg(lambda values: math.fsum(values) / len(values))
        parts.append(thinned)
    return pd.concat(parts, ignore_index=True) if parts else curve


if __name__ == "__main__":
    main(sys.argv[1:])
