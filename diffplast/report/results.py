"""The results of runs, as `stages/evaluate.py` leaves them in git: the only input of figures, claims and report."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import BaseModel

from diffplast.core import params, registry
from diffplast.core.errors import UserError
from diffplast.core.runs import Run
from diffplast.core.task import Metric, Settings, Task


class ResultsError(UserError):
    """A result file that is missing or cannot be read: which one, and the command that makes it."""


@dataclass(frozen=True)
class RunResult:
    """What one run left.

    metrics: means over held-out episodes. curve: columns episode, metric, value, of training. machine: what it
    cost, and where. data: provenance of its data set, or None. failure: why training broke off, or None; the others
    are then those of the last network that was still good.
    """

    run: Run
    metrics: dict[str, float]
    curve: pd.DataFrame
    machine: dict
    data: dict | None
    failure: str | None
    stopped: bool = False
    """Whether training ended before its full length."""

    def examples(self) -> dict[str, np.ndarray]:
        """What figures show of the trained network: see the task's `examples`."""
        with np.load(_existing(self.run, "examples.npz")) as file:
            return dict(file)

    def first_below(self, metric: str, threshold: float, stop_below: float | None) -> int | None:
        """Training episodes until the metric's window mean was below `threshold`; None where it never was.

        stop_below: the run's setting. A run that it ended got there in its last window, which the thinned curve
        may hide.
        """
        rows = self.curve[(self.curve["metric"] == metric) & (self.curve["value"] < threshold)]
        if len(rows):
            return int(rows["episode"].min())
        ended = stop_below is not None and stop_below <= threshold and self.stopped
        return int(self.metrics["train_episodes"]) if ended else None


def evaluate_command(run: Run) -> str:
    """The command that makes the result files of a run."""
    return f"dvc repro stages/{run.task}/dvc.yaml:evaluate@{run.scale}-{run.arm}-{run.seed}"


def _existing(run: Run, name: str):
    path = run.results / name
    if not path.exists():
        raise ResultsError(f"{path}: no such result file; make it with: {evaluate_command(run)}")
    return path


def _read(run: Run, name: str, reader):
    path = _existing(run, name)
    try:
        return reader(path)
    except (ValueError, KeyError) as error:
        raise ResultsError(
            f"{path}: cannot be read ({error}); make it anew with: {evaluate_command(run)}"
        ) from None


def _json(path) -> dict:
    return json.loads(path.read_text())


def _curve(path) -> pd.DataFrame:
    return pd.read_csv(path)[["episode", "metric", "value"]]


def read_run(run: Run, episodes: int, dataset: str | None) -> RunResult:
    """The result files of one run. episodes: length of a full training; dataset: the kind its task needs.

    Raises ResultsError.
    """
    metrics = _read(run, "metrics.json", _json)
    failure = metrics.get("failure")
    return RunResult(
        run,
        metrics,
        _read(run, "curve.csv", _curve),
        _read(run, "run.json", _json),
        _read(run, "data.json", _json) if dataset is not None else None,
        failure=None if failure is None else f"{run.arm}, seed {run.seed}: {failure}",
        stopped=metrics["train_episodes"] < episodes,
    )


@dataclass(frozen=True)
class TaskResults:
    """The results of all arms and seeds of a task that params.yaml lists, at one scale."""

    name: str
    scale: str
    kind: type[Task]
    block: BaseModel
    runs: list[RunResult]

    @property
    def arms(self) -> list[str]:
        """Arms in the order of params.yaml."""
        return self.block.arms

    @property
    def settings(self) -> Settings:
        """How the task was trained."""
        return getattr(self.block, self.scale)

    @property
    def metric(self) -> str:
        """Name of the metric that claims are made of."""
        return self.kind.primary_metric()

    @property
    def measure(self) -> Metric:
        """Label and direction of that metric."""
        return self.kind.metrics[self.metric]

    def label(self, arm: str) -> str:
        """How figures and tables call an arm."""
        return self.kind.arms[arm]

    def finished(self, arm: str) -> list[RunResult]:
        """Runs of an arm that did not break off, by seed: those that figures, claims and report count."""
        return [result for result in self.runs if result.run.arm == arm and result.failure is None]

    def failed(self, arm: str) -> list[RunResult]:
        """Runs of an arm that broke off, by seed."""
        return [result for result in self.runs if result.run.arm == arm and result.failure is not None]

    def values(self, arm: str) -> np.ndarray:
        """The metric on held-out episodes, one value a finished run."""
        return np.array([result.metrics[self.metric] for result in self.finished(arm)])

    def episodes_to(self, arm: str, threshold: float) -> list[int | None]:
        """For each finished run: training episodes until the metric's window mean was below `threshold`, or None."""
        stop = self.settings.stop_below
        return [result.first_below(self.metric, threshold, stop) for result in self.finished(arm)]

    def curve(self, result: RunResult) -> tuple[np.ndarray, np.ndarray]:
        """Training curve of one run: episodes and values of the metric."""
        rows = result.curve[result.curve["metric"] == self.metric]
        return rows["episode"].to_numpy(), rows["value"].to_numpy()

    def curves(self, arm: str) -> pd.DataFrame:
        """Training curves of the metric: one row an episode count, one column a finished run.

        A run that ended before the others keeps its last value.
        """
        series = {result.run.seed: self.curve(result) for result in self.finished(arm)}
        episodes = np.unique(np.concatenate([[], *(episode for episode, _ in series.values())])).astype(int)
        columns = {seed: np.interp(episodes, *points) for seed, points in series.items()}
        return pd.DataFrame(columns, index=pd.Index(episodes, name="episode"))

    @property
    def data(self) -> dict | None:
        """Provenance of the data set, as the first run has it; None where the task needs none."""
        return self.runs[0].data

    @property
    def data_label(self) -> str:
        """The data set in words: its name, or the description of images or characters of one's own."""
        return self.data["description" if self.data["name"] == "folder" else "name"]


def read(name: str, scale: str, checked: BaseModel) -> TaskResults:
    """Results of task `name`; checked: what `params.load` returned. Raises ResultsError."""
    kind, block = registry.load(name), getattr(checked, name)
    settings = getattr(block, scale)
    found = [
        read_run(Run(name, scale, arm, seed), settings.for_arm("episodes", arm), kind.dataset)
        for arm in block.arms
        for seed in block.seeds
    ]
    return TaskResults(name, scale, kind, block, found)


def read_all(scale: str, content: dict) -> dict[str, TaskResults]:
    """Results of every task, in the order of params.yaml; content: what `params.read` returned.

    Raises ResultsError, ParamsError.
    """
    checked = params.check(content)
    return {name: read(name, scale, checked) for name in content if name in registry.names()}
