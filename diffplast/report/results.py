"""The results of runs, as `stages/evaluate.py` leaves them in git: the only input of figures, claims and report."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel

from diffplast.core import params, registry
from diffplast.core.errors import UserError
from diffplast.core.runs import Run
from diffplast.core.task import Metric, Task, of_arm

STAY = 5
"""Windows of training in a row that have to be under a level before it counts as reached."""

TITLES = {
    "cifar10": "CIFAR-10", "omniglot": "Omniglot",
    "natural-patches": "patches of photographs", "glyphs": "characters of fonts",
}
"""Data sets whose names people write otherwise than params.yaml."""


class ResultsError(UserError):
    """What is wrong with a result file, and the command that makes it."""


@dataclass(frozen=True)
class RunResult:
    """The result files of one run.

    metrics: means over held-out episodes. curve: columns episode, metric, value, of training; a value is the mean of
    the window that ends at its episode. record: run.json: what the run cost, where, and by which code. data:
    provenance of its data set, or None. failure: why training broke off, or None; the others are then those of the last
    network that was good.
    """

    run: Run
    metrics: dict[str, Any]
    curve: pd.DataFrame
    record: dict
    data: dict | None
    failure: str | None

    @property
    def episodes(self) -> int:
        """Training episodes."""
        return int(self.metrics["train_episodes"])

    def metric(self, name: str) -> float:
        """Return a metric on held-out episodes. Raises ResultsError where evaluation has not left it."""
        if name not in self.metrics:
            path = self.run.results / "metrics.json"
            raise ResultsError(f"{path} has no {name}; make it again with: {evaluate_command(self.run)}")
        return float(self.metrics[name])

    def examples(self) -> dict[str, np.ndarray]:
        """Return what figures show of the trained network: see the task's `examples`."""
        with np.load(_existing(self.run, "examples.npz")) as file:
            return dict(file)

    def network(self) -> dict[str, np.ndarray]:
        """Return the arrays of the trained network, by name; none where it is not kept in git."""
        path = self.run.results / "network.npz"
        if not path.exists():
            return {}
        with np.load(path) as file:
            return dict(file)

    def series(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the training curve of a metric: episodes and values."""
        rows = self.curve[self.curve["metric"] == metric]
        return rows["episode"].to_numpy(), rows["value"].to_numpy()

    def mean_between(self, metric: str, start: float, end: float) -> float:
        """Return the mean of the windows that end after episode `start` and by `end`; nan where there is none."""
        episodes, values = self.series(metric)
        inside = (episodes > start) & (episodes <= end)
        return float(values[inside].mean()) if inside.any() else float("nan")

    def gets_below(self, metric: str, level: float) -> int | None:
        """Return the training episodes after which the metric has got below `level`; None where it never does.

        That is the end of the first of STAY windows in a row that are below it, so that one lucky window does not
        count; or, where there are none, the whole training, if the metric on held-out episodes is below it.
        """
        episodes, values = self.series(metric)
        if len(values) >= STAY:
            kept = np.lib.stride_tricks.sliding_window_view(values < level, STAY).all(axis=1)
            if kept.any():
                return int(episodes[int(kept.argmax())])
        return self.episodes if self.metric(metric) < level else None


def evaluate_command(run: Run) -> str:
    """Return the command that makes the result files of a run."""
    return f"dvc repro stages/{run.task}/dvc.yaml:evaluate@{run.scale}-{run.arm}-{run.seed}"


def _existing(run: Run, name: str) -> Path:
    path = run.results / name
    if not path.exists():
        raise ResultsError(f"{path}: no such result file; make it with: {evaluate_command(run)}")
    return path


def _read(run: Run, name: str, reader: Callable[[Path], Any]) -> Any:
    path = _existing(run, name)
    try:
        return reader(path)
    except (ValueError, KeyError) as error:
        raise ResultsError(
            f"{path}: cannot be read ({error}); make it again with: {evaluate_command(run)}"
        ) from None


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _curve(path: Path) -> pd.DataFrame:
    return pd.read_csv(path)[["episode", "metric", "value"]]


def read_run(run: Run, dataset: str | None) -> RunResult | None:
    """Read the result files of one run; None where it has none, and so was not run yet.

    dataset: the kind that its task needs, or None. Raises ResultsError where some are there and others not.
    """
    names = ["metrics.json", "curve.csv", "run.json", *(["data.json"] if dataset is not None else [])]
    if not any((run.results / name).exists() for name in names):
        return None
    metrics = _read(run, "metrics.json", _json)
    failure = metrics.get("failure")
    return RunResult(
        run,
        metrics,
        _read(run, "curve.csv", _curve),
        _read(run, "run.json", _json),
        _read(run, "data.json", _json) if dataset is not None else None,
        failure=None if failure is None else f"{run.arm}, seed {run.seed}: {failure}",
    )


@dataclass(frozen=True)
class TaskResults:
    """The results of a task's runs at one scale. missing: runs that params.yaml lists and that were not run yet."""

    name: str
    scale: str
    kind: type[Task]
    block: BaseModel
    runs: list[RunResult]
    missing: list[Run] = field(default_factory=list)

    @property
    def arms(self) -> list[str]:
        """Arms of the runs that params.yaml lists, in the task's order."""
        listed = {result.run.arm for result in self.runs} | {run.arm for run in self.missing}
        return [arm for arm in self.kind.arms if arm in listed]

    @property
    def metric(self) -> str:
        """Name of the metric that claims are made of."""
        return self.kind.primary_metric()

    @property
    def measure(self) -> Metric:
        """Label, direction and unit of that metric."""
        return self.kind.metrics[self.metric]

    def setting(self, name: str, arm: str) -> Any:
        """Return how an arm was trained: the value of a setting."""
        return of_arm(getattr(getattr(self.block, self.scale), name), arm)

    def experiment(self, key: str) -> Any:
        """Return a value of the experiment by its dotted key, such as times.shown; plain YAML types.

        Raises KeyError where there is none.
        """
        value = self.block.experiment.model_dump()
        for part in key.split("."):
            value = value[part]
        return value

    def label(self, arm: str) -> str:
        """Return how figures and tables call an arm."""
        return self.kind.arms[arm]

    def finished(self, arm: str) -> list[RunResult]:
        """Return the runs of an arm that did not break off, by seed: those that figures, claims and report count."""
        return [result for result in self.runs if result.run.arm == arm and result.failure is None]

    def failed(self, arm: str) -> list[RunResult]:
        """Return the runs of an arm that broke off, by seed."""
        return [result for result in self.runs if result.run.arm == arm and result.failure is not None]

    def values(self, arm: str, metric: str | None = None) -> np.ndarray:
        """Return a metric on held-out episodes (the primary one), a value for each finished run."""
        return np.array([result.metric(metric or self.metric) for result in self.finished(arm)], dtype=float)

    def seeds_in_words(self, arm: str) -> str:
        """Say how many seeds count, of how many that params.yaml lists."""
        count = len(self.finished(arm))
        listed = count + len(self.failed(arm)) + sum(run.arm == arm for run in self.missing)
        return f"{count}" if count == listed else f"{count} of {listed}"

    def curves(self, arm: str, metric: str | None = None) -> pd.DataFrame:
        """Return the training curves of a metric: one row an episode count, one column a finished run.

        A run that ended before the others keeps its last value.
        """
        series = {result.run.seed: result.series(metric or self.metric) for result in self.finished(arm)}
        episodes = np.unique(np.concatenate([[], *(episode for episode, _ in series.values())])).astype(int)
        columns = {seed: np.interp(episodes, *points) for seed, points in series.items()}
        return pd.DataFrame(columns, index=pd.Index(episodes, name="episode"))

    @property
    def data(self) -> dict | None:
        """Provenance of the data set, as the first run has it; None where the task needs none or nothing was run."""
        return self.runs[0].data if self.runs else None

    @property
    def data_label(self) -> str:
        """The data set in words: its name, or the description of images or characters of one's own."""
        if self.data is None:
            return "no data"
        return self.data["description"] if self.data["name"] == "folder" else data_title(self.data["name"])


def data_title(name: str) -> str:
    """A data set's name in params.yaml as people write it."""
    return TITLES.get(name, name)


def read(name: str, scale: str, checked: BaseModel) -> TaskResults:
    """Read the results of task `name`; checked: what `params.load` returned. Raises ResultsError."""
    kind, block = registry.load(name), getattr(checked, name)
    order = {arm: place for place, arm in enumerate(kind.arms)}
    named = [entry.rpartition("-") for entry in block.runs]
    listed = [Run(name, scale, arm, int(seed)) for arm, _, seed in named]
    listed.sort(key=lambda run: (order[run.arm], run.seed))
    found = {run: read_run(run, kind.dataset) for run in listed}
    there = [result for result in found.values() if result is not None]
    return TaskResults(name, scale, kind, block, there, [run for run, result in found.items() if result is None])


def read_all(scale: str, content: dict) -> dict[str, TaskResults]:
    """Read the results of every task, in the order of params.yaml; content: what `params.read` returned.

    Raises ResultsError, ParamsError.
    """
    checked = params.check(content)
    return {name: read(name, scale, checked) for name in content if name in registry.names()}
