"""What the paper says of the maze."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd

from diffplast.report import numbers
from diffplast.report.claims import Claim, Measured, better
from diffplast.report.conditions import PLAIN, Conditions
from diffplast.report.results import TaskResults

from .paper import CROSSING, FIGURE_6, LENGTH, LR, NEURONS, RUNS, SIZE

STRONG = 1.5
"""An improvement is strong where the median reward is at least this many times the other's; in figure 6 it is 2.6."""
BEHIND = 0.5
"""An agent is stuck where, over the last third of training, it earns at most this share of the plastic one's ..."""
SLOW = 1 / 3
"""... and gained at most this share of what the plastic one gained, from the middle of training to its end."""
ABOUT = 1.5
"""Curves cross where the figure's do within this factor."""
BLOCKS = 20
"""Stretches of training over which the median curves are averaged before it is asked where they cross."""
THIRD, CLOSE, MIDDLE = (2 / 3, 1), (0.85, 1), (0.4, 0.55)
"""The last third of training, its end and its middle, as shares of its length."""
END = " vs ".join(numbers.number(curve.end()) for curve in FIGURE_6.values())
BETWEEN = (CROSSING[0].value / ABOUT, CROSSING[1].value * ABOUT)

PAPER = Conditions(
    experiment={"size": int(SIZE.value), "neurons": int(NEURONS.value), "steps": 250}
    | {"goal_reward": 10.0, "bump_reward": -0.1}
    | {"discount": 0.9, "value_weight": 0.03, "concentration_penalty": 0.1, "init": 0.01, "eta": 0.01},
    settings=PLAIN
    | {"batch": 1, "lr": LR.value, "adam_eps": 1e-4}
    | {"inputs": ["view", "reward", "step", "bias"], "layer_inputs": 17},
    episodes=int(LENGTH.value),
    program=(
        "discount", "value_weight", "concentration_penalty", "init", "eta",
        "lr", "adam_eps", "inputs", "layer_inputs",
    ),
)


def compare(first: str, second: str):
    """Return the rule: the seeds of one arm earn more than those of another on unseen episodes, by a rank-sum test."""

    def judge(found: TaskResults) -> Measured:
        return better(found, first, second, ", reward")

    return judge


def _figure_mean(arm: str, part: tuple[float, float]) -> float:
    """Return the mean of figure 6's curve over a part of training."""
    return FIGURE_6[arm].between(*(share * LENGTH.value for share in part))


def improves(found: TaskResults) -> Measured:
    """The plastic seeds earn more than the others on unseen episodes, by a rank-sum test, and much more."""
    measured = better(found, "plastic", "nonplastic", ", reward")
    plastic, other = (float(np.median(found.values(arm))) for arm in ("plastic", "nonplastic"))
    last = " vs ".join(
        numbers.number(
            float(np.median([run.mean_between(found.metric, 0.9 * run.episodes, run.episodes) for run in runs]))
        )
        for runs in map(found.finished, ("plastic", "nonplastic"))
    )
    ours = f"{measured.ours}; over the last tenth of training {last} (figure: {END})"
    if measured.agrees and plastic < STRONG * other:
        return replace(measured, agrees=False, ours=ours, why=f"less than {STRONG:g} times as much")
    return replace(measured, ours=ours)


def stuck(found: TaskResults) -> Measured:
    """The non-plastic agent earns at most half of the plastic one's reward, and hardly gains any more."""
    level, gain, each = {}, {}, {}
    for arm in ("plastic", "nonplastic"):
        runs = found.finished(arm)
        parts = [THIRD, CLOSE, MIDDLE]
        means = [[run.mean_between(found.metric, a * run.episodes, b * run.episodes) for run in runs] for a, b in parts]
        each[f"{found.label(arm)}, last third of training"] = means[0]
        level[arm] = float(np.median(means[0]))
        gain[arm] = float(np.median(means[1]) - np.median(means[2]))
    length = min(run.episodes for arm in level for run in found.finished(arm))
    theirs = [_figure_mean(arm, CLOSE) - _figure_mean(arm, MIDDLE) for arm in ("nonplastic", "plastic")]
    ours = (
        f"over the last third of {length:,} training episodes the non-plastic agent earns "
        f"{numbers.number(level['nonplastic'])}, the plastic one {numbers.number(level['plastic'])} (medians); from "
        f"the middle to the end they gain {numbers.number(gain['nonplastic'])} and {numbers.number(gain['plastic'])} "
        f"(figure: {' and '.join(map(numbers.number, theirs))})"
    )
    short = f"{numbers.number(level['nonplastic'])}, plastic {numbers.number(level['plastic'])}"
    if np.isnan([*level.values(), *gain.values()]).any():
        return Measured(None, f"too few windows in {length:,} training episodes", "–", "too few windows of training")
    if level["plastic"] <= 0 or gain["plastic"] <= 0:
        return Measured(None, ours, short, "the plastic agent does not learn either", each=each)
    if not level["nonplastic"] <= BEHIND * level["plastic"]:
        return Measured(False, ours, short, "it earns more than half of what the plastic agent earns", each=each)
    if not gain["nonplastic"] <= SLOW * gain["plastic"]:
        return Measured(False, ours, short, "it still learns", each=each)
    return Measured(True, ours, short, each=each)


