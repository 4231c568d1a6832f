"""What is committed of a run, as a replay needs it."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffplast.core import registry
from diffplast.core.errors import UserError
from diffplast.core.runs import Run, parse_run

Row = tuple[int, str, float]
"""Episode at the end of a window, metric, mean over the window."""

SCALES = ("laptop", "study")
"""Scales whose results are in git."""


@dataclass(frozen=True)
class Committed:
    """A run that is committed.

    record: run.json. metrics: metrics.json. data: data.json, where its data set comes from; None where it needs none.
    curve: its rows; beyond the first windows each may stand for the mean of several.
    """

    run: Run
    record: dict
    metrics: dict
    curve: tuple[Row, ...]
    data: dict | None

    @property
    def ends(self) -> list[int]:
        """Episodes at which the windows of the committed curve end."""
        return sorted({episode for episode, _, _ in self.curve})

    @property
    def episodes(self) -> int:
        """Length of the training, in episodes."""
        return self.metrics["train_episodes"]

    @property
    def on_cpu(self) -> bool:
        """Whether it was trained on a CPU."""
        return self.record["device"] == "cpu"

    @property
    def network(self) -> Path:
        """File of the trained network; without arrays where it is not kept."""
        return self.run.results / "network.npz"

    @property
    def keeps_network(self) -> bool:
        """Whether the trained network is committed."""
        return self.network.exists() and self.network.stat().st_size > EMPTY_BYTES


EMPTY_BYTES = 22
"""Size of a .npz file without arrays."""


def find(scales: Iterable[str], tasks: Sequence[str] = (), names: Sequence[str] = ()) -> list[Committed]:
    """Read the runs below reports/SCALE/runs, by scale, task, arm and seed; only those asked for.

    tasks: of these tasks. names: SCALE/TASK/ARM-SEED: these runs. Raises UserError where a file is damaged, and where
    what was asked for is not there.
    """
    for task in tasks:
        registry.load(task)
    found = []
    for scale in scales:
        for each in registry.names():
            if tasks and each not in tasks:
                continue
            order = {arm: place for place, arm in enumerate(registry.load(each).arms)}
            folders = [path.parent for path in Path("reports", scale, "runs", each).glob("*/run.json")]
            runs = [parse_run([each, scale, path.name], f"{path}: not of the form ARM-SEED") for path in folders]
            runs.sort(key=lambda run: (order.get(run.arm, len(order)), run.arm, run.seed))
            found += [run for run in runs if not names or f"{scale}/{each}/{run.name}" in names]
    there = {f"{run.scale}/{run.task}/{run.name}" for run in found}
    absent = [name for name in names if name not in there]
    if absent or not found:
        raise UserError(f"reports/: no committed run of {', '.join(absent or tasks or scales)}")
    return [read(run) for run in found]


def read(run: Run) -> Committed:
    """Read what is committed of a run. Raises UserError where that cannot be read."""
    try:
        record, metrics = (json.loads((run.results / name).read_text()) for name in ("run.json", "metrics.json"))
        data = run.results / "data.json"
        provenance = json.loads(data.read_text()) if data.exists() else None
        with (run.results / "curve.csv").open(newline="") as file:
            curve = tuple((int(row["episode"]), row["metric"], float(row["value"])) for row in csv.DictReader(file))
    except (OSError, ValueError, KeyError) as error:
        remedy = f"`git checkout {run.results}` takes it back"
        raise UserError(f"{run.results}: cannot be read ({error}); {remedy}") from error
    return Committed(run, record, metrics, curve, provenance)
