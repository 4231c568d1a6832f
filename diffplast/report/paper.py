"""What the paper says: numbers with where each was found, and the curves of its figures.

The curves are in paper_curves.csv, read off the bitmaps of figures 2, 3, 5 and 6 of arXiv version 1; docs/paper.md says
how exactly. Columns: figure, task, arm, statistic, episode, value.

A source begins with "text" (the text of version 1), "figure" (read off a picture of it), "program" (the programs that
the authors released) or "v3?" (believed of version 3, which could not be had: it decides nothing).
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

SOURCES = ("text", "figure", "program", "v3?")
CURVES = Path(__file__).parent / "paper_curves.csv"


@dataclass(frozen=True)
class Quoted:
    """A number of the paper. what: in words. source: "text 4.1", for example. margin: its ±, where one is given."""

    what: str
    value: float
    source: str
    margin: float | None = None


@dataclass(frozen=True)
class PaperCurve:
    """A curve of the paper: `middle` at `episodes`, and `low` and `high` about it at `band_episodes` (may be empty).

    label: the figure and what is drawn. band: what `low` and `high` are, in words.
    """

    label: str
    band: str
    episodes: np.ndarray
    middle: np.ndarray
    band_episodes: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def at(self, episode: float) -> float:
        """Return the value at an episode, interpolated; nan outside of the curve."""
        return float(np.interp(episode, self.episodes, self.middle, left=np.nan, right=np.nan))

    def between(self, start: float, end: float) -> float:
        """Return the mean from one episode to another, of the curve interpolated."""
        return float(np.mean([self.at(episode) for episode in np.linspace(start, end, 101)]))

    def end(self, share: float = 0.1) -> float:
        """Return the mean over the last `share` of the curve, whose single points are noisy."""
        return float(self.middle[self.episodes >= (1 - share) * self.episodes[-1]].mean())

    def first_below(self, level: float) -> float | None:
        """Return the episode at which the curve crosses `level` for good, interpolated; None where it does not."""
        above = np.flatnonzero(self.middle >= level)
        if not len(above) or above[-1] == len(self.middle) - 1:
            return None if len(above) else float(self.episodes[0])
        last = above[-1]
        span = slice(last, last + 2)
        return float(np.interp(-level, -self.middle[span], self.episodes[span]))


@cache
def _table() -> pd.DataFrame:
    return pd.read_csv(CURVES)


BANDS = {"mean": ("min", "max"), "median": ("lower_quartile", "upper_quartile")}
"""What is drawn about a line of each statistic."""
SHADED = {"mean": "range", "median": "quartiles"}


def curve(figure: int, task: str, arm: str) -> PaperCurve:
    """Return a curve of the paper. Raises KeyError where the figure has none of this arm."""
    rows = _table().query("figure == @figure and task == @task and arm == @arm")
    series = {name: part.set_index("episode")["value"].sort_index() for name, part in rows.groupby("statistic")}
    statistic = next((name for name in ("mean", "median", "single_run") if name in series), None)
    if statistic is None:
        raise KeyError(f"figure {figure} has no curve of {arm} in {task}")
    middle = series[statistic]
    empty = pd.Series(dtype=float)
    low, high = (series.get(name, empty) for name in BANDS.get(statistic, ("", "")))
    both = low.index.intersection(high.index)
    return PaperCurve(
        f"paper, figure {figure}: {statistic.replace('_', ' ')}", SHADED.get(statistic, ""), middle.index.to_numpy(),
        middle.to_numpy(), both.to_numpy(), low.loc[both].to_numpy(), high.loc[both].to_numpy(),
    )
