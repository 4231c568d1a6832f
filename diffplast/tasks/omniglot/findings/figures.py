"""Our accuracies, by both evaluations, beside those of table 1."""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from diffplast.report import numbers, style
from diffplast.report.curves import finding
from diffplast.report.paper import Quoted
from diffplast.report.results import TaskResults

from .paper import ACCURACY, LATER, OTHERS, WAYS

EVALUATIONS = {"accuracy_final": "new characters", "accuracy_released": "released evaluation"}
"""Metric -> how it is tested."""
LABEL = 30
"""Letters on a line of a row's label, which leave room for the dots."""


def heading(results: TaskResults) -> str:
    """Say the accuracy on the split that no decision was made by: the median of every arm."""
    if not any(results.finished(arm) for arm in results.arms):
        return finding(results)
    parts = []
    for arm in results.arms:
        values = results.values(arm, "accuracy_final")
        median = numbers.percent(np.median(values)) if len(values) else "no finished run:"
        parts.append(f"{median} {results.label(arm)}")
    return f"Accuracy on new characters, second split: {', '.join(parts)}"


def table_1(results: TaskResults) -> tuple[Figure, str]:
    """Draw a dot for every seed and evaluation of ours, and the published accuracies with their ± where given."""
    chance = 1 / WAYS.value
    rows: list[tuple[str, list[float], float, float, str, str]] = []  # name, dots, low, high, text, colour
    for arm in results.arms:
        colour = style.arm_style(arm, results.arms)["color"]
        for metric, how in EVALUATIONS.items():
            values = results.values(arm, metric)
            if not len(values):
                rows.append((f"{results.label(arm)}, {how}", [], chance, chance, "no finished run", colour))
                continue
            text = numbers.percent(float(np.median(values)))
            if len(values) > 1:
                least, most = (numbers.bare(results.measure, value) for value in (values.min(), values.max()))
                text += f" ({numbers.seeds(len(values)) if least == most else f'{least}–{most}'})"
            name = f"{results.label(arm)}, {how}"
            rows.append((name, list(values), values.min(), values.max(), text, colour))
    ours = len(rows)
    rows += [_published(quoted) for quoted in _sorted()]

    # Ours and the published ones are all near 100 %; what is at chance is named at the edge.
    edge = 0.8 if all(value >= 0.8 or value < 2 * chance for _, dots, *_ in rows for value in dots) else 0.0
    labels = [textwrap.fill(row[0], LABEL) for row in rows]
    lines = [1 + label.count("\n") for label in labels]
    places = [0.0]
    for index in range(1, len(rows)):
        places.append(places[-1] - (lines[index - 1] + lines[index]) / 2 - (0.9 if index == ours else 0))
    figure = Figure(figsize=(style.WIDTH, 0.19 * sum(lines) + 1.0))
    axes = figure.subplots()
    for index, (place, (_, dots, low, high, text, colour)) in enumerate(zip(places, rows, strict=True)):
        if not dots or high < edge:
            axes.annotate(
                f"◂ {text}" if dots else text, (edge, place), xytext=(4, 0), textcoords="offset points", va="center",
                fontsize=6.5,
            )
            continue
        axes.plot([low, high], [place, place], color=colour, linewidth=1.2, solid_capstyle="butt")
        marker = "o" if index < ours else "D"
        axes.plot(dots, [place] * len(dots), marker, color=colour, markersize=3.2, clip_on=False)
        left = low > (1 + edge) / 2  # beside the dots, on the side with more room
        axes.annotate(
            text, (low if left else high, place), xytext=(-6 if left else 6, 0), textcoords="offset points",
            ha="right" if left else "left", va="center", fontsize=6.5,
        )
    axes.axhline((places[ours - 1] + places[ours]) / 2, color=style.FAINT, linewidth=0.5)
    axes.set_yticks(places, labels)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(edge, 1.002)
    axes.set_ylim(places[-1] - 0.6, places[0] + 0.6)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=f"{numbers.NBSP}%"))
    axes.set_xlabel(f"accuracy, {WAYS.value:g}-way 1-shot")
    parts = []
    for metric, how in EVALUATIONS.items():
        values = results.values("homogeneous", metric)
        parts.append(f"{numbers.percent(float(values.mean())) if len(values) else 'no result'} ({how})")
    heading = f"One-shot accuracy on {results.data_label} with a shared{numbers.NBSP}α, mean of seeds:"
    style.title(figure, f"{heading} {', '.join(parts)}; published: {numbers.percent(ACCURACY.value)}")
    said = ["; ".join(f"{name} {text}" for name, *_, text, _ in part) for part in (rows[:ours], rows[ours:])]
    return figure, (
        f"Accuracy, {WAYS.value:g}-way 1-shot. Ours, a dot for each seed, on {results.data_label}: {said[0]}. "
        f"Published, on Omniglot: {said[1]}. Chance is {numbers.percent(chance)}."
    )


def _sorted() -> list[Quoted]:
    named = (
        Quoted("the paper (version 1)", ACCURACY.value, ACCURACY.source, ACCURACY.margin),
        Quoted("the paper (v3?)", LATER.value, LATER.source, LATER.margin),
    )
    return sorted((*OTHERS, *named), key=lambda quoted: quoted.value)


def _published(quoted: Quoted) -> tuple[str, list[float], float, float, str, str]:
    margin = quoted.margin or 0
    text = f"{100 * quoted.value:g}" + (f" ± {100 * margin:.2g}" if margin else "") + f"{numbers.NBSP}%"
    name = quoted.what + (" (v3?)" if quoted.source.startswith("v3?") and "v3?" not in quoted.what else "")
    return name, [quoted.value], quoted.value - margin, quoted.value + margin, text, style.INK
