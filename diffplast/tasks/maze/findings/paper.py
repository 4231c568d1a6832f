"""The paper's numbers on the maze, and its figure 6."""

from diffplast.report.paper import Quoted, curve

RUNS = Quoted("runs of either agent", 15, "text 4.5")
SIZE = Quoted("squares on a side, the walls around counted", 11, "text 4.5 and program")
NEURONS = Quoted("recurrent neurons", 100, "text 4.5")
LENGTH = Quoted("training episodes", 1_000_000, "figure 6")
LR = Quoted("Adam's rate", 1e-4, "program")
CROSSING = (
    Quoted("training episodes before which the plastic agent is behind", 200_000, "figure 6"),
    Quoted("training episodes from which it is ahead", 275_000, "figure 6"),
)
QUOTED = (RUNS, SIZE, NEURONS, LENGTH, LR, *CROSSING)

FIGURE_6 = {"plastic": curve(6, "maze", "plastic"), "nonplastic": curve(6, "maze", "nonplastic")}
"""Reward of an episode, median and quartiles of 15 runs."""

PROGRAM_SECONDS = {"plastic": 0.157, "homogeneous": 0.150, "nonplastic": 0.090}
"""Of a training episode of the released program, on two cores."""
