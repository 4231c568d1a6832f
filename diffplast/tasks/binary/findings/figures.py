"""The training loss beside figure 2 of the paper."""

from matplotlib.figure import Figure

from diffplast.report import style
from diffplast.report.curves import Drawing, draw_curves, keys, legend
from diffplast.report.results import TaskResults

from .paper import FIGURE_2

MARKS = (50, 100, 200)
"""Episodes at which both are named, as far as ours go."""


def beside_figure_2(results: TaskResults) -> tuple[Figure, str]:
    """Draw the loss that figure 2 shows, the summed squared error of a pattern, at equal episodes."""
    figure = Figure(figsize=(style.WIDTH, 2.6))
    axes = figure.subplots()
    arms = [arm for arm in ("plastic",) if arm in results.arms]
    drawing = Drawing(
        metric="loss", label="training loss: summed squared error", paper={"plastic": FIGURE_2}, from_zero=False,
    )
    lines = draw_curves(axes, results, drawing, arms)
    axes.set_yscale("log")
    legend(figure, keys(drawing, lines))
    ours = results.curves("plastic", "loss").median(axis=1) if arms else []
    if not len(ours):
        heading = "The training loss: no finished run"
    else:
        parts = [
            f"{ours.asof(episode):.3g} against {FIGURE_2.at(episode):.3g} at {episode:,}"
            for episode in MARKS if ours.index[0] <= episode <= ours.index[-1]
        ]
        heading = f"Training loss against figure 2's: {', '.join(parts) or 'too short to compare'}"
    style.title(figure, heading)
    return figure, f"{heading}. Ours: every seed thin, their median thick; grey: the mean of the paper's 10 runs."
