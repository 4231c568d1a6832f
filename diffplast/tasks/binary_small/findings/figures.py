"""How long each network needs for the small binary task, for a sweep of levels, beside figure 3 of the paper."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from diffplast.report import numbers, style
from diffplast.report.curves import legend, paper_mark, short_count
from diffplast.report.results import TaskResults

from .paper import LEVEL
from .sweep import sweep


def heading(results: TaskResults) -> str:
    """Say how long each arm needed for the paper's level."""
    parts = []
    for arm in results.arms:
        runs = results.finished(arm)
        needed = [run.gets_below(results.metric, LEVEL.value) for run in runs]
        reached = [value for value in needed if value is not None]
        if not runs:
            text = "failed" if results.failed(arm) else "not run yet"
        elif len(reached) == len(needed):
            text = f"{np.median(reached):,.0f}"
        else:
            within = f"within {max(run.episodes for run in runs):,}"
            text = f"{len(reached)} of {numbers.seeds(len(needed))} {within}" if reached else f"not {within}"
        parts.append(f"{text} ({results.label(arm)})")
    return f"Training episodes until {numbers.percent(LEVEL.value)} wrong bits: {', '.join(parts)}"


def levels(results: TaskResults) -> tuple[Figure, str]:
    """Draw the training episodes that each network needs against the level of error, ours and the paper's."""
    rows = sweep(results)
    figure = Figure(figsize=(style.WIDTH, 2.6))
    axes = figure.subplots()
    places = np.arange(len(rows))
    lines, words = [], []
    for arm in results.arms:
        look = style.arm_style(arm, results.arms)
        needed = np.array([row.ours[arm] for row in rows])
        runs = results.finished(arm)
        if (needed < np.inf).any():
            axes.plot(places, np.where(needed < np.inf, needed, np.nan), "o", markersize=4, zorder=3, **look)
            for run in runs:
                each = [run.gets_below(results.metric, row.level) or np.nan for row in rows]
                axes.plot(places, each, ".", color=look["color"], markersize=3, alpha=0.6, zorder=2)
        never = needed == np.inf
        if runs and never.any():  # an arrow where training ended: it takes longer than that
            ended = [rows[0].longest[arm]] * never.sum()
            axes.plot(places[never], ended, "^", color=look["color"], markersize=4, zorder=3)
        lines.append(Line2D([], [], marker="o", markersize=4, label=results.label(arm), **look))
        theirs = np.array([row.paper.get(arm, np.nan) for row in rows])
        if np.isfinite(theirs).any():
            axes.plot(
                places, np.where(np.isfinite(theirs), theirs, np.nan), color=style.OTHERS, linewidth=0.9, marker="s",
                markersize=2.5, linestyle=look["linestyle"], zorder=1.5,
            )
        said = ["longer" if value == np.inf else f"{value:,.0f}" for value in needed] if runs else ["no finished run"]
        words.append(f"{results.label(arm)}: {', '.join(said)}")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(short_count))
    axes.set_xticks(places, [numbers.percent(row.level) for row in rows])
    axes.set_xlabel("share of wrong bits that training gets under")
    axes.set_title("training episodes", loc="left")
    further = Line2D([], [], marker="^", color=style.FAINT, linestyle="", markersize=4, label="more than was trained")
    legend(figure, [*lines, paper_mark("paper, figure 3"), further])
    reached = [row for row in rows if row.ratio is not None]
    if reached:
        row = reached[-1]
        beside = f"{row.paper_ratio:,.0f} in figure 3" if row.paper_ratio else "never in figure 3"
        text = (
            f"At {numbers.percent(row.level)} the LSTM needs {numbers.number(row.ratio)} times the episodes of a "
            f"plastic network that is shown its patterns longer ({beside})"
        )
        if row.same_times is not None:
            text += f", and {numbers.number(row.same_times)} times those of one that is shown them as briefly"
    else:
        text = "No level that both the LSTM and the plastic network of figure 3 have reached"
    style.title(figure, text)
    marks = ", ".join(numbers.percent(row.level) for row in rows)
    return figure, f"{text}. Training episodes until the error gets under {marks}. {'; '.join(words)}."
