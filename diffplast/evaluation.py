"""Evaluation of a trained network on held-out episodes, through the same `step` as training."""

import math

import numpy as np
import pandas as pd
import torch
from torch import nn

from diffplast.core import seeds
from diffplast.core.task import HeldOut, Task


def evaluate(task: Task, network: nn.Module, test: HeldOut, seed: int) -> dict[str, float]:
    """Means over `test.episodes` held-out episodes, each metric with its standard error (`_sem`)."""
    generator = seeds.generator(seed, "evaluation")
    values: dict[str, list[np.ndarray]] = {}
    done = 0
    with torch.no_grad():
        while done < test.episodes:
            size = min(test.batch, test.episodes - done)
            step = task.step(network, task.episodes("test", generator, size))
            for name, value in step.metrics.items():
                values.setdefault(name, []).append(value.double().cpu().numpy())
            done += size
    result: dict[str, float] = {"test_episodes": done}
    for name, parts in values.items():
        each = np.concatenate(parts)
        result[name] = float(each.mean())
        result[f"{name}_sem"] = float(each.std(ddof=1) / math.sqrt(len(each))) if len(each) > 1 else math.nan
    return result


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
