"""Learning curves of a task on one axis, every seed drawn, the paper's behind ours; and as tables."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, PercentFormatter

from diffplast.report import findings, numbers, style
from diffplast.report.paper import PaperCurve
from diffplast.report.results import TaskResults

GAP = 2.5
"""A paper's band is not drawn where its points are further apart than this many of their usual steps."""
POINTS = 100
"""Points of a curve that is drawn: each the mean of the windows of training between two of them."""

SINGLE = 0.8
"""Width of the line of an arm that has one run, where seeds are not drawn: it is no median."""


@dataclass(frozen=True)
class Drawing:
    """What is drawn of a task's training: a metric, how it is called, and the paper's curve of an arm.

    percent: whether it is a share. from_zero: whether the axis begins at 0. log: a logarithmic axis of episodes.
    unseen: whether held-out episodes are marked. level: a value marked across. seeds: whether every seed is drawn.
    """

    metric: str
    label: str
    paper: dict[str, PaperCurve] = field(default_factory=dict)
    percent: bool = False
    from_zero: bool = True
    log: bool = False
    unseen: bool = False
    level: float | None = None
    seeds: bool = True


def usual(results: TaskResults) -> Drawing:
    """Return how a task's primary metric is drawn."""
    shown, measure = findings.load(results.name), results.measure
    return Drawing(
        metric=results.metric, label=measure.label, paper=shown.curves, percent=measure.percent,
        from_zero=not measure.higher_is_better, log=shown.log_episodes, unseen=True, level=shown.level,
    )


def condensed(curves: pd.DataFrame, log: bool = False) -> pd.DataFrame:
    """Return curves with at most POINTS rows, equally far apart on the axis: means, each at its last episode."""
    if len(curves) <= POINTS:
        return curves
    episodes = curves.index.to_numpy(dtype=float)
    place = np.log(episodes / episodes[0]) / np.log(episodes[-1] / episodes[0]) if log else episodes / episodes[-1]
    groups = curves.groupby(np.maximum(np.ceil((place * POINTS).round(6)), 1))
    return groups.mean().set_axis(pd.Index(groups.apply(lambda rows: rows.index[-1]), name="episode"))


def finding(results: TaskResults) -> str:
    """Say what came out on held-out episodes, in one line: the median of every arm."""
    parts = []
    for arm in results.arms:
        values = results.values(arm)
        label = results.label(arm)
        if len(values):
            parts.append(f"{numbers.show(results.measure, np.median(values))} {label}")
        else:
            parts.append(f"{label} {'failed' if results.failed(arm) else 'not run yet'}")
    text = f"{results.measure.label} on unseen episodes: {', '.join(parts)}" if parts else "no run yet"
    return text[0].upper() + text[1:]


def label(results: TaskResults, arm: str) -> str:
    """Return an arm's label with how many of its runs failed or are missing, if any."""
    failed, missing = len(results.failed(arm)), sum(run.arm == arm for run in results.missing)
    listed = failed + missing + len(results.finished(arm))
    notes = [f"{count}/{listed} {what}" for count, what in ((failed, "failed"), (missing, "not run yet")) if count]
    return results.label(arm) + (f" ({', '.join(notes)})" if notes else "")


def draw_curves(
    axes: Axes, results: TaskResults, drawing: Drawing | None = None, arms: list[str] | None = None
) -> list[Line2D]:
    """Draw the curves of all arms, or of some, and what the paper has behind them; returns the lines for a legend.

    Every seed is a thin line, their median a thick one; a run that broke off ends in a cross. A mark for each run
    beside the curves, a column an arm: its value on held-out episodes. The paper's curves are grey and end where ours
    do.
    """
    drawing = drawing or usual(results)
    arms = results.arms if arms is None else arms
    lines = []
    tables = {arm: condensed(results.curves(arm, drawing.metric), drawing.log) for arm in arms}
    longest = max((table.index.max() for table in tables.values() if len(table)), default=1)
    for column, (arm, table) in enumerate(tables.items()):
        look = style.arm_style(arm, results.arms)
        thin = {"color": look["color"], "linewidth": 0.5, "alpha": 0.5, "zorder": 2}
        for result in results.failed(arm):
            episodes, values = result.series(drawing.metric)
            axes.plot(episodes, values, **thin)
            axes.plot(episodes[-1:], values[-1:], "x", color=look["color"], markersize=5, zorder=4)
        if table.empty:
            lines.append(Line2D([], [], label=label(results, arm), **look))
            continue
        if drawing.seeds and table.shape[1] > 1:
            axes.plot(table.index, table, **thin)
        width = {} if drawing.seeds or table.shape[1] > 1 else {"linewidth": SINGLE}
        lines += axes.plot(table.index, table.median(axis=1), label=label(results, arm), zorder=3, **look, **width)
        if drawing.unseen:
            held_out = results.values(arm)
            end, aside = table.index.max(), 1 + 0.8 * column  # so that no arm hides another
            place = end * 1.12**aside if drawing.log else end + 0.025 * aside * longest
            axes.plot(
                [place] * len(held_out), held_out, "o", color=look["color"], markersize=3, clip_on=False,
                markeredgecolor=style.PAPER, markeredgewidth=0.4, zorder=4,
            )
    for arm in arms:
        if arm in drawing.paper:
            _draw_paper(axes, drawing.paper[arm], style.arm_style(arm, results.arms)["linestyle"], longest, drawing.log)
    anything = any(len(table) for table in tables.values())  # without it there is nothing to take logarithms of
    _dress(axes, replace(drawing, log=drawing.log and anything))
    return lines


