"""The paper's numbers on binary patterns."""

from diffplast.report.paper import Quoted, curve

LEVEL = Quoted("share of wrong bits at the end", 0.01, "text 4.1")
WITHIN = Quoted("training episodes until then, about", 200, "text 4.1")
RUNS = Quoted("runs", 10, "text 4.1")
LR = Quoted("Adam's rate", 1e-3, "text 4.1")
LENGTH = Quoted("training episodes that are drawn", 2000, "figure 2")
QUOTED = (LEVEL, WITHIN, RUNS, LR, LENGTH)

FIGURE_2 = curve(2, "binary", "plastic")
"""Summed squared error: mean, least and most of 10 runs."""

PROGRAM_SECONDS = {"plastic": 0.30, "plastic_slow": 0.30}
"""Of a training episode of the released program, on two cores."""
