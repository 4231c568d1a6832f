"""A made-up tree of results in the documented format, for the tests of figures, claims and report."""

import json
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

from diffplast.core import params, registry
from diffplast.core.runs import Run, write_json
from diffplast.core.task import of_arm
from diffplast.report import claims, findings, results
from diffplast.report.claims import AGREES, NOT_DECIDED, NOT_REPRODUCED, REPRODUCED
from diffplast.report.conditions import Conditions
from diffplast.tasks.maze.experiment.env import MOVES, maze_walls

ROOT = Path(__file__).parents[1]

# (at the start, at the end, share of the training after which half of the way is gone), by task and arm.
COURSES = {
    "binary": {"plastic": (0.3, 0.006, 0.1), "homogeneous": (0.3, 0.012, 0.15), "nonplastic": (0.26, 0.245, 0.3)},
    "binary_small": {
        "plastic": (0.3, 0.004, 0.05), "plastic_long": (0.3, 0.003, 0.08), "nonplastic": (0.27, 0.12, 0.1),
        "lstm": (0.27, 0.012, 0.1),
    },
    "images": {"plastic": (90, 20, 0.1), "homogeneous": (90, 32, 0.12), "nonplastic": (90, 60, 0.2)},
    "omniglot": {
        "plastic": (0.2, 0.982, 0.05), "homogeneous": (0.2, 0.98, 0.05), "nonplastic": (0.2, 0.2, 0.5),
        "text": (0.2, 0.984, 0.05),
    },
    "maze": {"plastic": (10, 151, 0.4), "homogeneous": (10, 110, 0.45), "nonplastic": (20, 57, 0.2)},
}
SAME_NETWORKS = {"plastic_slow", "plastic_text", "nonplastic_text"}
"""Arms with the network of another arm, whose course they have: only at the study have they other settings."""
NEAR_ONE = {"accuracy"}
"""Metrics whose noise is small, since they cannot pass 1."""


def extras(metric: str, value: float) -> dict[str, float]:
    """What evaluation leaves beside the metric of a task, by the metric."""
    if metric == "squared_error":
        return {"blank_error": 110.0, "blank_error_sem": 1.1}
    if metric == "accuracy":
        found = {"accuracy_final": value - 0.001, "accuracy_released": min(1.0, value + 0.004)}
        return found | {f"{name}_sem": 0.002 for name in found}
    return {}


EDITS: dict[tuple[str, tuple[str, ...]], tuple] = {}
"""What params.yaml says after a change, with its checked content: reading YAML takes most of a test's time."""


