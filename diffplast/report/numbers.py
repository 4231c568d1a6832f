"""Numbers over seeds: how they are summarised and written in words."""

import numpy as np

from diffplast.core.task import Metric

NBSP = "\N{NO-BREAK SPACE}"


def number(value: float) -> str:
    """Write two significant digits, three from 10 on; large numbers whole, with separators."""
    if abs(value) >= 999.5 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 9.95 else f"{value:.2g}"


def setting(value: float) -> str:
    """Write a number of params.yaml to four significant digits, a small one as 3e-5."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return np.format_float_scientific(value, 3, trim="-", exp_digits=1) if 0 < abs(value) < 1e-2 else f"{value:.4g}"


def percent(share: float) -> str:
    """Write a share in per cent; near 100 % to a tenth, where two digits would hide what matters."""
    return f"{_hundredfold(share)}{NBSP}%"


def _hundredfold(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0") if share >= 0.0995 else number(100 * share)


def bare(measure: Metric, value: float) -> str:
    """Write a value of a metric without its unit."""
    return _hundredfold(value) if measure.percent else number(value)


def show(measure: Metric, value: float) -> str:
    """Write a value of a metric with its unit."""
    return percent(value) if measure.percent else number(value)


def p_value(p: float) -> str:
    """Write a p-value to two digits, the very small ones as a bound."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def seeds(count: int) -> str:
    """Write the number of seeds in words."""
    return f"{count} seed" + ("" if count == 1 else "s")


def band(values: np.ndarray, axis: int | None = None) -> tuple:
    """Return the median and the spread about it: the quartiles, or with fewer than three values the range."""
    count = np.size(values) if axis is None else np.shape(values)[axis]
    low, high = (25, 75) if count >= 3 else (0, 100)
    return tuple(np.percentile(values, (50, low, high), axis=axis))


def spread(measure: Metric, values: np.ndarray | list[float]) -> str:
    """Write median, spread and number of seeds in words, as `band` counts them."""
    if len(values) == 0:
        return "no finished run"
    middle, low, high = band(values)
    low, high = bare(measure, low), bare(measure, high)
    between = "" if low == high else f"{low}–{high}; "
    return f"{show(measure, middle)} ({between}{seeds(len(values))})"