def within(curve: PaperCurve, longest: float, log: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a paper's curve up to our longest training, interpolated at its end; maybe none."""
    last = min(longest, curve.episodes[-1])
    kept = (curve.episodes < last) & ((curve.episodes > 0) | (not log))
    if not kept.any():
        return np.empty(0), np.empty(0)
    return np.append(curve.episodes[kept], last), np.append(curve.middle[kept], curve.at(last))


def _draw_paper(axes: Axes, curve: PaperCurve, linestyle, longest: float, log: bool) -> None:
    """Draw a curve of the paper thin and grey, in the line style of the arm that it is compared with."""
    episodes, values = within(curve, longest, log)
    axes.plot(episodes, values, color=style.OTHERS, linewidth=0.9, linestyle=linestyle, zorder=1.5)
    for part in bands(curve, longest):
        shaded = (values[part] for values in (curve.band_episodes, curve.low, curve.high))
        axes.fill_between(*shaded, color=style.OTHERS, alpha=0.15, linewidth=0, zorder=1)


def bands(curve: PaperCurve, longest: float) -> list[slice]:
    """Return the stretches of a paper's band up to our longest training; where it could not be read there is a gap."""
    inside = int((curve.band_episodes <= longest).sum())
    if not inside:
        return []
    steps = np.diff(curve.band_episodes[:inside])
    edges = [0, *(np.flatnonzero(steps > GAP * np.median(steps)) + 1 if len(steps) else ()), inside]
    return [slice(first, last) for first, last in pairwise(edges) if last - first > 1]


def _dress(axes: Axes, drawing: Drawing) -> None:
    axes.set_xlabel("training episodes")
    axes.set_title(drawing.label, loc="left")  # above, since turned by 90° it would not fit
    if drawing.log:
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(FuncFormatter(short_count))
    if drawing.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=f"{numbers.NBSP}%"))
    if drawing.from_zero:
        axes.set_ylim(bottom=0)
    if drawing.level is not None:
        axes.axhline(drawing.level, color=style.FAINT, linewidth=0.8, linestyle=":", zorder=1)
        text = numbers.percent(drawing.level) if drawing.percent else numbers.number(drawing.level)
        axes.annotate(
            text, (1, drawing.level), xycoords=("axes fraction", "data"), xytext=(2, 0),
            textcoords="offset points", va="center", color=style.FAINT, fontsize=6.5,
        )


def unseen_mark() -> Line2D:
    """Return the legend's entry for the marks on unseen episodes."""
    return Line2D([], [], marker="o", color=style.FAINT, linestyle="", markersize=3, label="unseen episodes")


def paper_words(curves: dict[str, PaperCurve]) -> str:
    """Say which figure of the paper is drawn in grey, and what is shaded about it."""
    first = next(iter(curves.values()))
    shaded = f" (shaded: {first.band})" if len(first.band_episodes) else ""
    return first.label.partition(":")[0] + shaded


def paper_mark(figure: str) -> Line2D:
    """Return the legend's entry for the paper's curves."""
    return Line2D([], [], color=style.OTHERS, linewidth=0.9, label=figure)


def keys(drawing: Drawing, lines: list[Line2D]) -> list[Line2D]:
    """Return the entries of a legend."""
    entries = list(lines)
    if drawing.paper:
        entries.append(paper_mark(paper_words(drawing.paper)))
    return [*entries, unseen_mark()] if drawing.unseen else entries


