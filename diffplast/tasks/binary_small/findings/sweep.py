"""How many times as many episodes the LSTM needs, for a sweep of levels, beside the paper's own curves."""

from dataclasses import dataclass

import numpy as np

from diffplast.report.results import TaskResults

from .paper import FIGURE_3

LEVELS = (0.05, 0.03, 0.02, 0.015, 0.01)


@dataclass(frozen=True)
class Needed:
    """Training episodes until the error gets under `level`: ours by arm (median over seeds), the paper's by arm.

    inf: not within the training. longest: training episodes of ours, by arm.
    """

    level: float
    ours: dict[str, float]
    paper: dict[str, float]
    longest: dict[str, int]

    @property
    def ratio(self) -> float | None:
        """Of the LSTM to the plastic network, ours; None where one of them has not got there."""
        return _ratio(self.ours)

    @property
    def same_times(self) -> float | None:
        """The same with the plastic network whose patterns are shown as briefly as the LSTM's."""
        return _ratio(self.ours, "plastic")

    @property
    def bound(self) -> float | None:
        """A lower bound of the ratio where only the LSTM has not got there."""
        plastic, lstm = self.ours["plastic_long"], self.ours["lstm"]
        return self.longest["lstm"] / plastic if np.isfinite(plastic) and not np.isfinite(lstm) else None

    @property
    def paper_ratio(self) -> float | None:
        """Of the paper's two curves."""
        return _ratio(self.paper)


def _ratio(needed: dict[str, float], plastic_arm: str = "plastic_long") -> float | None:
    plastic, lstm = needed[plastic_arm], needed["lstm"]
    return lstm / plastic if np.isfinite(plastic) and np.isfinite(lstm) else None


def sweep(found: TaskResults) -> list[Needed]:
    """Return what every arm needed for each of LEVELS."""
    rows = []
    for level in LEVELS:
        ours, longest = {}, {}
        for arm in found.kind.arms:  # also those without a run
            runs = found.finished(arm)
            needed = [run.gets_below(found.metric, level) for run in runs]
            ours[arm] = float(np.median([np.inf if value is None else value for value in needed])) if runs else np.inf
            longest[arm] = min((run.episodes for run in runs), default=0)
        paper = {arm: curve.first_below(level) or np.inf for arm, curve in FIGURE_3.items()}
        rows.append(Needed(level, ours, paper, longest))
    return rows