class Tree:
    """Results below a folder, which must be the current one, of a project with its params.yaml."""

    def __init__(
        self, folder: Path, scale: str = "smoke", seeds=(0, 1), names=tuple(COURSES), changes: tuple[str, ...] = ()
    ):
        self.folder = folder
        self.scale = scale
        shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
        self.set(f"scale={scale}", *self.listing({name: seeds for name in names}), *changes)
        for name in names:
            for run in self.runs(name):
                self.write(run)

    def add(self, task: str, *arms: str) -> None:
        """Results of the first seed of further arms, beside those of seed 0 that are there."""
        self.list_runs({task: (0,)}, (*COURSES[task], *arms))
        for arm in arms:
            self.write(*self.runs(task, arm))

    def list_runs(self, seeds: dict[str, tuple[int, ...]], arms: tuple[str, ...] | None = None) -> None:
        """Have params.yaml list the runs of these seeds: of some arms, or of all that COURSES has."""
        self.set(*self.listing(seeds, arms))

    @staticmethod
    def listing(seeds: dict[str, tuple[int, ...]], arms: tuple[str, ...] | None = None) -> list[str]:
        """The assignments for that."""
        return [
            f"{name}.runs=[{', '.join(f'{arm}-{seed}' for arm in arms or COURSES[name] for seed in each)}]"
            for name, each in seeds.items()
        ]

    def set(self, *assignments: str) -> None:
        """Change params.yaml; `checked` is what it then says. The same change of the same file is made once."""
        path = self.folder / "params.yaml"
        change = (path.read_text(), assignments)
        if change not in EDITS:
            params.assign(list(assignments), path)
            EDITS[change] = path.read_text(), params.load(path=path)
        text, self.checked = EDITS[change]
        path.write_text(text)

    def read(self, task: str) -> results.TaskResults:
        """The results of one task."""
        return results.read(task, self.scale, self.checked)

    def runs(self, task: str, arm: str | None = None) -> list[Run]:
        """The runs that params.yaml lists of a task, or of one arm."""
        named = [entry.rpartition("-") for entry in getattr(self.checked, task).runs]
        return [Run(task, self.scale, name, int(seed)) for name, _, seed in named if arm in (None, name)]

    def write(self, run: Run) -> None:
        """All files of one run."""
        kind, block = registry.load(run.task), getattr(self.checked, run.task)
        cap = of_arm(getattr(block, self.scale).episodes, run.arm)
        rng = np.random.default_rng([run.seed, *run.arm.encode(), *run.task.encode()])
        start, end, half = COURSES[run.task][run.arm.partition("_")[0] if run.arm in SAME_NETWORKS else run.arm]
        metric = kind.primary_metric()
        places = np.linspace(0, 1, 41)[1:]
        values = end + (start - end) * 0.5 ** (places / half)
        noise = 0.04 * rng.normal() + 0.02 * rng.normal(size=len(places))
        values *= 1 + (0.05 if metric in NEAR_ONE else 1) * noise
        episodes = np.maximum(1, (places * cap).astype(int))
        folder = self.folder / run.results
        folder.mkdir(parents=True, exist_ok=True)
        rows = [(metric, values), ("loss", values * 100)]
        names = {"task": run.task, "arm": run.arm, "seed": run.seed}
        curve = pd.concat(
            pd.DataFrame({**names, "episode": episodes, "metric": name, "value": value}) for name, value in rows
        )
        curve.to_csv(folder / "curve.csv", index=False)
        test = getattr(block.test, self.scale).episodes
        value = float(values[-1]) * (1 if metric in NEAR_ONE else 1.02)
        metrics = {"train_episodes": cap, "failure": None, "test_episodes": test, metric: value}
        metrics |= extras(metric, value)
        write_json(folder / "metrics.json", metrics | {f"{metric}_sem": abs(float(values[-1])) * 0.01})
        record = {
            "seconds": 61.5, "peak_memory_mb": 480.0, "threads": 2, "device": "cpu", "processor": "A processor",
            "cores": 2, "python": "3.12.1", "torch": "2.13.0", "commit": "0123456789ab",
            "untrained": {metric: float(values[0])},
        }
        write_json(folder / "run.json", record)
        if kind.dataset:
            provenance = {"kind": kind.dataset, "name": f"made-up {kind.dataset}", "description": "drawn at random"}
            provenance["counts"] = {"train_classes": 1523}
            write_json(folder / "data.json", provenance)
        np.savez_compressed(folder / "examples.npz", **self.examples(run, block))

    def examples(self, run: Run, block) -> dict[str, np.ndarray]:
        """Arrays as the task's `examples` makes them."""
        shared, own = np.random.default_rng(run.seed), np.random.default_rng([run.seed, *run.arm.encode()])
        if run.task == "images":
            x, y = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 32))
            waves = shared.normal(size=(6, 3, 3))[..., None, None]
            presented = np.tanh(waves[:, :, 0] * np.sin(4 * x * waves[:, :, 1] + waves[:, :, 2]) + waves[:, :, 1] * y)
            target = presented[:, 0]
            cue = target * (np.arange(32)[:, None] < 16)
            noise = {"plastic": 0.15, "homogeneous": 0.25, "nonplastic": 0.5}[run.arm]
            restored = np.where(cue, cue, target * (1 - noise) + noise * own.normal(size=target.shape))
            matrix = own.normal(size=(256, 256)) * 0.01 + 0.3 * np.eye(256)
            shown = {"presented": presented, "cue": cue, "restored": restored, "target": target, "weight": matrix}
            if run.arm == "plastic":
                shown["alpha"] = matrix[::-1]
            shown = {name: value.astype(np.float16) for name, value in shown.items()}
            structures = {f"{name}_structure": (0.1 + 0.1 * own.random(), 0.0, 0.01) for name in ("weight", "alpha")}
            return shown | {name: np.array(value) for name, value in structures.items() if name[:-10] in shown}
        if run.task == "maze":
            walls = maze_walls(block.experiment.size)
            shown = {"walls": walls}
            goals = shared.permutation(np.argwhere(~walls))[:4]
            for when, skill in (("early", 0.0), ("late", 0.4)):
                walks = [self.walk(walls, goal, block.experiment.steps, skill, own) for goal in goals]
                shown[f"{when}_path"] = np.array([path for path, _ in walks], dtype=np.int8)
                shown[f"{when}_reward"] = np.array([reward for _, reward in walks], dtype=np.float16)
                shown[f"{when}_goal"] = goals.astype(np.int8)
            return shown
        return {}

    @staticmethod
    def walk(walls, goal, steps, skill, rng):
        """A random walk that now and then steps towards the goal."""
        free = np.argwhere(~walls)
        place = np.array(walls.shape) // 2
        path, rewards = [place], []
        for _ in range(steps):
            moves = np.array(MOVES)
            if rng.random() < skill:
                near = np.abs(place + moves - goal).sum(axis=1)
                move = moves[np.argmin(near + 9 * walls[tuple((place + moves).T)])]
            else:
                move = moves[rng.integers(4)]
            there = place + move
            reward = 0.0
            if walls[tuple(there)]:
                there, reward = place, -0.1
            elif (there == goal).all():
                there, reward = free[rng.integers(len(free))], 10.0
            place = there
            path.append(place)
            rewards.append(reward)
        return path, rewards

    def change(self, run: Run, **metrics: float | str) -> None:
        """Change numbers in a run's metrics.json."""
        path = self.folder / run.results / "metrics.json"
        write_json(path, json.loads(path.read_text()) | metrics)

    def set_values(self, task: str, arm: str, *values: float, metric: str | None = None) -> None:
        """Set a metric on held-out episodes of all seeds of an arm: the primary one, if none is named."""
        metric = metric or registry.load(task).primary_metric()
        for run, value in zip(self.runs(task, arm), values, strict=True):
            self.change(run, **{metric: value})

    def set_data(self, task: str, **provenance: str) -> None:
        """Change what the runs of a task say of their data set."""
        for run in self.runs(task):
            path = self.folder / run.results / "data.json"
            write_json(path, json.loads(path.read_text()) | provenance)

    def set_curve(self, run: Run, points: dict[int, float], metric: str | None = None) -> None:
        """Replace a training curve of a run: episode -> value of the metric, the primary one if none is named."""
        metric, path = metric or registry.load(run.task).primary_metric(), self.folder / run.results / "curve.csv"
        frame = pd.DataFrame({"episode": list(points), "metric": metric, "value": list(points.values())})
        others = pd.read_csv(path).query("metric != @metric")
        pd.concat([frame, others[frame.columns]]).to_csv(path, index=False)
        self.change(run, train_episodes=max(points))

    def set_examples(self, run: Run, **arrays) -> None:
        """Replace some arrays of a run's examples."""
        path = self.folder / run.results / "examples.npz"
        with np.load(path) as file:
            kept = dict(file)
        np.savez_compressed(path, **kept | {name: np.asarray(array) for name, array in arrays.items()})

    def remove(self, run: Run) -> None:
        """Take the results of a run away: it was not run yet."""
        shutil.rmtree(self.folder / run.results)

    def fail(self, run: Run) -> None:
        """Record that a run's training broke off."""
        self.change(run, failure="after episode 300 the loss (nan) is not finite", train_episodes=300)