def legend(figure: Figure, entries: list[Line2D]) -> None:
    """Put a legend below a figure."""
    wide = sum(sorted(len(entry.get_label()) for entry in entries)[-3:]) > 42
    figure.legend(
        handles=entries, loc="outside lower center", ncols=2 if wide or len(entries) in (2, 4) else 3, handlelength=2.4,
        columnspacing=1.0, labelspacing=0.3, handletextpad=0.5,
    )


def short_count(value: float, _position=None) -> str:
    """Write an episode count on an axis: 40k, 1.5M."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 10 or (abs(value) >= size and value % (size / 10) == 0):
            return f"{value / size:g}{suffix}"
    return f"{value:,g}"


def describe(results: TaskResults, arms: list[str] | None = None) -> str:
    """Say the curves of all arms, or of some, in words, and what the paper's have at the same episodes."""
    paper = usual(results).paper
    parts = []
    for arm in results.arms if arms is None else arms:
        curves = results.curves(arm)
        if curves.empty:
            parts.append(f"{results.label(arm)}: no finished run")
            continue
        start, end = (np.median(curves.iloc[row]) for row in (0, -1))
        text = (
            f"{results.label(arm)}: from {numbers.show(results.measure, start)} to "
            f"{numbers.show(results.measure, end)} after {curves.index.max():,} training episodes"
        )
        if arm in paper and np.isfinite(theirs := paper[arm].at(curves.index.max())):
            text += f" (the paper's curve there: {numbers.show(results.measure, theirs)})"
        parts.append(f"{text}, {numbers.spread(results.measure, results.values(arm))} on unseen episodes")
    return f"Learning curves, {results.kind.title}: {results.measure.label}. {'; '.join(parts)}."


def learning_curves(results: TaskResults) -> tuple[Figure, str]:
    """Draw the figure that every task has; returns it with its description."""
    figure = Figure(figsize=(style.WIDTH, 2.6))
    lines = draw_curves(figure.subplots(), results)
    legend(figure, keys(usual(results), lines))
    heading = findings.load(results.name).heading or finding
    style.title(figure, heading(results))
    return figure, describe(results)


def points(results: TaskResults) -> dict:
    """Return what the learning curves show as plain numbers for the page, to four significant digits.

    Of every arm: episodes; middle, low and high of the metric there, as `numbers.band`; every seed's curve; unseen:
    its values on unseen episodes; paper: episodes and values of the paper's curve, and its bands, each with episodes,
    low and high; or None.
    """
    drawing = usual(results)
    tables = {arm: condensed(results.curves(arm), drawing.log) for arm in results.arms}
    longest = max((table.index.max() for table in tables.values() if len(table)), default=1)
    arms = []
    for arm, table in tables.items():
        middle, low, high = numbers.band(table.to_numpy(), axis=1) if not table.empty else ((), (), ())
        theirs = None
        if arm in drawing.paper:
            curve = drawing.paper[arm]
            episodes, values = within(curve, longest, drawing.log)
            shaded = [
                {
                    "episodes": curve.band_episodes[part].astype(int).tolist(),
                    "low": _short(curve.low[part]),
                    "high": _short(curve.high[part]),
                }
                for part in bands(curve, longest)
            ]
            if len(values):
                theirs = {"episodes": episodes.astype(int).tolist(), "values": _short(values), "bands": shaded}
        arms.append(
            {
                "color": style.arm_style(arm, results.arms)["color"],
                "dash": style.dashes(arm, results.arms),
                "episodes": table.index.tolist(),
                "middle": _short(middle),
                "low": _short(low),
                "high": _short(high),
                "seeds": [_short(table[seed]) for seed in table] if table.shape[1] > 1 else [],
                "unseen": _short(results.values(arm)),
                "paper": theirs,
            }
        )
    return {"percent": drawing.percent, "from_zero": drawing.from_zero, "level": drawing.level, "arms": arms}


def _short(values) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def table(results: TaskResults) -> pd.DataFrame:
    """Return the median over seeds of the training curves: a column for the episodes, then one for each arm."""
    columns = {}
    for arm in results.arms:
        curves = results.curves(arm)
        columns[arm] = pd.Series(np.median(curves, axis=1) if len(curves) else [], index=curves.index, dtype=float)
    joined = pd.DataFrame(columns).sort_index()
    joined = joined.interpolate(method="index", limit_area="inside")
    return joined.rename_axis("episode").reset_index()
