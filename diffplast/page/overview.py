"""The first figure to look at, in the README and on the page."""

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from diffplast.report import findings, statistics, style
from diffplast.report.curves import SINGLE, describe, draw_curves, paper_mark, unseen_mark, usual
from diffplast.report.results import TaskResults

COLUMNS = 2

COMPARED = ("plastic", "homogeneous", "nonplastic")
"""The arms that it shows: further ones, of other settings, are in the tasks' own figures."""


def finding(results: dict[str, TaskResults]) -> str:
    """Say in how many tasks the plastic arm is better than the non-plastic one: by medians, and by a rank-sum test.

    Counted are the tasks whose non-plastic networks were trained at least as long.
    """
    ahead, sure, compared = 0, 0, 0
    for found in results.values():
        values = [found.values(arm) for arm in ("plastic", "nonplastic") if arm in found.arms]
        if len(values) == 2 and all(map(len, values)) and _as_long(found):
            plastic, other = map(np.median, values)
            better = bool(plastic > other if found.measure.higher_is_better else plastic < other)
            ahead += better
            sure += better and statistics.rank_sum(*values, found.measure.higher_is_better).p < statistics.SIGNIFICANT
            compared += 1
    if not compared:
        return "No task has finished runs of both plastic and non-plastic networks, trained as long"
    where = f"{ahead} of {compared} tasks"
    tested = f"in {sure} of them p < {statistics.SIGNIFICANT:g} by a rank-sum test over seeds, not corrected"
    said = "Plastic networks do better than non-plastic ones that were trained at least as long"
    return f"{said}, in {where} (medians on unseen episodes; {tested})"


def _as_long(found: TaskResults) -> bool:
    longest = max(run.episodes for run in found.finished("plastic"))
    return all(run.episodes >= longest for run in found.finished("nonplastic"))


def overview(results: dict[str, TaskResults]) -> tuple[Figure, str]:
    """Draw learning curves side by side, with one legend; returns the figure and its description.

    It has the tasks whose findings say so, or all where none does, and is headed by what all of them show.
    """
    chosen = {name: found for name, found in results.items() if findings.load(name).headline} or results
    rows = -(-len(chosen) // COLUMNS)
    figure = Figure(figsize=(2 * style.WIDTH, 1.85 * rows + 0.5))
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    legend: dict[str, Line2D] = {}
    arms = {name: [arm for arm in COMPARED if arm in found.arms] for name, found in chosen.items()}
    for axes, (name, found) in zip(panels, chosen.items(), strict=False):
        draw_curves(axes, found, replace(usual(found), seeds=False), arms[name])
        axes.set_title(f"{found.kind.title}: {found.measure.label}", loc="left")
        for arm in arms[name]:
            legend.setdefault(arm, Line2D([], [], label=found.label(arm), **style.arm_style(arm, found.arms)))
    keys = [*legend.values()]
    if any(usual(found).paper for found in chosen.values()):
        keys.append(paper_mark("the paper's curve"))
    keys.append(unseen_mark())
    if any(found.curves(arm).shape[1] == 1 for name, found in chosen.items() for arm in arms[name]):
        keys.append(Line2D([], [], color=style.INK, linewidth=SINGLE, label="thin: one run, no median"))
    rest = panels[len(chosen) :]
    for axes in rest:
        axes.axis("off")
    if len(rest):
        rest[0].legend(handles=keys, loc="center", handlelength=3, labelspacing=0.7, fontsize=8)
    else:
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), columnspacing=1.2)
    style.title(figure, finding(results), 110)
    return figure, " ".join(describe(found, arms[name]) for name, found in chosen.items())