CLAIMS = {(task, claim.name): claim for task in registry.names() for claim in findings.load(task).claims}
CHANGED = Conditions(settings={"batch": 0})
AGREEING, DISAGREEING, OPEN = (REPRODUCED, AGREES), (NOT_REPRODUCED, NOT_DECIDED), (NOT_DECIDED, NOT_DECIDED)
"""Verdicts where nothing differs from the paper, and where something does: on what agrees, disagrees, cannot tell."""


def tree_maker(folder: Path):
    """A function that makes a tree of the results of one task in `folder`, at laptop, with some settings changed."""

    def make(task: str, seeds: int = 2, **settings) -> Tree:
        changes = tuple(f"{task}.laptop.{key}={value}" for key, value in settings.items())
        return Tree(folder, "laptop", range(seeds), (task,), changes)

    return make


def claim_of(task: str, part: str) -> claims.Claim:
    """The claim of `task` whose name begins with `part`, or else has it."""
    named = [claim for (name, _), claim in CLAIMS.items() if name == task and part in claim.name]
    (found,) = [claim for claim in named if claim.name.startswith(part)] or named
    return found


def judged(tree: Tree, task: str, part: str, conditions: Conditions | None = None) -> claims.Verdict:
    """The verdict on a claim: as it is, or under conditions that are given in place of the paper's."""
    claim = claim_of(task, part)
    if conditions is not None:
        claim = replace(claim, conditions=conditions)
    (verdict,) = claims.judge(tree.read(task), (claim,))
    return verdict


def both_verdicts(tree: Tree, task: str, part: str) -> tuple[str, str]:
    """The verdicts on a claim: where nothing differs from the paper, and where something does."""
    found = tuple(judged(tree, task, part, conditions) for conditions in (Conditions(), CHANGED))
    assert found[0].differs == [] and "(paper: 0)" in found[1].differs[0]
    return tuple(verdict.verdict for verdict in found)


def set_curves(tree: Tree, task: str, arm: str, *curves: dict[int, float]) -> None:
    """Set the training curves of the seeds of an arm."""
    for run, points in zip(tree.runs(task, arm), curves, strict=True):
        tree.set_curve(run, points)


def falling(level_at: int, end: int, step: int = 10, before: float = 0.2, after: float = 0.005) -> dict[int, float]:
    """A training curve that is at `before` until an episode and at `after` from it on."""
    return {episode: before if episode < level_at else after for episode in range(step, end + 1, step)}


def run_script(script: str, *arguments: str) -> int | str:
    """Run a script of the project in this process; returns what it exits with."""
    with patch.object(sys, "argv", [script, *arguments]), pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    return stop.value.code