def crossing(curves: dict[str, np.ndarray], episodes: np.ndarray) -> float | None:
    """Return the last episode at which the plastic curve goes above the other, interpolated; None where it does not."""
    ahead = curves["plastic"] - curves["nonplastic"]
    behind = np.flatnonzero(ahead <= 0)
    if not len(behind) or behind[-1] == len(ahead) - 1:
        return None
    span = slice(behind[-1], behind[-1] + 2)
    return float(np.interp(0, ahead[span], episodes[span]))


def in_blocks(curves: dict[str, pd.Series], length: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return curves, episodes to reward, averaged over BLOCKS stretches up to `length`, and the stretches' middles."""
    edges = np.linspace(0, length, BLOCKS + 1)
    means = {
        arm: np.array([curve[(curve.index > a) & (curve.index <= b)].mean() for a, b in pairwise(edges)])
        for arm, curve in curves.items()
    }
    return means, (edges[1:] + edges[:-1]) / 2


def crosses(found: TaskResults) -> Measured:
    """The median curves cross for the last time where those of figure 6 do, within a factor."""
    tables = {arm: found.curves(arm) for arm in ("plastic", "nonplastic")}
    length = int(min(table.index.max() for table in tables.values()))
    curves, middle = in_blocks({arm: table.median(axis=1) for arm, table in tables.items()}, length)
    if any(np.isnan(curve).any() for curve in curves.values()):
        return Measured(None, f"too few windows in {length:,} training episodes", "–", "too few windows of training")
    at = crossing(curves, middle)
    each = {
        "every plastic seed against the non-plastic median": [
            crossing(in_blocks({"plastic": seed, "nonplastic": tables["nonplastic"].median(axis=1)}, length)[0], middle)
            for _, seed in tables["plastic"].items()
        ]
    }
    short_of = f"trained for {length:,} of {BETWEEN[1]:,.0f} episodes" if length < BETWEEN[1] else ""
    if at is None and curves["plastic"][-1] <= curves["nonplastic"][-1]:
        ours = f"at the end of {length:,} training episodes the non-plastic agent is ahead (medians)"
        why = short_of or "the curves have not crossed"
        return Measured(None if short_of else False, ours, f"not by {length:,}", why, each=each)
    at = at or float(middle[0])
    said = f"about {float(f'{at:.2g}'):,.0f}"  # blocks are far apart: no third digit means anything
    ours = f"ahead to the end from {said} episodes on (median curves, averaged over blocks of {length / BLOCKS:,.0f})"
    if short_of:  # they may cross again
        return Measured(None, ours, said, short_of, each=each)
    agrees = BETWEEN[0] <= at <= BETWEEN[1]
    why = "" if agrees else ("sooner than the paper's" if at < BETWEEN[0] else "later than the paper's")
    inside = CROSSING[0].value <= at <= CROSSING[1].value
    about = f" ({BETWEEN[0]:,.0f} to {BETWEEN[1]:,.0f} counts)" if agrees and not inside else ""
    return Measured(agrees, ours, f"{said}{about}", why, each=each)


CLAIMS = (
    Claim(
        name="plastic beats non-plastic",
        text="Plasticity strongly improves the performance of the agent",
        place="section 4.5, figure 6",
        source="text 4.5",
        published=f"{END} in training",
        test=f"rank-sum test over seeds of the reward of unseen episodes, and a median at least {STRONG:g} times the "
        "other's",
        arms=("plastic", "nonplastic"),
        judge=improves,
        conditions=PAPER,
        paper_seeds=int(RUNS.value),
    ),
    Claim(
        name="non-plastic gets stuck",
        text="Agents without plasticity get stuck at a suboptimal strategy",
        place="section 4.5, figure 6",
        source="text 4.5",
        published=", plastic ".join(
            numbers.number(_figure_mean(arm, THIRD)) for arm in ("nonplastic", "plastic")
        ),
        test="over the last third of training at most half of the plastic agent's reward, and from its middle to its "
        "end at most a third of its gain (medians)",
        arms=("plastic", "nonplastic"),
        judge=stuck,
        conditions=PAPER,
    ),
    Claim(
        name="where the two curves cross",
        text="The plastic agent learns more slowly at first, and is ahead from 200,000 to 275,000 episodes on",
        place="figure 6",
        source=CROSSING[0].source,
        published="200,000 to 275,000",
        test=f"median curves, averaged over twentieths of training, cross for good between {BETWEEN[0]:,.0f} and "
        f"{BETWEEN[1]:,.0f} episodes",
        arms=("plastic", "nonplastic"),
        judge=crosses,
        conditions=replace(PAPER, episodes=None),
    ),
    Claim(
        name="own α beat a shared one",
        text="Independent coefficients α earn more than one that all connections share",
        place="figure of version 3",
        source="v3?",
        published="more",
        test="rank-sum test over seeds of the reward of unseen episodes",
        arms=("plastic", "homogeneous"),
        judge=compare("plastic", "homogeneous"),
        conditions=PAPER,
        paper_seeds=int(RUNS.value),
        apart="ours: version 1 has no agent with a shared α",
    ),
    Claim(
        name="a shared α beats none",
        text="A shared coefficient α earns more than no plasticity",
        place="figure of version 3",
        source="v3?",
        published="more",
        test="rank-sum test over seeds of the reward of unseen episodes",
        arms=("homogeneous", "nonplastic"),
        judge=compare("homogeneous", "nonplastic"),
        conditions=PAPER,
        paper_seeds=int(RUNS.value),
        apart="ours: version 1 has no agent with a shared α",
    ),
)
