"""Numbers over seeds: how they are summarised and written in words."""

import numpy as np

PERCENT = {"wrong_bits", "accuracy"}
"""Metrics that are shares, written in per cent."""
NBSP = "\N{NO-BREAK SPACE}"


def number(value: float) -> str:
    """Two significant digits, three from 10 on; large numbers whole, with separators."""
    if abs(value) >= 999.5 or float(value).is_integer():
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
