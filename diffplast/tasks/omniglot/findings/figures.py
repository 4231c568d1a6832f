"""Our accuracies beside those the paper compares itself with."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from diffplast.report import numbers, published, style
from diffplast.report.results import TaskResults


def beside_published(results: TaskResults) -> tuple[Figure, str]:
    """A dot for each method: ours over seeds, the published ones with their ± where given."""
    data = results.data_label
    rows = []  # name, value, low, high, text, colour
    for arm in results.arms:
        values = results.values(arm)
        colour = style.arm_style(arm, results.arms)["color"]
        if len(values):
            middle, low, high = numbers.band(values)
            text = f"{numbers.show(results.metric, middle)}"
            if len(values) > 1:
                text += f" ({numbers.bare(results.metric, low)}–{numbers.bare(results.metric, high)})"
            label = f"{results.label(arm)}, {numbers.seeds(len(values))}"
            rows.append((label, middle, low, high, text, colour))
        else:
            rows.append((results.label(arm), None, None, None, "no finished run", colour))
    ours = len(rows)
    for name, (value, margin) in published.OMNIGLOT.items():
        text = f"{100 * value:g}" + (f" ± {100 * margin:g}" if margin else "") + numbers.unit(results.metric)
        rows.append((name, value, value - (margin or 0), value + (margin or 0), text, style.INK))

    figure = Figure(figsize=(style.WIDTH, 0.19 * len(rows) + 1.0))
    axes = figure.subplots()
    places = [-index - (0.9 if index >= ours else 0) for index in range(len(rows))]
    chance = 1 / published.OMNIGLOT_WAYS
    axes.axvline(chance, color=style.FAINT, linewidth=0.8, linestyle=":")
    axes.annotate(
        "chance", (chance, places[-1] - 0.45), xytext=(2, 0), textcoords="offset points", color=style.FAINT,
        fontsize=6.5,
    )
    for place, (_, value, low, high, text, colour) in zip(places, rows, strict=True):
        if value is not None:
            axes.plot([low, high], [place, place], color=colour, linewidth=1.2, solid_capstyle="butt")
            axes.plot(value, place, "o" if place > -ours else "D", color=colour, markersize=3.6, clip_on=False)
        # Beside the dot, on the side with more room.
        left = value is not None and value > 0.55
        axes.annotate(
            text, ((low if left else high) if value is not None else chance, place), xytext=(-6 if left else 6, 0),
            textcoords="offset points", ha="right" if left else "left", va="center", fontsize=6.5,
        )
    axes.axhline(-ours + 0.05, color=style.FAINT, linewidth=0.5)
    axes.set_yticks(places, [row[0] for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(0, 1.005)
    axes.set_ylim(places[-1] - 0.6, 0.6)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=f"{numbers.NBSP}%"))
    axes.set_xlabel(f"accuracy, {published.OMNIGLOT_WAYS}-way 1-shot")
    best = "; ".join(f"{name} {text}" for name, *_, text, _ in rows[:ours])
    paper = "; ".join(f"{name} {text}" for name, *_, text, _ in rows[ours:])
    head = results.arms[0]
    values = results.values(head)
    mine = numbers.show(results.metric, np.median(values)) if len(values) else "no result"
    reference = numbers.show(results.metric, published.OMNIGLOT["DP (the paper)"][0])
    heading = f"One-shot accuracy: {mine} {results.label(head)} on {data}; published on Omniglot: {reference}"
    style.title(figure, heading)
    return figure, (
        f"Accuracy on unseen characters, {published.OMNIGLOT_WAYS}-way 1-shot. Ours, on {data}: {best}. "
        f"Published, on Omniglot: {paper}. Chance is {numbers.show(results.metric, chance)}."
    )
