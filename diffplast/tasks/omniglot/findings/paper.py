"""The paper's numbers on Omniglot: table 1, and what it compares itself with."""

from diffplast.report.paper import Quoted

ACCURACY = Quoted("accuracy, mean of 10 networks; ±: 95 % interval across runs", 0.985, "text 4.4, table 1", 0.0057)
RUNS = Quoted("networks", 10, "text 4.4")
LENGTH = Quoted("training episodes", 1_000_000, "text 4.4")
LR = Quoted("Adam's rate", 3e-4, "text 4.4")
LATER = Quoted("accuracy, ± of 1,000 episodes of all networks together", 0.983, "v3? and program", 0.0080)
LATER_LENGTH = Quoted("training episodes", 5_000_000, "program")
LATER_LR = Quoted("Adam's rate at the start", 3e-5, "program")
WAYS = Quoted("characters of an episode", 5, "text 4.4")

OTHERS = (
    Quoted("Memory Networks", 0.828, "v3?"),
    Quoted("ProtoNets", 0.974, "text table 1"),
    Quoted("Matching Networks", 0.981, "text table 1"),
    Quoted("Memory Module", 0.984, "v3?"),
    Quoted("MAML", 0.987, "text table 1", 0.004),
    Quoted("SNAIL", 0.9907, "text table 1", 0.0016),
)
"""Other methods: 5-way 1-shot accuracy and, where given, its ±."""
QUOTED = (ACCURACY, RUNS, LENGTH, LR, WAYS, LATER, LATER_LENGTH, LATER_LR, *OTHERS)

DATA = "omniglot"

PROGRAM_SECONDS = {"plastic": 0.0055, "homogeneous": 0.0055, "text": 0.0055}
"""Of a training episode of the released program, on two cores."""
