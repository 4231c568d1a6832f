"""Trained networks as the page carries them: text that stays as it is until a script is asked to read it."""

from base64 import b64encode
from dataclasses import dataclass

import numpy as np

from diffplast.report import style
from diffplast.report.results import RunResult, TaskResults


@dataclass(frozen=True)
class Network:
    """A network in the page.

    arm: its arm. name: how the page calls it. color: of its arm. note: the run and the commit that it is of. layout:
    name and count of each array, in order. text: their numbers, float32 with the least byte first, as base64. Half
    precision would do for neither: one of 18 mazes is walked in another way, and features are off by 0.0012.
    """

    arm: str
    name: str
    color: str
    note: str
    layout: list[tuple[str, int]]
    text: str


@dataclass(frozen=True)
class Laboratory:
    """What a laboratory runs and shows. networks: at least one. data: plain values for its script."""

    networks: list[Network]
    data: dict


def kept(results: TaskResults, arms: tuple[str, ...]) -> list[tuple[Network, RunResult]]:
    """Return the networks of some arms that are in git, one an arm, each with its run."""
    runs = [next((run for run in results.finished(arm) if run.network()), None) for arm in arms if arm in results.arms]
    return [(_trained(results, run), run) for run in runs if run is not None]


def _trained(results: TaskResults, run: RunResult) -> Network:
    note = f"{run.run.arm}-{run.run.seed}, {run.episodes:,} episodes, commit {run.record['commit']}"
    return packed(results, run.run.arm, results.label(run.run.arm), note, run.network())


def packed(results: TaskResults, arm: str, name: str, note: str, arrays: dict[str, np.ndarray]) -> Network:
    """Return the arrays of a network as the page carries them."""
    numbers = b"".join(array.astype("<f4").tobytes() for array in arrays.values())
    layout = [(key, array.size) for key, array in arrays.items()]
    color = style.arm_style(arm, results.arms)["color"]
    return Network(arm, name, color, note, layout, b64encode(numbers).decode())
