"""What the paper says of binary patterns."""

from dataclasses import replace

import numpy as np

from diffplast.report import numbers
from diffplast.report.claims import Claim, Measured, reaching
from diffplast.report.conditions import PLAIN, Conditions
from diffplast.report.results import STAY, TaskResults

from .paper import LEVEL, LR, WITHIN

ABOUT = 1.5
"""The text says "about": we take up to this many times as many episodes."""
BY = int(ABOUT * WITHIN.value)
NEAR_CHANCE = 0.20
"""Share of wrong bits that is near chance, 25 %: half of the bits are given, half of the others are guessed."""
SOLVED = numbers.percent(LEVEL.value)

TEXT = Conditions(
    experiment={"bits": 1000, "times.patterns": 5, "times.rounds": 3, "times.shown": 10, "times.gap": 3}
    | {"times.test": 6, "init": 0.01, "eta": 0.01},  # program
    settings=PLAIN | {"batch": 1, "lr": LR.value},
    program=("times.test", "init", "eta"),
)


def solved(found: TaskResults) -> Measured:
    """In every seed the error gets under 1 % by episode 300."""
    measured = reaching(found, "plastic", LEVEL.value, BY)
    error = numbers.show(found.measure, numbers.band(found.values("plastic"))[0])
    return replace(measured, short=f"< {SOLVED} {measured.short}; {error} at the end")


def chance(found: TaskResults) -> Measured:
    """Every non-plastic seed is near chance, where every plastic one is far from it."""
    plastic, other = found.values("plastic"), found.values("nonplastic")
    ours = f"{found.label('nonplastic')} {numbers.spread(found.measure, other)}"
    short = numbers.show(found.measure, numbers.band(other)[0])
    if plastic.max() >= NEAR_CHANCE / 2:
        return Measured(None, ours, short, "the plastic network has not learned the task either")
    if other.min() <= NEAR_CHANCE:
        return Measured(False, ours, short, "a non-plastic seed is better")
    return Measured(True, ours, short)


def untrained(found: TaskResults) -> Measured:
    """Before any training every network with a shared α restores the patterns."""
    known = [run.record["untrained"][found.metric] for run in found.finished("homogeneous")]
    values = np.array(known)
    ours = f"{numbers.spread(found.measure, values)} before any training"
    agrees = bool((values < LEVEL.value).all())
    each = {f"{found.label('homogeneous')}, untrained": known}
    why = "" if agrees else f"not under {SOLVED} in every seed"
    return Measured(agrees, ours, numbers.show(found.measure, numbers.band(values)[0]), why, each=each)


CLAIMS = (
    Claim(
        name="plastic networks restore patterns",
        text="A plastic network restores 1,000-bit patterns almost perfectly after about 200 training episodes",
        place="section 4.1, figure 2",
        source=LEVEL.source,
        published=f"< {SOLVED}, after about {WITHIN.value:g}",
        test=f"every seed gets under {SOLVED} wrong bits by episode {BY} ({ABOUT:g} times 200), for {STAY} windows in "
        "a row",
        arms=("plastic",),
        judge=solved,
        conditions=TEXT,
    ),
    Claim(
        name="non-plastic networks stay at chance",
        text="A non-plastic network of the same size does not learn the task",
        place="section 4.2",
        source="text 4.2",
        published="no result",
        test=f"every seed above {numbers.percent(NEAR_CHANCE)} wrong bits, every plastic one below "
        f"{numbers.percent(NEAR_CHANCE / 2)}",
        arms=("plastic", "nonplastic"),
        judge=chance,
        conditions=TEXT,
        apart="control: the paper shows no non-plastic result at 1,000 bits",
    ),
    Claim(
        name="shared α, untrained: under 1\u00a0%",
        text="A network with one α for all connections, at its initial value of +0.01, restores the patterns untrained",
        place="initial values",
        source="program",
        published="no result",
        test=f"every seed under {SOLVED} wrong bits before training, on one batch of held-out episodes",
        arms=("homogeneous",),
        judge=untrained,
        conditions=TEXT,
        apart="comparison: the paper has no shared α here",
    ),
)
