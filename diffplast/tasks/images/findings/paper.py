"""The paper's numbers on natural images, and its figure 5."""

from diffplast.report.paper import Quoted, curve

RUNS = Quoted("runs of either network", 10, "figure 5")
LENGTH = Quoted("training episodes that are drawn, about", 40_000, "figure 5")
LR = Quoted("Adam's rate", 1e-4, "program")
QUOTED = (RUNS, LENGTH, LR)

FIGURE_5 = {"plastic": curve(5, "images", "plastic"), "homogeneous": curve(5, "images", "homogeneous")}
"""Summed squared error of an image, median and quartiles of 10 runs: independent coefficients and a shared one."""

DATA = "cifar10"

PROGRAM_SECONDS = {"plastic": 0.65}
"""Of a training episode of the released program, on two cores."""
