"""The training loss beside figure 2 of the paper."""

from matplotlib.figure import Figure

from diffplast.report import style
from diffplast.report.curves import Drawing, draw_curves, keys, legend
from diffplast.report.results import TaskResults

from .paper import FIGURE_2

MARKS = (50, 100, 200)
"""Episodes of which the last that ours reach is named."""


def beside_figure_2(results: TaskResults) -> tuple[Figure, str]:
    """Draw the loss that figure 2 shows, the summed squared error of a pattern, at equal episodes."""
    figure = Figure(figsize=(style.WIDTH, 2.6))
    axes = figure.subplots()
    arms = [arm for arm in ("plastic", "plastic_slow") if arm in results.arms]
    drawing = Drawing(
        metric="loss", label="training loss: summed squared error", paper={"plastic": FIGURE_2}, from_zero=False,
    )
    lines = draw_curves(axes, results, drawing, arms)
    axes.set_yscale("log")
    legend(figure, keys(drawing, lines))
    curves = {arm: results.curves(arm, "loss").median(axis=1) for arm in arms}
    ours = {results.label(arm): curve for arm, curve in curves.items() if len(curve)}
    common = [at for at in MARKS if all(curve.index[0] <= at <= curve.index[-1] for curve in ours.values())]
    if not ours:
        heading = "The training loss: no finished run"
    elif not common:
        heading = "The training loss: too short to compare with figure 2's"
    else:
        at = common[-1]
        parts = [f"{curve.asof(at):.3g} ({label})" for label, curve in ours.items()]
        heading = f"Training loss after {at:,} episodes: {', '.join(parts)}; {FIGURE_2.at(at):.3g} in figure 2"
    style.title(figure, heading)
    return figure, f"{heading}. Ours: every seed thin, their median thick; grey: the mean of the paper's 10 runs."
