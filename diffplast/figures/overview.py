"""All tasks in one figure: the first thing to look at."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from diffplast.results import TaskResults

from . import style
from .curves import describe, draw_curves, unseen_mark


def overview(results: dict[str, TaskResults]) -> tuple[Figure, str]:
    """Learning curves of every task side by side, with one legend; and the figure in words."""
    columns = 2
    rows = -(-(len(results) + 1) // columns)
    figure = Figure(figsize=(2 * style.WIDTH, 1.85 * rows + 0.3))
    panels = figure.subplots(rows, columns).flat
    legend: dict[str, Line2D] = {}
    for axes, found in zip(panels, results.values(), strict=False):
        draw_curves(axes, found)
        axes.set_title(f"{found.kind.title}: {found.measure.label}", loc="left")
        for arm in found.arms:
            legend.setdefault(arm, Line2D([], [], label=found.label(arm), **style.arm_style(arm, found.arms)))
    rest = list(panels)
    for axes in rest:
        axes.axis("off")
    keys = [*legend.values(), unseen_mark()]
    if rest:
        rest[0].legend(handles=keys, loc="center", handlelength=3, labelspacing=0.7, fontsize=8)
    else:
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))
    style.title(figure, "Networks with trained plasticity learn what the same networks without it do not", 110)
    return figure, " ".join(describe(found) for found in results.values())
