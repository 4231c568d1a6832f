"""Learning curves of all arms of a task on one axis, and the same as a table for `dvc plots`."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, PercentFormatter

from diffplast.report import numbers, published
from diffplast.report.results import TaskResults

from . import style

LOG_EPISODES = {"binary_small"}
"""Tasks whose arms differ by orders of magnitude in the length of their training."""
LEVELS = {"binary": published.SOLVED_ERROR, "binary_small": published.SOLVED_ERROR}
"""Values of the metric that are marked by a line across: where the paper counts a task as solved."""


def finding(results: TaskResults) -> str:
    """What came out on held-out episodes, in one line: the median of every arm."""
    parts = []
    for arm in results.arms:
        values = results.values(arm)
        label = results.label(arm)
        parts.append(f"{numbers.show(results.metric, np.median(values))} {label}" if len(values) else f"{label} failed")
    text = f"{results.measure.label} on unseen episodes: {', '.join(parts)}"
    return text[0].upper() + text[1:]


def draw_curves(axes: Axes, results: TaskResults) -> list[Line2D]:
    """Draw the curves of all arms with their spread, and a mark for each arm on held-out episodes.

    Returns the lines for a legend. Arms with fewer than three seeds show each seed as a thin line; a
    run that broke off is a thin line that ends in a cross.
    """
    lines = []
    log_episodes = results.name in LOG_EPISODES
    longest = max((results.curves(arm).index.max() for arm in results.arms if results.finished(arm)), default=1)
    for arm in results.arms:
        look = style.arm_style(arm, results.arms)
        failed = len(results.failed(arm))
        label = results.label(arm)
        if failed:
            label += f" ({failed}/{failed + len(results.finished(arm))} failed)"
        for result in results.failed(arm):
            episodes, values = results.curve(result)
            axes.plot(episodes, values, color=look["color"], linewidth=0.7, alpha=0.7, zorder=2)
            axes.plot(episodes[-1:], values[-1:], "x", color=look["color"], markersize=5, zorder=4)
        curves = results.curves(arm)
        if curves.empty:
            lines.append(Line2D([], [], label=label, **look))
            continue
        middle, low, high = numbers.band(curves.to_numpy(), axis=1)
        lines += axes.plot(curves.index, middle, label=label, zorder=3, **look)
        if curves.shape[1] >= 3:
            axes.fill_between(curves.index, low, high, color=look["color"], alpha=0.2, linewidth=0)
        elif curves.shape[1] == 2:
            axes.plot(curves.index, curves, color=look["color"], linewidth=0.5, alpha=0.6, zorder=2)
        held_out = results.values(arm)
        place = curves.index.max() * 1.12 if log_episodes else curves.index.max() + 0.025 * longest
        axes.plot(
            [place] * len(held_out), held_out, "o", color=look["color"], markersize=3.5, clip_on=False,
            markeredgecolor=style.PAPER, markeredgewidth=0.5, zorder=4,
        )
    axes.set_xlabel("training episodes")
    axes.set_title(results.measure.label, loc="left")  # above, since turned by 90° it would not fit
    if log_episodes:
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(FuncFormatter(short_count))
    if results.metric in numbers.PERCENT:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=f"{numbers.NBSP}%"))
    if not results.measure.higher_is_better:
        axes.set_ylim(bottom=0)
    return lines


def unseen_mark() -> Line2D:
    """The legend's entry for the marks on unseen episodes."""
    return Line2D([], [], marker="o", color=style.FAINT, linestyle="", markersize=3.5, label="unseen episodes")


def short_count(value: float, _position=None) -> str:
    """An episode count on an axis: 40k, 1.5M."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 10 or (abs(value) >= size and value % (size / 10) == 0):
            return f"{value / size:g}{suffix}"
    return f"{value:,g}"


def describe(results: TaskResults) -> str:
    """The curves in words."""
    parts = []
    for arm in results.arms:
        curves = results.curves(arm)
        if curves.empty:
            parts.append(f"{results.label(arm)}: no finished run")
            continue
        start, end = (np.median(curves.iloc[row]) for row in (0, -1))
        parts.append(
            f"{results.label(arm)}: from {numbers.show(results.metric, start)} to "
            f"{numbers.show(results.metric, end)} after {curves.index.max():,} training episodes, "
            f"{numbers.spread(results.metric, results.values(arm))} on unseen episodes"
        )
    return f"Learning curves, {results.kind.title}: {results.measure.label}. {'; '.join(parts)}."


def learning_curves(results: TaskResults, heading: str | None = None) -> tuple[Figure, str]:
    """The figure every task has, and its description. heading: instead of the general `finding`."""
    figure = Figure(figsize=(style.WIDTH, 2.6))
    axes = figure.subplots()
    lines = draw_curves(axes, results)
    if (level := LEVELS.get(results.name)) is not None:
        axes.axhline(level, color=style.FAINT, linewidth=0.8, linestyle=":", zorder=1)
        axes.annotate(
            numbers.show(results.metric, level), (1, level), xycoords=("axes fraction", "data"), xytext=(2, 0),
            textcoords="offset points", va="center", color=style.FAINT, fontsize=6.5,
        )
    figure.legend(
        handles=[*lines, unseen_mark()], loc="outside lower center", ncols=2 if len(lines) < 4 else 3, handlelength=2.4,
        columnspacing=1.0, labelspacing=0.3, handletextpad=0.5,
    )
    style.title(figure, heading or finding(results))
    return figure, describe(results)


def points(results: TaskResults) -> dict:
    """What the learning curves show, as plain numbers for the page, to four significant digits.

    Of every arm: episodes; middle, low and high of the metric there, as `numbers.band`; unseen: its values on
    unseen episodes.
    """
    arms = []
    for arm in results.arms:
        curves = results.curves(arm)
        middle, low, high = numbers.band(curves.to_numpy(), axis=1) if not curves.empty else ((), (), ())
        arms.append(
            {
                "color": style.arm_style(arm, results.arms)["color"],
                "dash": style.dashes(arm, results.arms),
                "episodes": curves.index.tolist(),
                "middle": _short(middle),
                "low": _short(low),
                "high": _short(high),
                "unseen": _short(results.values(arm)),
            }
        )
    return {
        "percent": results.metric in numbers.PERCENT,
        "from_zero": not results.measure.higher_is_better,
        "level": LEVELS.get(results.name),
        "arms": arms,
    }


def _short(values) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def table(results: TaskResults) -> pd.DataFrame:
    """Median over seeds of the training curves: a column for the episodes, then one for each arm."""
    columns = {}
    for arm in results.arms:
        curves = results.curves(arm)
        columns[arm] = pd.Series(np.median(curves, axis=1) if len(curves) else [], index=curves.index, dtype=float)
    joined = pd.DataFrame(columns).sort_index()
    joined = joined.interpolate(method="index", limit_area="inside")
    return joined.rename_axis("episode").reset_index()
