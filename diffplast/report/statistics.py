"""Numbers over seeds: their interquartile mean with its interval, and how two arms are compared."""

from dataclasses import dataclass
from math import comb

import numpy as np
from scipy import stats

from diffplast.report.numbers import NBSP


def interquartile_mean(values, axis: int = -1):
    """Mean of the middle half; with fewer than four values the plain mean."""
    return stats.trim_mean(values, 0.25, axis=axis)


def bootstrap_interval(values) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of the interquartile mean over seeds; the same values give the same one.

    None below five seeds: of two or three, it would hold the true mean in half to three quarters of cases only.
    """
    if len(values) < 5:
        return None
    result = stats.bootstrap(
        (np.asarray(values),), interquartile_mean, method="percentile", n_resamples=5000,
        rng=np.random.default_rng(0),
    )
    return tuple(float(bound) for bound in result.confidence_interval)


def describe(values) -> dict:
    """Values over seeds with their median, quartiles, interquartile mean and its bootstrap interval."""
    if len(values) == 0:
        return {"values": []}
    low, middle, high = np.percentile(values, (25, 50, 75))
    interval = bootstrap_interval(values)
    return {
        "values": [float(value) for value in values],
        "median": float(middle),
        "quartiles": [float(low), float(high)],
        "interquartile_mean": float(interquartile_mean(values)),
        "interval_95": None if interval is None else list(interval),
    }


@dataclass(frozen=True)
class RankSum:
    """Two-sided exact rank-sum test (Mann–Whitney) of two sets of seeds.

    wins: share of pairs of seeds in which the first set's is the better. smallest: the smallest p that so many
    seeds can give, whatever their values.
    """

    p: float
    wins: float
    smallest: float

    @property
    def can_decide(self) -> bool:
        """Whether there are enough seeds for p < 0.05."""
        return self.smallest < 0.05

    def __str__(self) -> str:
        least = "" if self.can_decide else f" (least possible: {self.smallest:.2g})"
        return f"rank-sum over seeds, p = {self.p:.2g}{least}; better in {100 * self.wins:.0f}{NBSP}% of pairs"


def rank_sum(first, second, higher_is_better: bool) -> RankSum:
    """Compare the seeds of two arms."""
    sign = 1 if higher_is_better else -1
    first, second = sign * np.asarray(first, dtype=float), sign * np.asarray(second, dtype=float)
    result = stats.mannwhitneyu(first, second, alternative="two-sided", method="exact")
    pairs = len(first) * len(second)
    smallest = min(1.0, 2 / comb(len(first) + len(second), len(first)))
    return RankSum(float(result.pvalue), float(result.statistic / pairs), smallest)
