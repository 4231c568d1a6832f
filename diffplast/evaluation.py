"""Evaluation of a trained network on held-out episodes, through the same `step` as training."""

import math
from collections import defaultdict

import numpy as np
import pandas as pd
import torch
from torch import nn

from diffplast.core import seeds
from diffplast.core.task import HeldOut, Task


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


def thin(curve: pd.DataFrame, points: int = 200) -> pd.DataFrame:
    """At most `points` rows of each metric: means over equal stretches of a curve, each at its last episode."""
    parts = []
    for _, rows in curve.groupby("metric", sort=False):
        bins = np.arange(len(rows)) * min(points, len(rows)) // len(rows)
        groups = rows.groupby(bins)
        thinned = groups.last()
        thinned["value"] = groups["value"].mean()
        parts.append(thinned)
    return pd.concat(parts, ignore_index=True) if parts else curve
