"""Numbers over seeds: their interquartile mean with its interval, and how two arms are compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from scipy import stats

SIGNIFICANT = 0.05
MOST_WAYS = 200_000
"""Ways to deal ranks out to two arms that are gone through one by one."""


def interquartile_mean(values, axis: int = -1):
    """Return the mean of the middle half; with fewer than four values the plain mean."""
    return stats.trim_mean(values, 0.25, axis=axis)


def bootstrap_interval(values) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of the interquartile mean over seeds; deterministic.

    None below five seeds: of two or three, it would hold the true mean in half to three quarters of cases only.
    """
    if len(values) < 5:
        return None
    result = stats.bootstrap(
        (np.asarray(values),), interquartile_mean, method="percentile", n_resamples=5000,
        rng=np.random.default_rng(0),
    )
    return tuple(float(bound) for bound in result.confidence_interval)


def mean_interval(values) -> tuple[float, float, float] | None:
    """Return the mean over seeds with its 95 % interval by Student's t; None below three seeds."""
    if len(values) < 3:
        return None
    mean, error = float(np.mean(values)), float(stats.sem(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return mean, mean - reach, mean + reach


def describe(values) -> dict:
    """Return the values over seeds with their median, quartiles, interquartile mean and its bootstrap interval."""
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
class Comparison:
    """Two-sided exact rank-sum test (Mann–Whitney) of two sets of seeds, and how far they are apart.

    shift, low, high: the Hodges–Lehmann estimate of first minus second, in the metric's own unit, and its 95 %
    interval, which is None where there are too few seeds for one. wins: share of pairs of seeds in which the first
    set's is the better. smallest: the least p that so many seeds can give, whatever their values.
    """

    p: float
    smallest: float
    wins: float
    shift: float
    low: float | None
    high: float | None


def rank_sum(first: Sequence[float], second: Sequence[float], higher_is_better: bool) -> Comparison:
    """Compare the seeds of two arms."""
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    result = stats.mannwhitneyu(first, second, alternative="two-sided", method="exact")
    p = _tied_p(first, second) if len(np.unique([*first, *second])) < len(first) + len(second) else result.pvalue
    pairs = len(first) * len(second)
    share = float(result.statistic / pairs)
    differences = np.sort((first[:, None] - second).ravel())
    # The interval holds the shifts that the test would not reject; that depends on how many differences lie below.
    kept = next((k for k in range(pairs // 2 + 1) if _exact_p(k, len(first), len(second)) > SIGNIFICANT), 0)
    low, high = (float(differences[kept - 1]), float(differences[pairs - kept])) if kept else (None, None)
    return Comparison(
        p=float(p),
        smallest=min(1.0, 2 / comb(len(first) + len(second), len(first))),
        wins=share if higher_is_better else 1 - share,
        shift=float(np.median(differences)),
        low=low,
        high=high,
    )


def _tied_p(first: np.ndarray, second: np.ndarray) -> float:
    """Return the two-sided p where values are equal: over all ways to deal the ranks out, or, where these are too many,
    by the normal approximation.
    """
    if comb(len(first) + len(second), len(first)) > MOST_WAYS:
        return float(stats.mannwhitneyu(first, second, alternative="two-sided", method="asymptotic").pvalue)
    ranks = stats.rankdata([*first, *second])
    sums = np.array([sum(dealt) for dealt in combinations(ranks, len(first))])
    ours = ranks[: len(first)].sum()
    return min(1.0, 2 * min((sums <= ours).mean(), (sums >= ours).mean()))


def _exact_p(below: int, n: int, m: int) -> float:
    """Return the two-sided p of n and m values of which exactly `below` of the n × m pairs have the first larger."""
    whole, rest = divmod(below, m)
    first = np.full(n, -1.0)
    first[:whole] = m
    if rest:
        first[whole] = rest - 0.5
    return float(stats.mannwhitneyu(first, np.arange(m), alternative="two-sided", method="exact").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected by Holm's step-down method, in the order given."""
    order = np.argsort(p_values, kind="stable")
    corrected, largest = np.empty(len(p_values)), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected.tolist()
