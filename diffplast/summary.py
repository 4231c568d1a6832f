"""Numbers over seeds: how they are summarised, compared and written in words."""

from dataclasses import dataclass
from math import comb

import numpy as np
from scipy import stats

PERCENT = {"wrong_bits", "accuracy"}
"""Metrics that are shares, written in per cent."""
NBSP = "\N{NO-BREAK SPACE}"


def number(value: float) -> str:
    """Two significant digits, three from 10 on; large numbers whole, with separators."""
    if abs(value) >= 1000 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 9.95 else f"{value:.2g}"


def bare(metric: str, value: float) -> str:
    """A value of a metric without its unit."""
    return number(100 * value if metric in PERCENT else value)


def unit(metric: str) -> str:
    """What follows a value of a metric."""
    return f"{NBSP}%" if metric in PERCENT else ""


def show(metric: str, value: float) -> str:
    """A value of a metric with its unit."""
    return bare(metric, value) + unit(metric)


def seeds(count: int) -> str:
    """The number of seeds in words."""
    return f"{count} seed" + ("" if count == 1 else "s")


def band(values, axis: int | None = None):
    """Median, and the spread about it: the quartiles, or with fewer than three values the smallest and largest."""
    count = np.size(values) if axis is None else np.shape(values)[axis]
    low, high = (25, 75) if count >= 3 else (0, 100)
    return tuple(np.percentile(values, (50, low, high), axis=axis))


def spread(metric: str, values) -> str:
    """Median, spread and number of seeds in words, as `band` counts them."""
    if len(values) == 0:
        return "no finished run"
    middle, low, high = band(values)
    low, high = bare(metric, low), bare(metric, high)
    between = "" if low == high else f"{low}–{high}; "
    return f"{show(metric, middle)} ({between}{seeds(len(values))})"


def interquartile_mean(values, axis: int = -1):
    """Mean of the middle half; with fewer than four values the plain mean."""
    return stats.trim_mean(values, 0.25, axis=axis)


def bootstrap_interval(values) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the interquartile mean over two or more seeds; always the same one."""
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
    return {
        "values": [float(value) for value in values],
        "median": float(middle),
        "quartiles": [float(low), float(high)],
        "interquartile_mean": float(interquartile_mean(values)),
        "interval_95": list(bootstrap_interval(values)) if len(values) > 1 else None,
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
